"""Wire readers: a provider's raw JSON or SSE bytes -> text, tool calls, finish reason and usage.

One reader per wire format behind one protocol, ``WireReader``. Pure functions of the bytes: no I/O, no prices, no
telemetry, no SDK models.
"""

from __future__ import annotations

from typing import Final

from turnpike.gateway.wire.answer import MalformedAnswerError, ToolCall, WireAnswer, WireError
from turnpike.gateway.wire.anthropic_messages import AnthropicMessagesReader
from turnpike.gateway.wire.errors import classify_error
from turnpike.gateway.wire.openai_chat import OpenAIChatReader
from turnpike.gateway.wire.openai_responses import OpenAIResponsesReader
from turnpike.gateway.wire.reader import WireReader

__all__ = [
    "AnthropicMessagesReader",
    "MalformedAnswerError",
    "OpenAIChatReader",
    "OpenAIResponsesReader",
    "ToolCall",
    "WireAnswer",
    "WireError",
    "WireReader",
    "classify_error",
    "reader_for",
]

_READERS: Final[dict[str, type[OpenAIChatReader | OpenAIResponsesReader | AnthropicMessagesReader]]] = {
    reader.format: reader for reader in (OpenAIChatReader, OpenAIResponsesReader, AnthropicMessagesReader)
}


def reader_for(format: str) -> WireReader:  # noqa: A002
    """Return a fresh reader for one attempt.

    Args:
        format: ``openai-chat``, ``openai-responses`` or ``anthropic-messages``.

    Raises:
        ValueError: there is no such format.
    """
    try:
        return _READERS[format]()
    except KeyError:
        raise ValueError(f"no wire format {format!r}; write one of: {', '.join(_READERS)}") from None
