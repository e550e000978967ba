"""The wire format of Anthropic Messages: reads a request, writes the JSON answer or the SSE events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from turnpike.testing.simulator import asking
from turnpike.testing.simulator.asking import Ask, BadRequest, Segment, Tool
from turnpike.testing.simulator.bill_book import Usage
from turnpike.testing.simulator.events import Event, TokenCount
from turnpike.testing.simulator.generation import Answer, Choice, identifier, split

API = "anthropic-messages"
_encode = msgspec.json.encode
_FINISHES = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_DEFAULT_THINKING_TOKENS = 1024


def read(body: Mapping[str, Any]) -> Ask:
    """The facts of a request. Raises BadRequest."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("model: Field required")
    limit = body.get("max_tokens")
    if limit is None:
        raise BadRequest("max_tokens: Field required")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise BadRequest("max_tokens: Input should be greater than or equal to 1")
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise BadRequest("messages: Field required")
    if not messages:
        raise BadRequest("messages: at least one message is required")
    tools = [tool for tool in body.get("tools") or () if isinstance(tool, Mapping)]
    segments = [Segment(asking.as_json(tool), 0, _ttl(tool)) for tool in tools]
    segments += _segments("system", body.get("system"))
    for index, message in enumerate(messages):
        _check_role(index, message)
        segments += _segments(message["role"], message.get("content"))
    if body.get("cache_control"):
        segments[-1] = segments[-1]._replace(ttl=_ttl(body))
    last_user, after_tool = _last_user(messages)
    return Ask(
        api=API,
        model=model,
        body=body,
        segments=segments,
        seed=asking.seed_of(model, body.get("system"), messages),
        last_user_text=last_user,
        after_tool_result=after_tool,
        tools=[Tool(str(tool.get("name", "")), asking.object_at(tool, "input_schema")) for tool in tools],
        tool_choice=_tool_choice(asking.object_at(body, "tool_choice")),
        max_output_tokens=limit,
        stop=tuple(stop for stop in body.get("stop_sequences") or () if isinstance(stop, str)),
        stream=asking.flag(body, "stream"),
        json_schema=_json_schema(body),
        thinking_budget=_thinking_budget(asking.object_at(body, "thinking")),
    )


def _check_role(index: int, message: Any) -> None:
    role = message.get("role") if isinstance(message, Mapping) else None
    if role == "system":
        raise BadRequest(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
            'not "system" as an input message role.'
        )
    if role not in {"user", "assistant"}:
        raise BadRequest(f"messages.{index}: Input does not match the expected shape.")


def _ttl(block: Mapping[str, Any]) -> str | None:
    control = block.get("cache_control")
    if not isinstance(control, Mapping):
        return None
    return "1h" if control.get("ttl") == "1h" else "5m"


def _segments(role: str, content: Any) -> list[Segment]:
    if not isinstance(content, list):
        text, extra = asking.flatten(content)
        return [Segment(f"{role}\n{text}", extra)] if content is not None else []
    segments = []
    for block in content:
        text, extra = asking.flatten([block])
        segments.append(Segment(f"{role}\n{text}", extra, _ttl(block) if isinstance(block, Mapping) else None))
    return segments


def _last_user(messages: list[Any]) -> tuple[str, bool]:
    for message in reversed(messages):
        if message["role"] == "user":
            content = message.get("content")
            blocks = content if isinstance(content, list) else []
            is_result = any(isinstance(block, Mapping) and block.get("type") == "tool_result" for block in blocks)
            texts = [block for block in blocks if isinstance(block, Mapping) and block.get("type") == "text"]
            return asking.flatten(texts if blocks else content)[0], is_result and message is messages[-1]
    return "", False


def _tool_choice(choice: Mapping[str, Any]) -> str:
    if choice.get("type") == "tool":
        return f"name:{choice.get('name', '')}"
    return _TOOL_CHOICES.get(choice.get("type", "auto"), "auto")


def _json_schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = asking.object_at(asking.object_at(body, "output_config"), "format")
    wanted = wanted or asking.object_at(body, "output_format")
    return asking.object_at(wanted, "schema") if wanted.get("type") == "json_schema" else None


def _thinking_budget(thinking: Mapping[str, Any]) -> int | None:
    if thinking.get("type") == "adaptive":
        return _DEFAULT_THINKING_TOKENS
    if thinking.get("type") != "enabled":
        return None
    budget = thinking.get("budget_tokens")
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1024:
        raise BadRequest("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    return budget


def usage_json(usage: Usage, output: int | None = None) -> dict[str, Any]:
    """The `usage` object: `input_tokens` leaves out what was read from or written to the cache."""
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output if output is None else output,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }


def _finish(choice: Choice) -> str:
    return _FINISHES.get(choice.finish, choice.finish)


