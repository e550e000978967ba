"""The wire format of OpenAI Responses: reads a request, writes the JSON answer or the numbered SSE events."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from turnpike.testing.simulator import asking
from turnpike.testing.simulator.asking import Ask, BadRequest, Segment, Tool
from turnpike.testing.simulator.bill_book import Usage
from turnpike.testing.simulator.events import Event, TokenCount
from turnpike.testing.simulator.generation import Answer, identifier, split

API = "openai-responses"
_encode = msgspec.json.encode
_INCOMPLETE = {
    "length": "max_output_tokens",
    "max_output_tokens": "max_output_tokens",
    "content_filter": "content_filter",
}


def read(body: Mapping[str, Any]) -> Ask:
    """The facts of a request. Raises BadRequest."""
    model = asking.required_model(body)
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else asking.required_list(body, "input")
    instructions = body.get("instructions")
    segments = [Segment(f"system\n{instructions}")] if isinstance(instructions, str) else []
    last_user = ""
    for item in items:
        segment, user_text = _segment(item)
        segments.append(segment)
        last_user = last_user if user_text is None else user_text
    tools = [tool for tool in body.get("tools") or () if isinstance(tool, Mapping)]
    segments += [Segment(asking.as_json(tool)) for tool in tools]
    return Ask(
        api=API,
        model=model,
        body=body,
        segments=segments,
        seed=asking.seed_of(model, instructions, items),
        last_user_text=last_user,
        after_tool_result=items[-1].get("type") == "function_call_output",
        tools=[_tool(tool) for tool in tools if tool.get("type") == "function"],
        tool_choice=_tool_choice(body.get("tool_choice")),
        max_output_tokens=asking.optional_count(body, "max_output_tokens"),
        stream=asking.flag(body, "stream"),
        json_schema=_json_schema(asking.object_at(asking.object_at(body, "text"), "format")),
        effort=asking.object_at(body, "reasoning").get("effort"),
    )


def _segment(item: Any) -> tuple[Segment, str | None]:
    if not isinstance(item, Mapping):
        raise BadRequest("Invalid type for 'input[0]': expected an object.", param="input[0]", code="invalid_type")
    if "role" not in item:
        return Segment(asking.as_json(item)), None
    text, extra = asking.flatten(item.get("content"))
    return Segment(f"{item['role']}\n{text}", extra), text if item["role"] == "user" else None


def _tool(tool: Mapping[str, Any]) -> Tool:
    if not isinstance(tool.get("name"), str):
        raise BadRequest("Missing required parameter: 'tools[0].name'.", param="tools[0].name")
    return Tool(tool["name"], asking.object_at(tool, "parameters"))


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, Mapping):
        return "name:" + str(choice.get("name", ""))
    return choice if isinstance(choice, str) else "auto"


def _json_schema(text_format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    kind = text_format.get("type")
    if kind == "json_schema":
        return asking.object_at(text_format, "schema")
    return asking.JSON_OBJECT if kind == "json_object" else None


def usage_json(usage: Usage) -> dict[str, Any]:
    """The `usage` object: cached and written input are inside `input_tokens`."""
    return {
        "input_tokens": usage.all_input,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.all_input + usage.output,
    }


def _response(ask: Ask, answer: Answer, status: str, output: list[Any], usage: Usage | None) -> dict[str, Any]:
    body = ask.body
    finish = answer.choices[0].finish
    incomplete = {"reason": _INCOMPLETE.get(finish, finish)} if status == "incomplete" else None
    return {
        "id": answer.id,
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "background": False,
        "billing": {"payer": "developer"},
        "completed_at": answer.created if status == "completed" else None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": incomplete,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "presence_penalty": 0.0,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": ask.effort, "summary": None},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "auto" if status == "in_progress" else "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"verbosity": "medium", "format": {"type": "text"}, **asking.object_at(body, "text")},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_logprobs": 0,
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation", "disabled"),
        "usage": usage_json(usage) if usage else None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _status(answer: Answer) -> str:
    return "incomplete" if answer.choices[0].finish in _INCOMPLETE else "completed"


def _item_id(ask: Ask, answer: Answer, prefix: str, number: int) -> str:
    return f"{prefix}_{identifier(ask.seed, f'{answer.id} {prefix} {number}', 50, hexadecimal=True)}"


def _reasoning_item(ask: Ask, answer: Answer) -> dict[str, Any]:
    return {"id": _item_id(ask, answer, "rs", 0), "type": "reasoning", "summary": []}


def _part(answer: Answer, text: str) -> dict[str, Any]:
    if answer.choices[0].finish == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _message_item(ask: Ask, answer: Answer, status: str, content: list[Any]) -> dict[str, Any]:
    item_id = _item_id(ask, answer, "msg", 0)
    return {"id": item_id, "type": "message", "status": status, "content": content, "role": "assistant"}


def _call_item(ask: Ask, answer: Answer, number: int, status: str, arguments: str) -> dict[str, Any]:
    call_id, name, _ = answer.choices[0].tool_calls[number]
    item_id = _item_id(ask, answer, "fc", number)
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "arguments": arguments,
        "call_id": call_id,
        "name": name,
    }


def _has_message(answer: Answer) -> bool:
    choice = answer.choices[0]
    return bool(choice.chunks) or not (choice.tool_calls or choice.finish == "length")


def _output(ask: Ask, answer: Answer) -> list[dict[str, Any]]:
    choice, output = answer.choices[0], []
    if answer.usage.reasoning:
        output.append(_reasoning_item(ask, answer))
    if _has_message(answer):
        output.append(_message_item(ask, answer, _status(answer), [_part(answer, choice.text)]))
    calls = enumerate(choice.tool_calls)
    return output + [_call_item(ask, answer, number, "completed", call[2]) for number, call in calls]


def write(ask: Ask, answer: Answer) -> bytes:
    """The body of a JSON response."""
    body = _response(ask, answer, _status(answer), _output(ask, answer), answer.shown)
    if answer.shown is None:
        del body["usage"]
    return _encode(body)


class _Numbered:
    """Builds events whose `sequence_number` counts up from `start`."""

    def __init__(self, start: int = 0) -> None:
        self._next = itertools.count(start)

    def __call__(self, kind: str, tokens: int, *, usage: bool = False, **fields: Any) -> Event:
        data = _encode({"type": kind, **fields, "sequence_number": next(self._next)})
        return Event(b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n", tokens, usage)

    def delta(self, kind: bytes, tokens: int, place: bytes, chunk: str, rest: bytes = b"") -> Event:
        """A delta event, put together from bytes that are the same for all of them."""
        head = b'event: %s\ndata: {"type":"%s",%s,"delta":%s%s,"sequence_number":%d}\n\n'
        return Event(head % (kind, kind, place, _encode(chunk), rest, next(self._next)), tokens)


def write_events(ask: Ask, answer: Answer) -> Iterator[Event]:
    """The events of a stream, from `response.created` to `response.completed` or `response.incomplete`."""
    event, count, places = _Numbered(), TokenCount(), itertools.count()
    begun = _response(ask, answer, "in_progress", [], None)
    yield event("response.created", 0, response=begun)
    yield event("response.in_progress", 0, response=begun)
    if answer.usage.reasoning:
        count = TokenCount(answer.usage.reasoning)
        place, item = next(places), _reasoning_item(ask, answer)
        yield event("response.output_item.added", 0, output_index=place, item=item)
        yield event("response.output_item.done", count.total, output_index=place, item=item)
    if _has_message(answer):
        yield from _message_events(ask, answer, event, count, next(places))
    for number in range(len(answer.choices[0].tool_calls)):
        yield from _call_events(ask, answer, event, count, next(places), number)
    status = _status(answer)
    final = _response(ask, answer, status, _output(ask, answer), answer.shown)
    if answer.shown is None:
        del final["usage"]
    yield event(f"response.{status}", count.total, usage=answer.shown is not None, response=final)


def _message_events(ask: Ask, answer: Answer, event: _Numbered, count: TokenCount, place: int) -> Iterator[Event]:
    choice = answer.choices[0]
    refused = choice.finish == "refusal"
    kind = "response.refusal" if refused else "response.output_text"
    item = _message_item(ask, answer, "in_progress", [])
    at = {"item_id": item["id"], "output_index": place, "content_index": 0}
    logprobs: dict[str, Any] = {} if refused else {"logprobs": []}
    yield event("response.output_item.added", count.total, output_index=place, item=item)
    yield event("response.content_part.added", count.total, **at, part=_part(answer, ""))
    where, rest = _encode(at)[1:-1], b"" if refused else b',"logprobs":[]'
    for chunk in choice.chunks:
        yield event.delta(f"{kind}.delta".encode(), count.text(chunk), where, chunk, rest)
    count.end_text()
    whole: dict[str, Any] = {"refusal" if refused else "text": choice.text, **logprobs}
    yield event(f"{kind}.done", count.total, **at, **whole)
    yield event("response.content_part.done", count.total, **at, part=_part(answer, choice.text))
    item = _message_item(ask, answer, _status(answer), [_part(answer, choice.text)])
    yield event("response.output_item.done", count.total, output_index=place, item=item)


def _call_events(
    ask: Ask, answer: Answer, event: _Numbered, count: TokenCount, place: int, number: int
) -> Iterator[Event]:
    call = answer.choices[0].tool_calls[number]
    arguments = call[2]
    item = _call_item(ask, answer, number, "in_progress", "")
    at = {"item_id": item["id"], "output_index": place}
    yield event("response.output_item.added", count.total, output_index=place, item=item)
    done, where = count.tool_call(call), _encode(at)[1:-1]
    for piece in split(arguments, 1 + len(arguments) // 8) if arguments else ():
        yield event.delta(b"response.function_call_arguments.delta", done, where, piece)
    yield event("response.function_call_arguments.done", done, **at, arguments=arguments)
    item = _call_item(ask, answer, number, "completed", arguments)
    yield event("response.output_item.done", done, output_index=place, item=item)


def error_event(error: Mapping[str, Any], kind: str, ask: Ask, answer: Answer, position: int) -> Event:
    """An error inside a stream: `error`, `response.failed` or `response.incomplete`."""
    event = _Numbered(position)
    if kind == "error":
        return event("error", 0, error=error)
    response = _response(ask, answer, kind.removeprefix("response."), [], None)
    if kind == "response.failed":
        response["error"] = {"code": error.get("code") or "server_error", "message": error["message"]}
    else:
        response["incomplete_details"] = {"reason": error.get("code") or "content_filter"}
    return event(kind, 0, response=response)


def new_id(seed: bytes, sequence: int) -> str:
    """A response id."""
    return "resp_" + identifier(seed, f"response {sequence}", 50, hexadecimal=True)
