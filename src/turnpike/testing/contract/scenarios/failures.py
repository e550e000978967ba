"""Handlers and bodies that raise: the framework answers in its own way, and the books are closed all the same."""

from __future__ import annotations

from turnpike.testing.contract.bench import Bench
from turnpike.testing.contract.expectations import check, equal, one, status, whose
from turnpike.testing.contract.people import WEB
from turnpike.testing.contract.registry import case


@case()
def in_the_handler(bench: Bench) -> None:
    """A handler that raises is answered with the framework's own 500, and its open stream is one failed envelope."""
    response = status(bench.send("fails"), 500)
    check("problem+json" not in (response.header("Content-Type") or ""), "a foreign error was made a problem of ours")
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.finish_reason, whose(envelope)), ("request_failed", WEB.name), "how the envelope ended")
    equal((envelope.attempts, len(bench.provider.requests)), ((), 0), "attempts of a stream that was never read")


@case()
def in_the_body(bench: Bench) -> None:
    """A body that raises breaks the response off, and its stream is one failed envelope."""
    response = bench.send("stream_fails")
    # Without a length or chunks, as over HTTP/1.0, nobody can tell a body's end from its breaking off.
    if bench.transport.is_in_process or response.header("Transfer-Encoding") is not None:
        check(not response.is_complete, "the response came to a proper end though its body had failed")
    bench.provider.wait_idle()
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.finish_reason, whose(envelope)), ("request_failed", WEB.name), "how the envelope ended")
    equal(bench.provider.requests[0].ending, "closed", "how the provider's stream ended")


@case()
def in_the_provider(bench: Bench) -> None:
    """An error that Turnpike knows nothing of is the framework's own 500, and one failed envelope."""
    bench.provider.script(ZeroDivisionError("secret words"))
    response = status(bench.send("call"), 500)
    check("problem+json" not in (response.header("Content-Type") or ""), "a foreign error was made a problem of ours")
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.status, len(envelope.attempts)), ("error", 1), "how the envelope ended")
