"""What the simulator is told to do with a request: one frozen `Behaviour`, however it was written.

The same fields serve the Python API, the `POST /__script` JSON body and the `/opt/key=value,.../` path prefix.
A behaviour only describes; it never touches a socket, a bill or a request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

POSITIONS = ("before_headers", "after_headers", "mid_stream")
TRUNCATIONS = ("close", "http_end")
ERROR_EVENTS = ("error", "response.failed", "response.incomplete")
CORRUPTIONS = ("invalid_json", "invalid_utf8", "duplicate_event", "crlf", "cr", "no_final_blank_line", "comments")
USAGES = ("normal", "missing", "zero")
MAX_CHUNKS = 100_000
DEFAULT_AFTER_EVENTS = 3


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call the answer must contain: the tool's `name` and its `arguments`, as an object or as raw text."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the provider answers. The default is an ordinary, immediate, successful answer.

    Refusals
        status: 200, or any status from 400 to 599 for a vendor-shaped error.
        error_code: vendor error code in place of the usual one for the status, e.g. `insufficient_quota`.
        error_message: message of a scripted error or error event.
        retry_after: sent verbatim as `Retry-After`, however absurd (`inf`, a date, `-1`).
        headers: extra response headers; a name given here replaces the simulator's own.

    Pace
        delay_ms: wait before the first byte.
        gap_ms: wait between writes; 0 sends everything at once.
        events_per_write: SSE events in one write, when `gap_ms` is above 0.
        bytes_per_write: cut the body, JSON or SSE, into writes of this many bytes (1 with a gap is a dripping server).

    Answer
        text: the text to answer with, in place of the generated one.
        chunks: number of text deltas in a stream, and of words in a generated text.
        tool_calls: tool calls to answer with.
        finish_reason: `stop`, `length`, `tool_calls`, `content_filter` or `refusal`, put in the format's own words; any
            other value is sent verbatim.
        model: model that answers and is billed, in place of the one asked for.

    Usage
        usage: `normal`, `missing` or `zero` on the wire. The bill keeps the true figure.
        input_tokens: uncached input. cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens: cached input.
        output_tokens: all output, reasoning included. reasoning_tokens: the part of it spent on reasoning.
            Each replaces the counted figure, on the wire and on the bill. OpenAI's cache writes are the 5m ones.

    Faults (at most one of hang, reset, truncate and error_event)
        hang: never goes on from `before_headers`, `after_headers` or `mid_stream`, until the client leaves.
        reset: TCP RST at `before_headers`, `after_headers` or `mid_stream`.
        truncate: `close` ends the connection inside the HTTP body; `http_end` ends the HTTP body well but too early.
        error_event: inside an HTTP 200 stream: `error`, or for Responses also `response.failed`, `response.incomplete`.
            What was generated until then is billed. A JSON answer has no events and is not affected.
        after_events: SSE events sent before the fault or the corrupted event (default 3).
        after_bytes: body bytes sent before the fault instead (default for a JSON body: half of it).
        corrupt: any of `invalid_json`, `invalid_utf8`, `duplicate_event` (at `after_events`), `crlf`, `cr`,
            `no_final_blank_line`, `comments`. The first two also apply to a JSON body.

    Transport
        gzip: compress a JSON body when the client accepts gzip. chunked: send a JSON body with chunked encoding.

    Bill
        accepted: whether the provider billed the request. Unset: an error status and a reset before headers are not
            billed, all else is.
        generate_after_disconnect: True bills the whole answer when the client leaves early (the model goes on);
            False bills the output written by the moment the disconnect was noticed.

    Script
        times: how many requests it applies to; None is every request from now on.

    Raises ValueError naming the field, the value and what may stand there.
    """

    status: int = 200
    error_code: str | None = None
    error_message: str | None = None
    retry_after: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    delay_ms: float = 0.0
    gap_ms: float = 0.0
    events_per_write: int = 1
    bytes_per_write: int | None = None
    text: str | None = None
    chunks: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    model: str | None = None
    usage: str = "normal"
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    hang: str | None = None
    reset: str | None = None
    truncate: str | None = None
    error_event: str | None = None
    after_events: int | None = None
    after_bytes: int | None = None
    corrupt: tuple[str, ...] = ()
    gzip: bool = False
    chunked: bool = False
    accepted: bool | None = None
    generate_after_disconnect: bool = True
    times: int | None = 1

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            complaint = check(value)
            if complaint:
                raise ValueError(f"Behaviour.{name} is {value!r}; write {complaint}.")
        faults = [name for name in ("hang", "reset", "truncate", "error_event") if getattr(self, name) is not None]
        if len(faults) > 1:
            raise ValueError(
                f"Behaviour has {' and '.join(faults)}; a request can suffer one of them, script two requests."
            )

    @property
    def events_before_fault(self) -> int:
        """SSE events that go out before the fault."""
        return DEFAULT_AFTER_EVENTS if self.after_events is None else self.after_events

    @property
    def is_billed(self) -> bool:
        """Whether the provider started generating, and so bills."""
        if self.accepted is not None:
            return self.accepted
        return self.status == 200 and self.reset != "before_headers"

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> Behaviour:
        """The behaviour a JSON object describes. Raises ValueError for an unknown or ill-typed field."""
        return cls(**{name: _from_json(name, value) for name, value in fields.items()})

    @classmethod
    def from_options(cls, options: str, base: Behaviour | None = None) -> Behaviour:
        """The behaviour `key=value,key=value` describes, over `base`; several corruptions are joined with `+`.

        Raises ValueError for an unknown or ill-typed field.
        """
        fields: dict[str, Any] = {}
        for pair in filter(None, options.split(",")):
            name, equals, value = pair.partition("=")
            if not equals:
                raise ValueError(f"Behaviour option {pair!r} has no value; write {name}=<value>.")
            fields[name] = _from_text(name, value)
        return dataclasses.replace(base or cls(times=None), **fields)


