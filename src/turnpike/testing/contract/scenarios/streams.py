"""Streamed answers: whole, in time, and exactly one envelope for each, whatever becomes of it."""

from __future__ import annotations

from turnpike.errors import ProviderUnavailableError
from turnpike.testing.contract.bench import ANSWER, PIECES, Bench
from turnpike.testing.contract.expectations import check, equal, one, status
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.service import STREAM_MEDIA_TYPE
from turnpike.testing.fake_provider import FakeAnswer

_EVENTS = (
    b'data: {"delta":"one "}\n\n'
    b'data: {"delta":"two "}\n\n'
    b'data: {"delta":"three "}\n\n'
    b'data: {"delta":"four"}\n\n'
    b'data: {"delta":"","finish_reason":"stop"}\n\n'
)
_FAILURE = (
    b'event: error\ndata: {"type":"urn:turnpike:problem:upstream-unavailable","title":"The model provider failed",'
    b'"category":"transient_error"}\n\n'
)
_BOTH = {name: (name,) for name in ("stream", "stream_late")}


@case(each=_BOTH)
def whole(bench: Bench, name: str) -> None:
    """A stream that is read to its end is one envelope with its tokens, its cost and its finish reason."""
    response = status(bench.send(name), 200)
    equal(response.body, _EVENTS, "body")
    check(response.is_complete, "the response did not come to its proper end")
    check((response.header("Content-Type") or "").startswith(STREAM_MEDIA_TYPE), "the media type is not the handler's")
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.status, envelope.streaming, envelope.finish_reason), ("ok", True, "stop"), "how the envelope ended")
    equal(envelope.tokens_out, len(ANSWER.split()), "output tokens")
    check(envelope.cost_nano_usd, "the envelope has no cost")
    equal(bench.provider.requests[0].ending, "complete", "how the provider's stream ended")


@case(each=_BOTH)
def piece_by_piece(bench: Bench, name: str) -> None:
    """Each piece reaches the client before the next one is made."""
    with bench.provider.hold() as held:
        held.release()
        with bench.stream(name) as streamed:
            received = streamed.read()
            for piece in PIECES[1:]:
                check(received.endswith(b"\n\n"), f"a piece is incomplete: {received!r}")
                check(piece.encode() not in received, "a piece came before it was made")
                held.release()
                received += streamed.read()
            equal(received + streamed.rest(), _EVENTS, "body")


@case()
def never_read(bench: Bench) -> None:
    """A stream that the handler never reads is one envelope without an attempt, and nobody was asked."""
    request_id = status(bench.send("unread"), 200).json()["stream"]
    envelope = one(bench.envelopes(1), "envelopes")
    equal(envelope.request_id, request_id, "the call")
    equal((envelope.finish_reason, envelope.attempts), ("abandoned", ()), "how the envelope ended")
    equal(envelope.cost_nano_usd, 0, "cost")
    equal(len(bench.provider.requests), 0, "requests that reached the provider")


@case(each=_BOTH)
def failing_at_once(bench: Bench, name: str) -> None:
    """A provider that fails before its first piece ends the body with one event that says so."""
    bench.provider.script(ProviderUnavailableError("fake", "secret words"))
    response = status(bench.send(name), 200)
    equal(response.body, _FAILURE, "body")
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.status, len(envelope.attempts)), ("error", 1), "how the envelope ended")


@case(each=_BOTH)
def failing_midway(bench: Bench, name: str) -> None:
    """A provider that fails midway ends the body with one event that says so, and what came before is on the books."""
    error = ProviderUnavailableError("fake", "secret words")
    bench.provider.script(FakeAnswer(chunks=PIECES, error=error, error_after=2))
    response = status(bench.send(name), 200)
    equal(response.body, b"".join(_EVENTS.partition(b'data: {"delta":"three')[:1]) + _FAILURE, "body")
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.status, len(envelope.attempts)), ("error", 1), "how the envelope ended")
