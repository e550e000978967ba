"""Turns an answer's bytes and a behaviour into what goes over the socket: timed writes and the way it ends.

Nothing here writes anything. Faults are made by leaving bytes out and choosing the ending, never by racing the client.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from turnpike.testing.simulator.behaviour import Behaviour
from turnpike.testing.simulator.events import Event

DONE, CLOSE, RESET, HANG = "done", "close", "reset", "hang"
COALESCED_BYTES = 65_536
_COMMENT = b": keep-alive\n\n"


class Write(NamedTuple):
    """One write: how long to wait before it, its bytes, and how far generation has come once they are out."""

    wait_s: float
    data: bytes
    output_tokens: int = 0
    carries_usage: bool = False


@dataclass(slots=True)
class Performance:
    """The writes of one response and its ending: `done` (the connection lives on), `close`, `reset` or `hang`.

    `finish(output_tokens_sent, usage_sent, aborted)` is called once, before the last bytes can have been read.
    """

    writes: list[Write]
    ending: str = DONE
    finish: Callable[[int, bool, bool], None] | None = None


def plan_json(
    head: Callable[[int | None], bytes], body: bytes, behaviour: Behaviour, output_tokens: int
) -> Performance:
    """The performance of a JSON body; `head` gives the header bytes for a content length, or for chunked encoding."""
    if "invalid_json" in behaviour.corrupt:
        body = body[:-1]
    if "invalid_utf8" in behaviour.corrupt:
        body = _broken_utf8(body)
    chunked, length = behaviour.chunked, len(body)
    blocks = [Event(body, output_tokens, carries_usage=True)]
    cut_at, ending = _fault(behaviour, events=False)
    if cut_at == "body":
        blocks = _cut_bytes(blocks, length // 2 if behaviour.after_bytes is None else behaviour.after_bytes)
        if behaviour.truncate == "http_end":
            length = sum(len(block.data) for block in blocks)
    return _performance(head(None if chunked else length), blocks, behaviour, (cut_at, ending), chunked=chunked)


def plan_stream(
    head: Callable[[int | None], bytes], blocks: list[Event], behaviour: Behaviour, failure: Event | None
) -> Performance:
    """The performance of an SSE stream; `failure` is the event that ends it early."""
    if behaviour.corrupt:
        blocks = _corrupted(blocks, behaviour)
    cut_at, ending = _fault(behaviour, events=True)
    if failure is not None:
        blocks = blocks[: behaviour.events_before_fault]
        blocks.append(failure._replace(output_tokens=blocks[-1].output_tokens if blocks else 0))
    elif cut_at == "body":
        blocks = (
            blocks[: behaviour.events_before_fault]
            if behaviour.after_bytes is None
            else _cut_bytes(blocks, behaviour.after_bytes)
        )
    return _performance(head(None), blocks, behaviour, (cut_at, ending), chunked=True)


def _fault(behaviour: Behaviour, *, events: bool) -> tuple[str, str]:
    """Where the response is cut (`nowhere`, `start`, `head` or `body`) and how it ends."""
    position = behaviour.hang or behaviour.reset
    if position:
        places = {"before_headers": "start", "after_headers": "head", "mid_stream": "body"}
        return places[position], HANG if behaviour.hang else RESET
    if behaviour.truncate:
        return "body", CLOSE if behaviour.truncate == "close" else DONE
    return "nowhere", DONE


def _performance(
    head: bytes, blocks: list[Event], behaviour: Behaviour, fault: tuple[str, str], *, chunked: bool
) -> Performance:
    cut_at, ending = fault
    wait_s = behaviour.delay_ms / 1000
    if cut_at == "start":
        return Performance([Write(wait_s, b"")], ending)
    if cut_at == "head":
        return Performance([Write(wait_s, head)], ending)
    gap_s = behaviour.gap_ms / 1000
    writes = [
        Write(gap_s, b"%x\r\n%s\r\n" % (len(block.data), block.data) if chunked else block.data, *block[1:])
        for block in _grouped(blocks, behaviour)
        if block.data
    ]
    first = writes[0] if writes else Write(0.0, b"")
    writes[:1] = [first._replace(wait_s=wait_s, data=head + first.data)]
    if chunked and ending == DONE:
        writes[-1] = writes[-1]._replace(data=writes[-1].data + b"0\r\n\r\n")
    return Performance(writes, ending)


def _cut_bytes(blocks: list[Event], size: int) -> list[Event]:
    kept: list[Event] = []
    for block in blocks:
        if len(block.data) > size:
            done = kept[-1].output_tokens if kept else 0
            return [*kept, Event(block.data[:size], done)] if size else kept
        kept.append(block)
        size -= len(block.data)
    return kept


def _grouped(blocks: list[Event], behaviour: Behaviour) -> list[Event]:
    if behaviour.bytes_per_write:
        return _sliced(blocks, behaviour.bytes_per_write)
    if behaviour.gap_ms > 0:
        size = behaviour.events_per_write
        return [_joined(blocks[i : i + size]) for i in range(0, len(blocks), size)]
    groups: list[Event] = []
    start = length = 0
    for index, block in enumerate(blocks):
        length += len(block.data)
        if length >= COALESCED_BYTES:
            groups.append(_joined(blocks[start : index + 1]))
            start, length = index + 1, 0
    return [*groups, _joined(blocks[start:])] if start < len(blocks) else groups


def _joined(blocks: list[Event]) -> Event:
    if len(blocks) == 1:
        return blocks[0]
    data = b"".join([block.data for block in blocks])
    return Event(data, blocks[-1].output_tokens, any(block.carries_usage for block in blocks))


def _sliced(blocks: list[Event], size: int) -> list[Event]:
    """Slices of `size` bytes over the whole body; a block counts once its last byte is in."""
    slices: list[Event] = []
    buffer, tokens, usage = b"", 0, False
    for block in blocks:
        buffer += block.data
        while len(buffer) > size:
            slices.append(Event(buffer[:size], tokens, usage))
            buffer, usage = buffer[size:], False
        tokens, usage = block.output_tokens, usage or block.carries_usage
    return [*slices, Event(buffer, tokens, usage)] if buffer else slices


def _broken_utf8(data: bytes) -> bytes:
    """`data` with bytes that no UTF-8 text has at the start of its first JSON string value."""
    return data.replace(b'":"', b'":"\xff\xfe', 1)


def _corrupted(blocks: list[Event], behaviour: Behaviour) -> list[Event]:
    at = min(behaviour.events_before_fault, len(blocks) - 1)
    chosen = blocks[at]
    wanted = behaviour.corrupt
    if "invalid_json" in wanted:
        field, _, _ = chosen.data.partition(b"data: ")
        blocks[at] = Event(field + b'data: {"broken": \n\n', chosen.output_tokens)
    if "invalid_utf8" in wanted:
        blocks[at] = chosen._replace(data=_broken_utf8(chosen.data))
    if "duplicate_event" in wanted:
        blocks.insert(at, blocks[at])
    if "no_final_blank_line" in wanted:
        blocks[-1] = blocks[-1]._replace(data=blocks[-1].data.removesuffix(b"\n"))
    if "comments" in wanted:
        blocks = [block._replace(data=_COMMENT + block.data) for block in blocks]
    for name, ending in (("crlf", b"\r\n"), ("cr", b"\r")):
        if name in wanted:
            blocks = [block._replace(data=block.data.replace(b"\n", ending)) for block in blocks]
    return blocks
