"""What one request binds, no other finds: not on the same connection, not at the same time, not after a failure."""

from __future__ import annotations

from contextlib import ExitStack

from turnpike.testing.contract.bench import PIECES, Bench
from turnpike.testing.contract.expectations import check, equal, status, whose
from turnpike.testing.contract.people import BETA, CROWD, WEB
from turnpike.testing.contract.registry import case

_LEAVING_SOMETHING = (
    "call",
    "own_response",
    "nested",
    "stream",
    "stream_late",
    "stream_fails",
    "unread",
    "fails",
    "tight",
)


@case(needs_process=True, each={name: (name,) for name in _LEAVING_SOMETHING})
def after_a_request(bench: Bench, name: str) -> None:
    """When a request is over, nobody is bound any more where the server goes on."""
    with bench.connection() as connection:
        for _ in range(2):
            connection.send(name)
            equal(connection.whoever(), "nobody", f"who is bound after a request to {name}")


@case(each={name: (name,) for name in _LEAVING_SOMETHING})
def on_a_connection_kept_alive(bench: Bench, name: str) -> None:
    """The next requests on the same connection are their own senders', whatever the first one did."""
    with bench.connection() as connection:
        if name not in ("stream_fails", "fails") or bench.transport.is_in_process:
            connection.send(name, WEB)
        for _ in range(2):
            equal(status(connection.send("open", None), 200).json()["bound"], "nobody", "who is bound on an open route")
            equal(status(connection.send("call", BETA), 200).json()["text"], BETA.name, "who is bound for the next key")
            status(connection.send("call", None), 401)
            equal(status(connection.send("call", WEB), 200).json()["text"], WEB.name, "who is bound for the first key")


@case()
def of_a_crowd(bench: Bench) -> None:
    """Forty requests of eight tenants, all at the provider at once, are each answered and recorded as their sender's."""
    senders = (CROWD * 5)[: bench.transport.parallel]
    with bench.provider.hold() as held:
        sent = [bench.start("call", who) for who in senders]
        held.wait_for(len(senders))
        held.open()
        answers = [future.result(10) for future in sent]
    for who, answer in zip(senders, answers, strict=True):
        shown = status(answer, 200).json()
        equal((shown["text"], shown["bound"], shown["tenant"]), (who.name, who.name, who.tenant), "who was bound")
    recorded = [whose(envelope) for envelope in bench.envelopes(len(senders))]
    equal(sorted(recorded), sorted(who.name for who in senders), "who the envelopes name")


@case()
def of_a_crowd_of_streams(bench: Bench) -> None:
    """Streams of eight tenants, open at once and read in turns, are each recorded as their sender's, step by step."""
    senders = CROWD[: bench.transport.parallel]
    with bench.provider.hold() as held, ExitStack() as opened:
        for who in senders:
            held.release(of=who.sent)
        streams = [opened.enter_context(bench.stream("stream_late", who)) for who in senders]
        for stream in streams:
            check(PIECES[0].encode() in stream.read(), "a stream has not begun with its first piece")
        held.open()
        for _ in range(len(PIECES) - 1):
            for stream in streams:
                stream.read()
        for stream in streams:
            stream.rest()
            check(stream.result().is_complete, "a stream is not complete")
        recorded = [whose(envelope) for envelope in bench.envelopes(len(senders))]
    equal(sorted(recorded), sorted(who.name for who in senders), "who the envelopes name")
    for request in bench.provider.requests:
        tenants = {binding.context.tenant_id if binding is not None else None for binding in request.steps}
        equal(tenants, {request.context.tenant_id}, "tenants bound at the steps of one stream")


@case()
def of_mixed_traffic(bench: Bench) -> None:
    """Plain, streamed, failing and refused requests in between leave every envelope with its sender."""
    plan = [
        (name, who)
        for number, who in enumerate(CROWD)
        for name in ("call", "stream", "fails", "unread", "nested")[number % 2 :]
    ]
    sent = [bench.start(name, who) for name, who in plan]
    refused = [bench.start("call", None) for _ in CROWD]
    for future in sent:
        future.result(10)
    for future in refused:
        status(future.result(10), 401)
    expected = [who.name for name, who in plan for _ in range(2 if name == "nested" else 1)]
    recorded = [whose(envelope) for envelope in bench.envelopes(len(expected))]
    equal(sorted(recorded), sorted(expected), "who the envelopes name")
