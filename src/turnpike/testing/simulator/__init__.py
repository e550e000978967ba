"""A provider simulator: a real HTTP/1.1 server that the official SDKs reach through their ordinary `base_url`.

It speaks OpenAI Chat Completions, OpenAI Responses and Anthropic Messages, as JSON and as server-sent events.

It answers deterministically, fails on demand and keeps a bill book of its own to reconcile against. It listens on the
loopback unless told otherwise, needs no network and never calls a real provider. Install it with
`pip install 'turnpike[testing]'`.

    from turnpike.testing.simulator import Behaviour, Simulator

    with Simulator() as simulator:
        client = openai.OpenAI(base_url=simulator.openai_base_url, api_key="test")
        simulator.script(Behaviour(status=429, retry_after="2"), Behaviour(text="Hello"))
        ...
        assert [bill.accepted for bill in simulator.bills()] == [False, True]
"""

from turnpike.testing.simulator.behaviour import Behaviour, ToolCall
from turnpike.testing.simulator.bill_book import Bill, Usage, cost_nano_usd, fingerprint
from turnpike.testing.simulator.simulator import Simulator, serve

__all__ = ["Behaviour", "Bill", "Simulator", "ToolCall", "Usage", "cost_nano_usd", "fingerprint", "serve"]
