"""The reader of the Anthropic Messages format.

- **Text** is all text blocks, concatenated. Thinking and the server's own tool blocks are not text.
- **Tool calls** are ``tool_use`` blocks, their input as compact JSON (in a stream: the pieces joined); no input at
  all is ``{}``.
- **Usage** of a stream is ``message_start``'s, then each ``message_delta``'s over it: key by key, replacing, skipping
  nulls. The deltas are cumulative, so nothing is ever added up, but only the start has the cache lifetimes and the
  service tier.
- **Complete** means ``message_stop``. An ``error`` event ends a stream without completing it.

Source: Anthropic API reference, "Messages" and "Streaming messages".
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from turnpike.gateway.wire.answer import ToolCallParts
from turnpike.gateway.wire.decoding import UNREADABLE, LenientDecoder
from turnpike.gateway.wire.errors import error_from
from turnpike.gateway.wire.finish_reasons import ANTHROPIC_MESSAGES, common_reason
from turnpike.gateway.wire.reader import BodyReader

__all__ = ["AnthropicMessagesReader"]


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block] | None = None
    usage: dict[str, Any] | None = None
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    error: Any = None


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    delta: _Delta | None = None
    index: int | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_MESSAGE: Final = LenientDecoder(_Message)
_EVENT: Final = LenientDecoder(_Event)
_decode = _EVENT.decode


class AnthropicMessagesReader(BodyReader):
    """Reads one Anthropic answer; see the module's docstring for what it decides."""

    format: ClassVar[str] = "anthropic-messages"

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int | None, ToolCallParts] = {}

    def _read_body(self, body: bytes) -> bool:
        message = _MESSAGE.read(body)
        if message is None or (message.content is None and message.usage is None and not message.error):
            return False
        text = self._read_message(message)
        if text:
            self.answer.add_text(text)
        if message.error:
            self.answer.fail(error_from(message.error, self.format))
        self.answer.complete = True
        return True

    def _read_event(self, name: bytes, data: bytes) -> str | None:
        try:
            event = _decode(data)
        except UNREADABLE:
            salvaged = _EVENT.salvage(data)
            if salvaged is None:
                self._skip_event(data)
                return None
            event = salvaged
        kind = event.type or name.decode("ascii", "replace")
        if kind == "content_block_delta":
            delta = event.delta
            if delta is None:
                return None
            if delta.partial_json and event.index in self._calls:
                self._calls[event.index].pieces.append(delta.partial_json)
            return delta.text
        return self._read_other(kind, event)

    def _read_other(self, kind: str, event: _Event) -> str | None:
        if kind == "content_block_start":
            return self._read_block(event.content_block or _Block(), event.index)
        if kind == "message_start":
            return self._read_message(event.message or _Message())
        if kind == "message_delta":
            self._merge_usage(event.usage)
            self._read_stop_reason(event.delta.stop_reason if event.delta else None)
        elif kind == "message_stop":
            self.answer.complete = True
        elif kind == "error":
            self.answer.fail(error_from(event.error, self.format))
        return None

    def _read_message(self, message: _Message) -> str:
        """Read a whole message or the head of a streamed one, and return its text."""
        self.answer.response_id = message.id or None
        self.answer.response_model = message.model or None
        text = "".join(self._read_block(block, None) for block in message.content or ())
        self._merge_usage(message.usage)
        self._read_stop_reason(message.stop_reason)
        return text

    def _read_block(self, block: _Block, index: int | None) -> str:
        if block.type == "text":
            return block.text or ""
        if block.type in ("thinking", "redacted_thinking"):
            self.answer.has_reasoning = True
        elif block.type == "tool_use":
            given = msgspec.json.encode({} if block.input is None else block.input).decode()
            call = ToolCallParts(block.id or "", block.name or "", default=given)
            self._calls[index] = self.answer.open_tool_call(call)
        return ""

    def _merge_usage(self, usage: dict[str, Any] | None) -> None:
        if not usage:
            return
        merged = self.answer.usage
        if merged is None:
            merged = self.answer.usage = dict(usage)
        else:
            merged.update({key: value for key, value in usage.items() if value is not None})
        tier = merged.get("service_tier")
        self.answer.service_tier = tier if isinstance(tier, str) and tier else None

    def _read_stop_reason(self, provider_reason: str | None) -> None:
        if provider_reason:
            self.answer.finish(provider_reason, common_reason(ANTHROPIC_MESSAGES, provider_reason))
