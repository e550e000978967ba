"""What one attempt brought back, whatever the wire format: the plain record that every wire reader fills.

It holds what the provider said, in the provider's own figures. It must never hold a price, nor the text of a
provider's error message (which may echo the prompt or a key), and its ``repr`` never shows an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["MalformedAnswerError", "ToolCall", "ToolCallParts", "WireAnswer", "WireError"]


class MalformedAnswerError(ValueError):
    """The provider's bytes are not an answer in the expected wire format. The message never quotes those bytes."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call that the model asked for.

    ``arguments`` is the provider's JSON text verbatim (for a custom tool: its free-form input); it may be invalid or,
    in a cut stream, unfinished. ``id`` is empty for the legacy ``function_call`` of OpenAI Chat.
    """

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class WireError:
    """A provider's error without its wording.

    ``code`` and ``type`` are the provider's identifiers, or ``None`` when they are missing or look like anything but
    an identifier. ``category`` is one of ``auth_error``, ``rate_limit``, ``timeout``, ``transient_error``,
    ``invalid_request``,
    ``unknown``.
    """

    code: str | None
    type: str | None
    category: str


class ToolCallParts:
    """A tool call under construction: its arguments arrive in pieces."""

    __slots__ = ("default", "id", "name", "pieces")

    def __init__(self, id: str = "", name: str = "", arguments: str = "", default: str = "") -> None:  # noqa: A002
        self.id: str = id
        self.name: str = name
        self.default: str = default
        """The arguments when no piece brings any."""
        self.pieces: list[str] = [arguments] if arguments else []

    def build(self) -> ToolCall:
        """Return the call as far as it has arrived."""
        return ToolCall(self.id, self.name, "".join(self.pieces) or self.default)


class WireAnswer:
    """One attempt's answer, filled by a reader while bytes arrive; it can be read at any moment.

    Attributes:
        finish_reason: why the model stopped, in the vocabulary of ``finish_reasons``; an unknown value is kept
            verbatim.
        provider_finish_reason: the provider's own word for it, verbatim.
        response_model, response_id, service_tier, system_fingerprint: as reported; ``None`` when missing or empty.
        usage: the provider's usage object as decoded, or ``None``. Missing is not zero.
        tool_usage: the top-level ``tool_usage`` object of OpenAI Responses, as decoded.
        tool_counts: server-side tool calls seen in an OpenAI Responses output, by ``UsageVector`` field name
            (``web_search_requests``, ``file_search_requests``, ``code_interpreter_calls``). Only counts above zero
            are present.
        has_reasoning: whether the model sent thinking or reasoning. Its text is not kept.
        error: an error that the provider reported inside a successful HTTP response.
        complete: whether the provider said its last word (a whole JSON answer or a terminal event), so that ``usage``
            is final. Independent of ``error``: a failed response can be complete, and a stream that ended in an error
            event is not.
        malformed_events: events of a stream that were not readable and were skipped.
    """

    __slots__ = (
        "_texts",
        "_tool_calls",
        "complete",
        "error",
        "finish_reason",
        "has_reasoning",
        "malformed_events",
        "provider_finish_reason",
        "response_id",
        "response_model",
        "service_tier",
        "system_fingerprint",
        "tool_counts",
        "tool_usage",
        "usage",
    )

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.provider_finish_reason: str | None = None
        self.response_model: str | None = None
        self.response_id: str | None = None
        self.service_tier: str | None = None
        self.system_fingerprint: str | None = None
        self.usage: dict[str, Any] | None = None
        self.tool_usage: dict[str, Any] | None = None
        self.tool_counts: dict[str, int] = {}
        self.has_reasoning: bool = False
        self.error: WireError | None = None
        self.complete: bool = False
        self.malformed_events: int = 0
        self._texts: list[str] = []
        self._tool_calls: list[ToolCallParts] = []

    def __repr__(self) -> str:
        return (
            f"<WireAnswer {len(self.text)} characters, {len(self._tool_calls)} tool calls, "
            f"finish_reason={self.finish_reason!r}, complete={self.complete}, error={self.error!r}>"
        )

    @property
    def text(self) -> str:
        """The answer's text so far."""
        if len(self._texts) > 1:
            self._texts[:] = ["".join(self._texts)]
        return self._texts[0] if self._texts else ""

    def add_text(self, text: str) -> None:
        """Append a piece of text."""
        self._texts.append(text)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls so far, in the order in which they were opened."""
        return [parts.build() for parts in self._tool_calls]

    @property
    def has_tool_calls(self) -> bool:
        """Whether the model asked for any tool call."""
        return bool(self._tool_calls)

    def open_tool_call(self, parts: ToolCallParts) -> ToolCallParts:
        """Append a tool call whose arguments may still be arriving, and return it."""
        self._tool_calls.append(parts)
        return parts

    def clear_tool_calls(self) -> None:
        """Forget the tool calls, because the provider is about to repeat all of them."""
        self._tool_calls.clear()

    def finish(self, provider_reason: str, reason: str) -> None:
        """Record why the model stopped; the last reason wins."""
        self.provider_finish_reason = provider_reason
        self.finish_reason = reason

    def fail(self, error: WireError) -> None:
        """Record an error reported inside a successful HTTP response; a finish reason already given stands."""
        self.error = error
        if self.finish_reason is None:
            self.finish_reason = "error"
