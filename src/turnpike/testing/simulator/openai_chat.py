"""The wire format of OpenAI Chat Completions: reads a request, writes the JSON answer or the SSE events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from turnpike.testing.simulator import asking
from turnpike.testing.simulator.asking import Ask, BadRequest, Segment, Tool
from turnpike.testing.simulator.bill_book import Usage
from turnpike.testing.simulator.events import Event, TokenCount
from turnpike.testing.simulator.generation import Answer, Choice, identifier, split

API = "openai-chat"
FINGERPRINT = "fp_560af6e559"
_encode = msgspec.json.encode
_FINISHES = {"stop_sequence": "stop", "refusal": "stop"}


def read(body: Mapping[str, Any]) -> Ask:
    """The facts of a request. Raises BadRequest."""
    model = asking.required_model(body)
    messages = asking.required_list(body, "messages")
    segments, last_user, last_role = read_messages(messages)
    tools = [_tool(tool) for tool in body.get("tools") or () if tool.get("type", "function") == "function"]
    segments += [Segment(asking.as_json(tool)) for tool in body.get("tools") or ()]
    return Ask(
        api=API,
        model=model,
        body=body,
        segments=segments,
        seed=asking.seed_of(model, messages),
        last_user_text=last_user,
        after_tool_result=last_role in {"tool", "function"},
        tools=tools,
        tool_choice=_tool_choice(body.get("tool_choice")),
        max_output_tokens=asking.optional_count(body, "max_completion_tokens", "max_tokens"),
        stop=_stops(body.get("stop")),
        stream=asking.flag(body, "stream"),
        include_usage=bool(asking.object_at(body, "stream_options").get("include_usage")),
        json_schema=_json_schema(asking.object_at(body, "response_format")),
        effort=body.get("reasoning_effort"),
        choices=asking.optional_count(body, "n") or 1,
    )


def read_messages(messages: list[Any]) -> tuple[list[Segment], str, str]:
    """The prompt's segments, the last user message's text and the last message's role."""
    segments: list[Segment] = []
    last_user = last_role = ""
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise BadRequest(
                f"Invalid type for 'messages[{index}]': expected an object with a 'role'.", param=f"messages[{index}]"
            )
        text, extra = asking.flatten(message.get("content"))
        last_role = message["role"]
        if last_role == "user":
            last_user = text
        calls = message.get("tool_calls")
        segments.append(Segment(f"{last_role}\n{text}{asking.as_json(calls) if calls else ''}", extra))
    return segments, last_user, last_role


def _tool(tool: Mapping[str, Any]) -> Tool:
    function = tool.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRequest("Missing required parameter: 'tools[0].function.name'.", param="tools[0].function.name")
    return Tool(function["name"], asking.object_at(function, "parameters"))


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, Mapping):
        return "name:" + str(asking.object_at(choice, "function").get("name", ""))
    return choice if isinstance(choice, str) else "auto"


def _stops(stop: Any) -> tuple[str, ...]:
    if isinstance(stop, str):
        return (stop,)
    return tuple(item for item in stop if isinstance(item, str)) if isinstance(stop, list) else ()


def _json_schema(response_format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    kind = response_format.get("type")
    if kind == "json_schema":
        return asking.object_at(asking.object_at(response_format, "json_schema"), "schema")
    return asking.JSON_OBJECT if kind == "json_object" else None


def usage_json(usage: Usage) -> dict[str, Any]:
    """The `usage` object: cached and written input are inside `prompt_tokens`."""
    details = {"cached_tokens": usage.cache_read, "audio_tokens": 0}
    written = usage.cache_write_5m + usage.cache_write_1h
    if written:
        details["cache_write_tokens"] = written
    return {
        "prompt_tokens": usage.all_input,
        "completion_tokens": usage.output,
        "total_tokens": usage.all_input + usage.output,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _finish(choice: Choice) -> str:
    return _FINISHES.get(choice.finish, choice.finish)


def _message(choice: Choice) -> dict[str, Any]:
    text = choice.text if choice.chunks or not choice.tool_calls else None
    refused = choice.finish == "refusal"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused else text,
        "refusal": text if refused else None,
        "annotations": [],
    }
    if choice.tool_calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in choice.tool_calls
        ]
    return message


def write(ask: Ask, answer: Answer) -> bytes:
    """The body of a JSON response."""
    body: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [
            {"index": index, "message": _message(choice), "logprobs": None, "finish_reason": _finish(choice)}
            for index, choice in enumerate(answer.choices)
        ],
        "usage": usage_json(answer.shown) if answer.shown else None,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    if answer.shown is None:
        del body["usage"]
    return _encode(body)


def write_events(ask: Ask, answer: Answer) -> Iterator[Event]:
    """The events of a stream, `[DONE]` included."""
    head = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    start = b"data: " + _encode(head)[:-1] + b',"choices":['
    with_usage = ask.include_usage and answer.shown is not None
    end = b'],"usage":null}\n\n' if with_usage else b"]}\n\n"
    count = TokenCount(answer.usage.reasoning)
    for index, choice in enumerate(answer.choices):
        opening = b'%s{"index":%d,"delta":' % (start, index)
        plain = b',"logprobs":null,"finish_reason":null}' + end
        yield from _deltas(choice, opening, plain, count)
        closing = b',"logprobs":null,"finish_reason":' + _encode(_finish(choice)) + b"}" + end
        yield Event(opening + b"{}" + closing, count.total)
    if with_usage and answer.shown is not None:
        usage = _encode(usage_json(answer.shown))
        yield Event(start + b'],"usage":' + usage + b"}\n\n", count.total, carries_usage=True)
    yield Event(b"data: [DONE]\n\n", count.total)


def _deltas(choice: Choice, opening: bytes, plain: bytes, count: TokenCount) -> Iterator[Event]:
    refused = choice.finish == "refusal"
    content = None if refused or (choice.tool_calls and not choice.chunks) else ""
    first = {"role": "assistant", "content": content, "refusal": None}
    yield Event(opening + _encode(first) + plain, count.total)
    opening_text = opening + (b'{"refusal":' if refused else b'{"content":')
    for chunk in choice.chunks:
        yield Event(opening_text + _encode(chunk) + b"}" + plain, count.text(chunk))
    count.end_text()
    for number, call in enumerate(choice.tool_calls):
        call_id, name, arguments = call
        function = {"name": name, "arguments": ""}
        begun = {"tool_calls": [{"index": number, "id": call_id, "type": "function", "function": function}]}
        yield Event(opening + _encode(begun) + plain, count.total)
        done = count.tool_call(call)
        for piece in split(arguments, 1 + len(arguments) // 8) if arguments else ():
            delta = {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}
            yield Event(opening + _encode(delta) + plain, done)


def error_event(error: Mapping[str, Any], kind: str, ask: Ask, answer: Answer, position: int) -> Event:
    """An error inside a stream: a bare `error` object in a data line."""
    return Event(b"data: " + _encode({"error": error}) + b"\n\n", 0)


def new_id(seed: bytes, sequence: int) -> str:
    """A completion id."""
    return "chatcmpl-" + identifier(seed, f"chat {sequence}", 29)
