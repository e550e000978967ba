"""The reader of the OpenAI Chat Completions format, as OpenAI, Azure OpenAI and the many compatible servers speak it.

Only choice 0 counts: the gateway does not ask for more than one. Decisions, each with its reason:

- **Refusals** are text: they are what the model answered and what was paid for. ``finish_reason`` becomes ``refusal``
  although OpenAI ends such an answer with ``stop``; see ``finish_reasons``.
- **Content as a list of parts** (Mistral's reasoning models): the text parts are the text, thinking parts are not.
- **Usage** is taken wherever it comes: on a chunk of its own after the finish reason (OpenAI, Azure), on chunks with
  choices (Mistral, DeepSeek, OpenRouter, Perplexity; the last one wins), or in ``x_groq``.
- **Complete** means ``[DONE]``. A stream that ends without it is complete if usage came with the finish reason or
  after it, because then nothing is missing.
- **Tool calls** are told apart by ``index``; a server that repeats an index with a new id, or sends none, still gets
  them apart.

Source: OpenAI API reference, "The chat completion object" and "The chat completion chunk object"; shapes of
compatible servers from recorded exchanges.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from turnpike.gateway.wire.answer import ToolCallParts
from turnpike.gateway.wire.decoding import UNREADABLE, LenientDecoder
from turnpike.gateway.wire.errors import error_from
from turnpike.gateway.wire.finish_reasons import OPENAI_CHAT, common_reason
from turnpike.gateway.wire.reader import BodyReader

__all__ = ["OpenAIChatReader"]


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Custom(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class _Message(msgspec.Struct, gc=False):
    """A whole message or one delta of it: the fields are the same."""

    content: str | list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    index: int | None = None


class _Groq(msgspec.Struct, gc=False):
    usage: dict[str, Any] | None = None


class _Completion(msgspec.Struct, gc=False):
    """A whole completion or one chunk of it."""

    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    x_groq: _Groq | None = None


class _Metadata(msgspec.Struct, gc=False):
    """The other fields of a completion or chunk. Every chunk repeats them: only the first and last are decoded."""

    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None


_COMPLETION: Final = LenientDecoder(_Completion)
_METADATA: Final = LenientDecoder(_Metadata)
_decode = _COMPLETION.decode


class OpenAIChatReader(BodyReader):
    """Reads one OpenAI Chat answer; see the module's docstring for what it decides."""

    format: ClassVar[str] = "openai-chat"

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int | None, ToolCallParts] = {}
        self._refused = False
        self._has_last_usage = False
        self._wants_metadata = True

    def _read_body(self, body: bytes) -> bool:
        completion = _COMPLETION.read(body)
        if completion is None or not (completion.choices or completion.usage or completion.error):
            return False
        for choice in completion.choices or ():
            choice.delta = choice.message  # Perplexity's whole answers have an empty delta beside the message.
        text = self._read_completion(completion, body)
        if text:
            self.answer.add_text(text)
        self.answer.complete = True
        return True

    def _read_event(self, name: bytes, data: bytes) -> str | None:
        try:
            chunk = _decode(data)
        except UNREADABLE:
            return self._read_odd_event(data)
        return self._read_completion(chunk, data)

    def _read_odd_event(self, data: bytes) -> str | None:
        if data.strip() == b"[DONE]":
            self.answer.complete = True
            return None
        chunk = _COMPLETION.salvage(data)
        if chunk is None:
            self._skip_event(data)
            return None
        return self._read_completion(chunk, data)

    def _end_stream(self) -> None:
        if self._has_last_usage:
            self.answer.complete = True

    def _read_completion(self, completion: _Completion, data: bytes) -> str | None:
        text = None
        for choice in completion.choices or ():
            if not choice.index:
                text = self._read_choice(choice)
        if self._wants_metadata:
            self._read_metadata(_METADATA.read(data) or _Metadata())
        if completion.usage or completion.x_groq:
            self._read_usage(completion)
        if completion.error:
            self.answer.fail(error_from(completion.error, self.format))
        return text

    def _read_metadata(self, metadata: _Metadata) -> None:
        answer = self.answer
        answer.response_id = answer.response_id or metadata.id or None
        answer.response_model = answer.response_model or metadata.model or None  # Azure's first chunk has an empty one.
        answer.service_tier = metadata.service_tier or answer.service_tier
        answer.system_fingerprint = metadata.system_fingerprint or answer.system_fingerprint
        is_known = answer.response_id is not None and answer.response_model is not None
        self._wants_metadata = not is_known or answer.provider_finish_reason is not None

    def _read_usage(self, completion: _Completion) -> None:
        usage = completion.usage or (completion.x_groq and completion.x_groq.usage)
        if usage:
            self.answer.usage = usage
            self._has_last_usage = self.answer.provider_finish_reason is not None

    def _read_choice(self, choice: _Choice) -> str | None:
        message = choice.delta
        text: str | None = None
        if message is not None:
            content = message.content
            # The ordinary chunk has a piece of text and nothing else.
            text = (
                content if content and type(content) is str and message.refusal is None else self._read_message(message)
            )
            if message.tool_calls or message.function_call:
                self._read_tool_calls(message)
            if message.reasoning_content or message.reasoning:
                self.answer.has_reasoning = True
        if choice.finish_reason:
            self._read_finish_reason(choice.finish_reason)
        return text

    def _read_message(self, message: _Message) -> str:
        text = self._text_of(message.content)
        if message.refusal:
            self._refused = True
            text += message.refusal
        return text

    def _text_of(self, content: str | list[Any] | None) -> str:
        if not isinstance(content, list):
            return content or ""
        texts = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("text", "output_text") and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind == "refusal" and isinstance(part.get("refusal"), str):
                self._refused = True
                texts.append(part["refusal"])
            elif kind in ("thinking", "reasoning"):
                self.answer.has_reasoning = True
        return "".join(texts)

    def _read_finish_reason(self, provider_reason: str) -> None:
        answer = self.answer
        reason = common_reason(
            OPENAI_CHAT, provider_reason, has_tool_calls=answer.has_tool_calls, refused=self._refused
        )
        answer.finish(provider_reason, reason)
        self._has_last_usage = False
        self._wants_metadata = True

    def _read_tool_calls(self, message: _Message) -> None:
        for call in message.tool_calls or ():
            function, custom = call.function, call.custom
            if custom is not None and custom.name and not (function is not None and function.name):
                self._add_to_call(call.index, call.id, custom.name, custom.input)
            elif function is not None:
                self._add_to_call(call.index, call.id, function.name, function.arguments)
            elif custom is not None:
                self._add_to_call(call.index, call.id, None, custom.input)
        legacy = message.function_call
        if legacy is not None and (legacy.name or legacy.arguments):
            self._add_to_call(0, None, legacy.name, legacy.arguments)

    def _add_to_call(
        self, index: int | None, call_id: str | None, name: str | None, arguments: str | dict[str, Any] | None
    ) -> None:
        call = self._calls.get(index)
        if call is None or (call_id and call.id and call_id != call.id) or (index is None and name):
            call = self._calls[index] = self.answer.open_tool_call(ToolCallParts())
        call.id = call.id or call_id or ""
        call.name = call.name or name or ""
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        if arguments:
            call.pieces.append(arguments)
