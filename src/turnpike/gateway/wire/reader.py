"""What a wire reader is, and the part of one that no format changes: telling JSON from an event stream.

A reader turns one attempt's raw bytes into a ``WireAnswer``. It is pure: no I/O, no clock, no prices, no telemetry,
and never the SDKs' models. It serves one attempt and is not for use by two threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final, Protocol

from turnpike.gateway.wire.answer import MalformedAnswerError, WireAnswer
from turnpike.gateway.wire.sse import MAX_EVENT_BYTES, Event, SseSplitter

__all__ = ["BodyReader", "WireReader"]

_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
"""Bytes that say nothing about what follows: a byte-order mark and white space."""
_STREAM_STARTS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


class WireReader(Protocol):
    """Reads the bytes of one attempt in one wire format."""

    format: ClassVar[str]
    """The name of the wire format, as in ``WireRequest.format``."""
    answer: WireAnswer
    """What has been read so far; the same object throughout."""

    def read_json(self, body: bytes) -> None:
        """Read a whole body. An event stream is recognised and read as one.

        Raises:
            MalformedAnswerError: the body is not an answer in this format.
        """

    def feed(self, data: bytes) -> list[str]:
        """Read the next bytes of a stream, split anywhere, and return the pieces of text that they complete.

        The pieces returned by ``feed`` and ``finish``, joined, are ``answer.text``. A JSON body is recognised and
        read at ``finish``.

        Raises:
            MalformedAnswerError: the bytes are neither an event stream nor JSON, or one event is above the size limit.
        """

    def finish(self) -> list[str]:
        """Read what the end of the stream completes, decide ``answer.complete`` and return the last pieces of text.

        Calling it again changes nothing.

        Raises:
            MalformedAnswerError: the stream turned out to be one JSON body that is not an answer in this format.
        """


class BodyReader(ABC):
    """The common part of the readers; a format says what its JSON body and its events mean."""

    format: ClassVar[str]

    def __init__(self) -> None:
        self.answer: WireAnswer = WireAnswer()
        self._events = SseSplitter()
        self._is_stream = False
        """Whether the bytes are known to be an event stream; until then they are held below."""
        self._held: list[bytes] = []
        self._held_bytes = 0

    @abstractmethod
    def _read_body(self, body: bytes) -> bool:
        """Read one JSON body into the answer; return whether it is one of this format."""

    @abstractmethod
    def _read_event(self, name: bytes, data: bytes) -> str | None:
        """Read one event into the answer and return its text, if any."""

    def _end_stream(self) -> None:
        """Decide what the end of an event stream means, where a format needs to."""
        return

    def read_json(self, body: bytes) -> None:
        """Read a whole body; see ``WireReader.read_json``."""
        if body.lstrip(_BLANK)[:6].startswith(_STREAM_STARTS):
            self.feed(body)
            self.finish()
        elif not self._read_body(body.removeprefix(b"\xef\xbb\xbf")):
            raise MalformedAnswerError(f"the response body is not an answer in the {self.format} format")

    def feed(self, data: bytes) -> list[str]:
        """Read the next bytes of a stream; see ``WireReader.feed``."""
        if not self._is_stream:
            data = self._hold_unless_stream(data)
        return self._read_events(self._events.feed(data))

    def finish(self) -> list[str]:
        """Read what the end of the stream completes; see ``WireReader.finish``."""
        if self._held:
            return self._finish_json()
        texts = self._read_events(self._events.finish())
        self._end_stream()
        return texts

    def _read_events(self, events: list[Event]) -> list[str]:
        texts = []
        for name, data in events:
            text = self._read_event(name, data)
            if text:
                self.answer.add_text(text)
                texts.append(text)
        return texts

    def _skip_event(self, data: bytes) -> None:
        """Count an event that could not be read; ``[DONE]`` and empty data mean nothing and are not counted."""
        if data.strip() not in (b"", b"[DONE]"):
            self.answer.malformed_events += 1

    def _hold_unless_stream(self, data: bytes) -> bytes:
        """Hold bytes until they prove to be an event stream; then return what was held.

        The first telling byte decides. JSON is held until the end.
        """
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_EVENT_BYTES:
            raise MalformedAnswerError(f"a JSON body in place of a stream is larger than {MAX_EVENT_BYTES} bytes")
        first = self._held[0].lstrip(_BLANK)[:1]
        if not first:
            self._held = [b"".join(self._held)]
            first = self._held[0].lstrip(_BLANK)[:1]
        if first in (b"", b"{", b"["):
            return b""
        if first == b"<":
            raise MalformedAnswerError("the response body is markup, not an event stream")
        self._is_stream = True
        head = b"".join(self._held)
        self._held.clear()
        return head

    def _finish_json(self) -> list[str]:
        body = b"".join(self._held).strip(_BLANK)
        self._held.clear()
        if body:
            self.read_json(body)
        return [self.answer.text] if self.answer.text else []
