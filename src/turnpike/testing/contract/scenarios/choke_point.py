"""One door: every request that reaches the provider is one attempt, in the one envelope of its call.

Each case of the contract is reconciled like this at its end; here that is the point.
"""

from __future__ import annotations

from turnpike.errors import ProviderRateLimitError
from turnpike.testing.contract.bench import Bench
from turnpike.testing.contract.expectations import equal, one, status, whose
from turnpike.testing.contract.people import AUDITOR, WEB
from turnpike.testing.contract.registry import case

_RETRIES = {"default_policy": {"provider": "fake", "retry_attempts": 2}}

_CALLS = {
    "call": (1, 1),
    "own_response": (1, 1),
    "nested": (2, 2),
    "threads": (4, 4),
    "thread_outlives": (1, 1),
    "stream": (1, 1),
    "stream_late": (1, 1),
    "stream_steps": (3, 3),
    "stream_fails": (1, 1),
    "unread": (1, 0),
    "fails": (1, 0),
    "tight": (1, 1),
    "scoped": (1, 1),
}
"""How many calls a request to each route makes, and how many requests reach the provider."""


@case()
def of_every_route(bench: Bench) -> None:
    """Whatever a handler does with the gateway, provider requests and attempts in envelopes are the same number."""
    calls = requests = 0
    for name, (opened, sent) in _CALLS.items():
        bench.send(name, AUDITOR)
        calls, requests = calls + opened, requests + sent
        envelopes = bench.envelopes(calls)
        equal(len(envelopes), calls, f"envelopes after a request to {name}")
        equal(len(bench.provider.requests), requests, f"requests that reached the provider after one to {name}")
    equal(sum(len(envelope.attempts) for envelope in envelopes), requests, "attempts in envelopes")
    equal(len({envelope.request_id for envelope in envelopes}), calls, "different calls among the envelopes")
    equal({whose(envelope) for envelope in envelopes}, {AUDITOR.name}, "who the envelopes name")


@case(settings=_RETRIES, each={"plain": ("call",), "streamed": ("stream",)})
def of_retries(bench: Bench, name: str) -> None:
    """Each request that reached the provider is an attempt of the one envelope, retries too, and attributed."""
    busy = ProviderRateLimitError("fake", "busy", retry_after_s=0.0)
    bench.provider.script(busy, busy)
    status(bench.send(name), 200)
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.status, len(envelope.attempts), envelope.retry_count), ("ok", 3, 2), "status, attempts and retries")
    equal(len(bench.provider.requests), 3, "requests that reached the provider")
    bound = {request.context.tenant_id for request in bench.provider.requests}
    equal(bound, {WEB.tenant}, "tenants bound at the attempts")