def _one_of(*allowed: str) -> Callable[[Any], str | None]:
    hint = "one of " + ", ".join(allowed)
    return lambda value: None if value in allowed else hint


def _optional(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    return lambda value: None if value is None else check(value)


def _whole(least: int, most: int | None = None) -> Callable[[Any], str | None]:
    hint = f"a whole number from {least}" + (f" to {most}" if most is not None else " up")

    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return None if good and (most is None or value <= most) else hint

    return check


def _is(kind: type, hint: str) -> Callable[[Any], str | None]:
    return lambda value: None if isinstance(value, kind) else hint


def _milliseconds(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    return None if good else "a number of milliseconds from 0 up"


def _status(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and (value == 200 or 400 <= value <= 599)
    return None if good else "200, or an error status from 400 to 599"


def _headers(value: Any) -> str | None:
    hint = "a mapping of header names to text in one line each"
    if not isinstance(value, Mapping):
        return hint
    texts = [text for item in value.items() for text in item]
    return None if all(isinstance(t, str) and "\r" not in t and "\n" not in t for t in texts) else hint


def _one_line(value: Any) -> str | None:
    return None if isinstance(value, str) and "\r" not in value and "\n" not in value else "text in one line"


def _corruptions(value: Any) -> str | None:
    good = isinstance(value, tuple) and all(item in CORRUPTIONS for item in value)
    return None if good else "a tuple of " + ", ".join(CORRUPTIONS)


def _calls(value: Any) -> str | None:
    good = isinstance(value, tuple) and all(isinstance(item, ToolCall) for item in value)
    return None if good else "a tuple of ToolCall(name, arguments)"


_COUNT = _optional(_whole(0))
_TEXT = _optional(_is(str, "text"))
_FLAG = _is(bool, "true or false")
_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "status": _status,
    "error_code": _TEXT,
    "error_message": _TEXT,
    "retry_after": _optional(_one_line),
    "headers": _headers,
    "delay_ms": _milliseconds,
    "gap_ms": _milliseconds,
    "events_per_write": _whole(1),
    "bytes_per_write": _optional(_whole(1)),
    "text": _TEXT,
    "chunks": _optional(_whole(1, MAX_CHUNKS)),
    "tool_calls": _calls,
    "finish_reason": _TEXT,
    "model": _TEXT,
    "usage": _one_of(*USAGES),
    "input_tokens": _COUNT,
    "cache_read_tokens": _COUNT,
    "cache_write_5m_tokens": _COUNT,
    "cache_write_1h_tokens": _COUNT,
    "output_tokens": _COUNT,
    "reasoning_tokens": _COUNT,
    "hang": _optional(_one_of(*POSITIONS)),
    "reset": _optional(_one_of(*POSITIONS)),
    "truncate": _optional(_one_of(*TRUNCATIONS)),
    "error_event": _optional(_one_of(*ERROR_EVENTS)),
    "after_events": _COUNT,
    "after_bytes": _COUNT,
    "corrupt": _corruptions,
    "gzip": _FLAG,
    "chunked": _FLAG,
    "accepted": _optional(_FLAG),
    "generate_after_disconnect": _FLAG,
    "times": _optional(_whole(1)),
}
_FLAGS = frozenset({"gzip", "chunked", "accepted", "generate_after_disconnect"})
_TEXTS = frozenset(
    {"error_code", "error_message", "retry_after", "text", "finish_reason", "model", "usage"}
    | {"hang", "reset", "truncate", "error_event"}
)
_FLOATS = frozenset({"delay_ms", "gap_ms"})
_ONLY_JSON = frozenset({"headers", "tool_calls"})


def _known(name: str) -> None:
    if name not in _CHECKS:
        raise ValueError(f"Behaviour has no field {name!r}; the fields are {', '.join(_CHECKS)}.")


def _from_json(name: str, value: Any) -> Any:
    _known(name)
    if name == "corrupt":
        return (value,) if isinstance(value, str) else tuple(value)
    if name == "tool_calls":
        return tuple(call if isinstance(call, ToolCall) else _tool_call(call) for call in value)
    return value


def _tool_call(value: Any) -> ToolCall:
    name = value.get("name") if isinstance(value, Mapping) else None
    if not name:
        raise ValueError(f'Behaviour.tool_calls has {value!r}; write {{"name": ..., "arguments": {{...}}}}.')
    return ToolCall(str(name), value.get("arguments", {}))


def _from_text(name: str, value: str) -> Any:
    _known(name)
    if name in _ONLY_JSON:
        raise ValueError(f"Behaviour.{name} cannot be written in a path; use POST /__script.")
    if name in _TEXTS:
        return value
    if name == "corrupt":
        return tuple(value.split("+"))
    if name in _FLAGS:
        if value.lower() not in {"0", "1", "true", "false"}:
            raise ValueError(f"Behaviour.{name} is {value!r}; write 0 or 1.")
        return value.lower() in {"1", "true"}
    try:
        return float(value) if name in _FLOATS else int(value)
    except ValueError:
        raise ValueError(f"Behaviour.{name} is {value!r}; write a number.") from None