def _signature(ask: Ask) -> str:
    return "".join(identifier(ask.seed, f"signature {part}", 32) for part in range(6)) + "=="


def _content(ask: Ask, answer: Answer) -> list[dict[str, Any]]:
    choice, content = answer.choices[0], []
    if answer.thinking:
        content.append({"type": "thinking", "thinking": "".join(answer.thinking), "signature": _signature(ask)})
    if choice.chunks:
        content.append({"type": "text", "text": choice.text})
    calls = [
        {"type": "tool_use", "id": call_id, "name": name, "input": _input(arguments), "caller": {"type": "direct"}}
        for call_id, name, arguments in choice.tool_calls
    ]
    return content + calls


def _input(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments


def _message(answer: Answer, content: list[Any], stop: str | None, usage: dict[str, Any] | None) -> dict[str, Any]:
    message = {
        "model": answer.model,
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": answer.choices[0].stop_sequence if stop else None,
        "stop_details": None,
        "usage": usage,
    }
    if usage is None:
        del message["usage"]
    return message


def write(ask: Ask, answer: Answer) -> bytes:
    """The body of a JSON response."""
    usage = None if answer.shown is None else usage_json(answer.shown)
    if usage is not None and answer.shown is not None and answer.thinking:
        usage["output_tokens_details"] = {"thinking_tokens": answer.shown.reasoning}
    return _encode(_message(answer, _content(ask, answer), _finish(answer.choices[0]), usage))


def _event(kind: str, tokens: int, *, carries_usage: bool = False, **fields: Any) -> Event:
    data = _encode({"type": kind, **fields})
    return Event(b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n", tokens, carries_usage)


def _delta(index: int, kind: bytes, field: bytes, chunk: str, tokens: int) -> Event:
    head = (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%s","%s":%s}}\n\n'
    )
    return Event(head % (index, kind, field, _encode(chunk)), tokens)


def write_events(ask: Ask, answer: Answer) -> Iterator[Event]:
    """The events of a stream, from `message_start` to `message_stop`."""
    shown, choice, count = answer.shown, answer.choices[0], TokenCount()
    first = None if shown is None else usage_json(shown, min(1, shown.output))
    yield _event("message_start", 0, message=_message(answer, [], None, first))
    blocks = _blocks(ask, answer, count)
    for position, event in enumerate(blocks):
        yield event
        if position == 0:
            yield _event("ping", event.output_tokens)
    delta = {"stop_reason": _finish(choice), "stop_sequence": choice.stop_sequence, "stop_details": None}
    fields: dict[str, Any] = {"delta": delta}
    if shown is not None:
        final = usage_json(shown)
        fields["usage"] = {name: final[name] for name in list(final)[:3]} | {"output_tokens": shown.output}
        if answer.thinking:
            fields["usage"]["output_tokens_details"] = {"thinking_tokens": shown.reasoning}
    yield _event("message_delta", count.total, carries_usage=shown is not None, **fields)
    yield _event("message_stop", count.total)


def _blocks(ask: Ask, answer: Answer, count: TokenCount) -> Iterator[Event]:
    index, choice = 0, answer.choices[0]
    if answer.thinking:
        block: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
        yield _event("content_block_start", count.total, index=0, content_block=block)
        for chunk in answer.thinking:
            yield _delta(0, b"thinking_delta", b"thinking", chunk, count.text(chunk))
        yield _delta(0, b"signature_delta", b"signature", _signature(ask), count.total)
        yield _event("content_block_stop", count.total, index=0)
        count.end_text()
        index = 1
    if choice.chunks:
        yield _event("content_block_start", count.total, index=index, content_block={"type": "text", "text": ""})
        for chunk in choice.chunks:
            yield _delta(index, b"text_delta", b"text", chunk, count.text(chunk))
        yield _event("content_block_stop", count.total, index=index)
        count.end_text()
        index += 1
    for number, call in enumerate(choice.tool_calls, index):
        call_id, name, arguments = call
        block = {"type": "tool_use", "id": call_id, "name": name, "input": {}, "caller": {"type": "direct"}}
        yield _event("content_block_start", count.total, index=number, content_block=block)
        done = count.tool_call(call)
        for piece in ["", *(split(arguments, 1 + len(arguments) // 8) if arguments != "{}" else ())]:
            yield _delta(number, b"input_json_delta", b"partial_json", piece, done)
        yield _event("content_block_stop", done, index=number)


def error_event(error: Mapping[str, Any], kind: str, ask: Ask, answer: Answer, position: int) -> Event:
    """An error inside a stream: `event: error`."""
    return _event("error", 0, error={"details": None, **error})


def new_id(seed: bytes, sequence: int) -> str:
    """A message id."""
    return "msg_01" + identifier(seed, f"message {sequence}", 22)
