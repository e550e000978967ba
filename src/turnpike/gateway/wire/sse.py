"""An incremental splitter of server-sent events.

It follows the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream".

It takes bytes split anywhere and gives back whole events as raw bytes. It never decodes text (UTF-8 keeps the ASCII
bytes that matter here unambiguous) and never holds more than one unfinished event, of a bounded size.
"""

from __future__ import annotations

from typing import Final

from turnpike.gateway.wire.answer import MalformedAnswerError

__all__ = ["MAX_EVENT_BYTES", "Event", "SseSplitter"]

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Far above any text event; room for an image in base64."""

Event = tuple[bytes, bytes]
"""The event's name (empty unless the stream gives one) and its data; several data lines are joined by a line feed."""

_BOM: Final = b"\xef\xbb\xbf"


class SseSplitter:
    """Splits one event stream. ``id`` and ``retry`` fields and comments are skipped.

    Args:
        max_event_bytes: an event larger than this raises ``MalformedAnswerError``.
    """

    __slots__ = ("_after_cr", "_at_start", "_held", "_held_bytes", "_is_idle", "_max_event_bytes")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._at_start = True
        self._after_cr = False
        self._is_idle = False
        """Whether the last event ended exactly where the bytes so far end: the ordinary case, which needs no state."""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that ``data`` completes.

        Raises:
            MalformedAnswerError: an event is larger than ``max_event_bytes``.
        """
        if self._is_idle and data[-2:] == b"\n\n" and len(data) <= self._max_event_bytes and b"\r" not in data:
            end = data.find(b"\n")
            if data[:6] == b"data: " and end == len(data) - 2:
                return [(b"", data[6:-2])]
            if (
                data[:7] == b"event: "
                and data[end : end + 7] == b"\ndata: "
                and data.find(b"\n", end + 7) == len(data) - 2
            ):
                return [(data[7:end], data[end + 7 : -2])]
            return _read_blocks(data[:-2].split(b"\n\n"))
        self._is_idle = False
        if self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        if not data:
            return []
        if self._held:
            if b"\n\n" not in data and not (data[:1] == b"\n" and self._held[-1][-1:] == b"\n"):
                self._hold(data)
                return []
            data = b"".join(self._held) + data
            self._held.clear()
            self._held_bytes = 0
        return self._split(data)

    def finish(self) -> list[Event]:
        """Return a last event that the stream's end completes instead of a blank line.

        The standard discards it; here it may carry the paid usage.
        """
        rest = b"".join(self._held).removesuffix(b"\n")
        self._held.clear()
        self._held_bytes = 0
        return self._split(rest + b"\n\n") if rest else []

    def _split(self, data: bytes) -> list[Event]:
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        if rest:
            self._hold(rest)
        self._is_idle = not rest and not self._after_cr
        if not blocks:
            return []
        if self._at_start:
            self._at_start = False
            blocks[0] = blocks[0].removeprefix(_BOM)
        if len(data) > self._max_event_bytes:
            self._refuse_above_limit(max(map(len, blocks)))
        return _read_blocks(blocks)

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        # One line feed may turn out to be half of the blank line that ends the event.
        self._refuse_above_limit(self._held_bytes - (data[-1:] == b"\n"))

    def _refuse_above_limit(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise MalformedAnswerError(f"one event of the stream is larger than {self._max_event_bytes} bytes")

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Turn CRLF and CR into LF; a CRLF may be split between two calls."""
        if not data:
            return data
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _read_blocks(blocks: list[bytes]) -> list[Event]:
    events = []
    for block in blocks:
        if block[:6] == b"data: " and b"\n" not in block:
            events.append((b"", block[6:]))
        else:
            event = _read_block(block)
            if event is not None:
                events.append(event)
    return events


def _read_block(block: bytes) -> Event | None:
    """Return the event in the lines of one block, or ``None`` if it has no data."""
    if block[:7] == b"event: ":
        first, _, rest = block.partition(b"\n")
        if rest[:6] == b"data: " and b"\n" not in rest:
            return first[7:], rest[6:]
    name = b""
    data = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return (name, b"\n".join(data)) if data else None
