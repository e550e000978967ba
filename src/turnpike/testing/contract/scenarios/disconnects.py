"""Clients that leave in mid-answer: exactly one envelope that says so, and the provider's stream is closed."""

from __future__ import annotations

from turnpike.testing.contract.bench import Bench
from turnpike.testing.contract.expectations import SaysNothing, check, equal, one, status, whose
from turnpike.testing.contract.people import BETA, WEB, Person
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.stack import Feature
from turnpike.testing.contract.transports import Streamed
from turnpike.testing.contract.transports.interface import Leaving
from turnpike.testing.fake_provider import FakeAnswer, FakeRequest, Hold

_LONG = FakeAnswer(chunks=tuple(f"piece {number} " for number in range(500)))
_BOTH = ("stream", "stream_late")


def _until_settled(bench: Bench, held: Hold[FakeRequest], who: Person = WEB) -> None:
    """Wait for the envelope, letting the answer go on where only its next piece shows that the client has gone."""
    for _ in range(50):
        try:
            bench.books.wait_for(1, timeout_s=0.1)
        except TimeoutError:
            held.release(of=who.sent)
        else:
            return
    bench.books.wait_for(1)


def _settled(bench: Bench, streamed: Streamed, reasons: tuple[str, ...] = ("client_disconnected",)) -> None:
    check(not streamed.result().is_complete, "the response came to its end though its client had gone")
    bench.provider.wait_idle()
    envelope = one(bench.books.envelopes, "envelopes")
    check(envelope.finish_reason in reasons, f"finish reason: expected {reasons}, found {envelope.finish_reason!r}")
    equal(whose(envelope), WEB.name, "whose the envelope is")
    equal(envelope.streaming, True, "whether the envelope is a stream's")


def _leave_midway(bench: Bench, name: str, leaving: Leaving) -> None:
    bench.provider.script(_LONG)
    with bench.provider.hold() as held:
        held.release()
        with bench.stream(name, leaving=leaving) as streamed:
            check(b"piece 0" in streamed.read(), "the first piece has not come")
            streamed.leave()
            _until_settled(bench, held)
            held.release()
            # A cancelled task is not told why: a stream that dies of it may only know that much.
            _settled(bench, streamed, ("client_disconnected", "cancelled")[: 2 if leaving == "cancelled" else 1])
    [request] = bench.provider.requests
    equal(request.ending, "closed", "how the provider's stream ended")
    check(len(request.steps) < 100, f"{len(request.steps)} pieces were made for a client that had gone")
    [attempt] = bench.books.envelopes[0].attempts
    equal(attempt.number, 1, "attempts")


@case(each={name: (name,) for name in _BOTH})
def midway(bench: Bench, name: str) -> None:
    """A client that leaves in mid-answer ends the stream."""
    _leave_midway(bench, name, "told")


@case(Feature.PUSHED_BODIES, needs_process=True, each={name: (name,) for name in _BOTH})
def midway_where_sending_fails(bench: Bench, name: str) -> None:
    """A client that leaves in mid-answer ends the stream where the server shows it by refusing to send (ASGI 2.4)."""
    _leave_midway(bench, name, "refused")


@case(Feature.PUSHED_BODIES, needs_process=True, each={name: (name,) for name in _BOTH})
def midway_where_the_task_is_cancelled(bench: Bench, name: str) -> None:
    """A client that leaves in mid-answer ends the stream where the server cancels the application's task."""
    _leave_midway(bench, name, "cancelled")


@case(needs_process=True, each={name: (name,) for name in _BOTH})
def before_the_first_piece(bench: Bench, name: str) -> None:
    """A client that leaves before the first piece ends a stream that has been opened, and is no cost if none was sent."""
    bench.provider.script(_LONG)
    with bench.provider.hold() as held, bench.stream(name) as streamed:
        if bench.stack.kind == "asgi":
            held.wait_for(1)
        streamed.leave()
        if name == "stream" or bench.stack.kind == "asgi":
            _until_settled(bench, held)
            held.release()
            _settled(bench, streamed)
        else:
            streamed.result()
            bench.nobody_was_asked()


@case(each={name: (name,) for name in _BOTH})
def after_the_end(bench: Bench, name: str) -> None:
    """A client that leaves after the last piece changes nothing of a complete answer."""
    with bench.stream(name) as streamed:
        streamed.rest()
        streamed.leave()
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.status, envelope.finish_reason), ("ok", "stop"), "how the envelope ended")


@case()
def while_others_go_on(bench: Bench) -> None:
    """A client that leaves ends its own stream and no other."""
    if bench.transport.parallel < 2:
        raise SaysNothing("the server serves one request at a time")
    bench.provider.default(_LONG)
    with bench.provider.hold() as held:
        for who in (WEB, BETA):
            held.release(of=who.sent)
        with bench.stream("stream", WEB) as gone, bench.stream("stream", BETA) as staying:
            gone.read()
            staying.read()
            gone.leave()
            _until_settled(bench, held, WEB)
            held.open()
            staying.rest()
            check(staying.result().is_complete, "the other stream has not come to its end")
    reasons = {whose(envelope): envelope.finish_reason for envelope in bench.envelopes(2)}
    equal(reasons, {WEB.name: "client_disconnected", BETA.name: "stop"}, "how the envelopes ended")


@case()
def and_the_next_request(bench: Bench) -> None:
    """A request after a client has left is served as its sender's."""
    _leave_midway(bench, "stream", "told")
    equal(status(bench.send("call", BETA), 200).json()["text"], BETA.name, "who is bound in the next request")
    equal(status(bench.send("open", None), 200).json()["bound"], "nobody", "who is bound on an open route")
