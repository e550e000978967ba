"""A job outside of any web framework: questions about orders, for which the model asks to have a tool run.

Run it from the repository's root::

    export OPENAI_API_KEY=...
    python examples/tool_calls.py 'Where is order A-1001?'

No request says here who is asking, so the job binds an identity itself. It may write the ledger of a service that runs
beside it; each question is two calls there, the model's request for the tool and its answer.
"""

import json
import sys
from collections.abc import Iterable
from contextlib import closing

from turnpike import Gateway, Settings, bind

ORDERS = {"A-1001": "shipped, arrives on Friday", "A-1002": "waiting for payment"}

ORDER_STATUS = {
    "type": "function",
    "function": {
        "name": "order_status",
        "description": "Look up the status of an order.",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    },
}

SETTINGS = {
    "providers": {"openai": {}},
    "tiers": {"cheap": "gpt-4o-mini"},
    "default_policy": {"max_output_tokens": 200, "retry_attempts": 2},
}


def answer(gateway: Gateway, question: str) -> str:
    """Answer a question about an order."""
    messages: list[dict[str, object]] = [{"role": "user", "content": question}]
    result = gateway.call_sync(messages, tier="cheap", tools=[ORDER_STATUS])
    if result.tool_calls:
        messages.append(result.to_message())
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": order_status(call.arguments)}
            for call in result.tool_calls
        ]
        result = gateway.call_sync(messages, tier="cheap", tools=[ORDER_STATUS], tool_choice="none")
    return result.text


def order_status(arguments: str) -> str:
    """Run the tool. The arguments are the model's own words, so they may be anything."""
    try:
        return ORDERS.get(str(json.loads(arguments)["order_id"]), "unknown order")
    except (ValueError, TypeError, KeyError):
        return "error: order_id is missing"


def main(questions: Iterable[str]) -> None:
    """Answer each question, on the account of the order desk."""
    with closing(Gateway(Settings.from_env(defaults=SETTINGS))) as gateway:
        for question in questions:
            with bind(tenant_id="globex", caller_id="order-desk", route="jobs/order-status"):
                sys.stdout.write(answer(gateway, question) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
