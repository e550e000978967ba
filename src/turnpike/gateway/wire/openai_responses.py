"""The reader of the OpenAI Responses format.

- **Text** is the ``output_text`` and ``refusal`` parts of the message items, in order. In a stream it is the deltas;
  a part of it that only the terminal event has is taken from there.
- **Finish reason** comes from ``status``, and for ``incomplete`` from ``incomplete_details.reason``; see
  ``finish_reasons``. ``queued`` and ``in_progress`` (background responses) are not an answer yet: not complete, no
  usage.
- **Complete** means ``response.completed``, ``.incomplete``, ``.failed`` or ``.cancelled``. An ``error`` event ends a
  stream without completing it.
- **Usage and service tier** are read at the end only: ``response.created`` says ``auto`` where the end says which
  tier served.
- **Server-side tool calls** are counted, because they cost money: searches (a ``web_search_call`` whose action opens
  or reads a page is not one), file searches and code-interpreter calls.

Source: OpenAI API reference, "The response object" and "Streaming events" of the Responses API; both shapes of the
``error`` event (flat as documented, nested as reported) are read.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from turnpike.gateway.wire.answer import ToolCallParts
from turnpike.gateway.wire.decoding import UNREADABLE, LenientDecoder
from turnpike.gateway.wire.errors import error_from
from turnpike.gateway.wire.finish_reasons import OPENAI_RESPONSES, common_reason
from turnpike.gateway.wire.reader import BodyReader

__all__ = ["OpenAIResponsesReader"]


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None


class _Action(msgspec.Struct, gc=False):
    type: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    content: list[_Part] | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    action: _Action | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    status: str | None = None
    output: list[_Item] | None = None
    usage: dict[str, Any] | None = None
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    tool_usage: dict[str, Any] | None = None
    incomplete_details: _Incomplete | None = None
    error: Any = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    delta: Any = None
    response: _Response | None = None
    item: _Item | None = None
    item_id: str | None = None
    error: Any = None
    code: Any = None


_RESPONSE: Final = LenientDecoder(_Response)
_EVENT: Final = LenientDecoder(_Event)
_decode = _EVENT.decode

_TERMINAL: Final = frozenset(("response.completed", "response.incomplete", "response.failed", "response.cancelled"))
_PENDING: Final = ("queued", "in_progress")
_COUNTED: Final = {
    "web_search_call": "web_search_requests",
    "file_search_call": "file_search_requests",
    "code_interpreter_call": "code_interpreter_calls",
}
_TOOL_CALLS: Final = ("function_call", "custom_tool_call")


class OpenAIResponsesReader(BodyReader):
    """Reads one OpenAI Responses answer; see the module's docstring for what it decides."""

    format: ClassVar[str] = "openai-responses"

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[str, ToolCallParts] = {}
        self._refused = False

    def _read_body(self, body: bytes) -> bool:
        response = _RESPONSE.read(body)
        if response is None or (response.output is None and response.usage is None and not response.error):
            return False
        self._read_identity(response)
        text = self._read_response(response)
        if text:
            self.answer.add_text(text)
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
        if kind == "response.output_text.delta":
            return event.delta if type(event.delta) is str else None
        return self._read_other(kind, event)

    def _read_other(self, kind: str, event: _Event) -> str | None:
        if kind in _TERMINAL:
            response = event.response or _Response()
            self._read_identity(response)
            return self._read_response(response, kind.removeprefix("response."))
        if kind == "error":
            self.answer.fail(error_from(event.error or {"code": event.code}, self.format))
        elif kind == "response.refusal.delta":
            self._refused = True
            return event.delta if type(event.delta) is str else None
        elif event.item is not None:
            self._read_streamed_item(event.item, is_done=kind == "response.output_item.done")
        elif kind in ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta"):
            call = self._calls.get(event.item_id or "")
            if call is not None and type(event.delta) is str:
                call.pieces.append(event.delta)
        elif event.response is not None:
            self._read_identity(event.response)
        return None

    def _read_identity(self, response: _Response) -> None:
        self.answer.response_id = response.id or self.answer.response_id
        self.answer.response_model = response.model or self.answer.response_model

    def _read_response(self, response: _Response, event_status: str = "completed") -> str | None:
        """Read a whole response and return the text that is new in it.

        Args:
            response: the response object of a JSON body or a terminal event.
            event_status: the status to assume when the object has none.
        """
        answer = self.answer
        answer.usage = response.usage or answer.usage
        answer.service_tier = response.service_tier or None
        answer.tool_usage = response.tool_usage
        text = None
        if response.output:  # Some servers leave it empty in the terminal event; then the items seen on the way stand.
            text = self._read_output(response.output)
        if response.error:
            answer.fail(error_from(response.error, self.format))
        self._read_status(response, response.status or event_status)
        return text

    def _read_output(self, output: list[_Item]) -> str | None:
        answer = self.answer
        answer.clear_tool_calls()
        answer.tool_counts.clear()
        texts: list[str] = []
        for item in output:
            self._read_item(item)
            if item.type in _TOOL_CALLS:
                answer.open_tool_call(_whole_call(item))
            texts.extend(self._text_of(item, part) for part in item.content or ())
        streamed, whole = answer.text, "".join(texts)
        return whole[len(streamed) :] if whole.startswith(streamed) else None

    def _text_of(self, item: _Item, part: _Part) -> str:
        if item.type != "message":
            return ""
        if part.type == "refusal":
            self._refused = True
            return part.refusal or ""
        return part.text or "" if part.type == "output_text" else ""

    def _read_status(self, response: _Response, status: str) -> None:
        answer = self.answer
        if status in _PENDING:
            answer.usage = None
            return
        answer.complete = True
        reason = status
        if status == "incomplete" and response.incomplete_details is not None:
            reason = response.incomplete_details.reason or status
        answer.finish(
            reason,
            common_reason(OPENAI_RESPONSES, reason, has_tool_calls=answer.has_tool_calls, refused=self._refused),
        )

    def _read_item(self, item: _Item) -> None:
        """Read what every kind of item may say: reasoning, and server-side tools that cost money."""
        if item.type == "reasoning":
            self.answer.has_reasoning = True
        count = _COUNTED.get(item.type or "")
        if count is None or (
            item.type == "web_search_call" and item.action and item.action.type not in (None, "search")
        ):
            return
        self.answer.tool_counts[count] = self.answer.tool_counts.get(count, 0) + 1

    def _read_streamed_item(self, item: _Item, *, is_done: bool) -> None:
        if is_done:
            self._read_item(item)
        if item.type not in _TOOL_CALLS:
            return
        whole = _whole_call(item)
        call = self._calls.get(item.id or "")
        if call is None:
            self._calls[item.id or whole.id] = self.answer.open_tool_call(whole)
        elif is_done:
            call.pieces = whole.pieces


def _whole_call(item: _Item) -> ToolCallParts:
    arguments = item.arguments if item.type == "function_call" else item.input
    return ToolCallParts(item.call_id or "", item.name or "", arguments or "")
