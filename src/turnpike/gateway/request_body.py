"""Request bodies: one conversation and its options, written in each provider API's own form.

Conversations are in the shape of OpenAI's Chat Completions, the form that most applications hold; parts that are already
in a provider's own form pass through untouched. The bodies are plain JSON data; nothing here sends or imports anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from turnpike.errors import InvalidRequestError
from turnpike.gateway.options import Message

__all__ = ["ChatRequest", "anthropic_messages_body", "encode_body", "openai_chat_body", "openai_responses_body"]


@dataclass(slots=True)
class ChatRequest:
    """What one attempt asks of a provider."""

    messages: Sequence[Message] = field(repr=False)
    model: str
    max_output_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Generation options that were set; see ``GENERATION_OPTIONS``."""
    stream: bool = False


def encode_body(body: Mapping[str, Any]) -> bytes:
    """Encode a request body as JSON.

    Raises:
        InvalidRequestError: if it holds something that JSON cannot, before anything is sent.
    """
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise InvalidRequestError("A message holds a lone surrogate, which is not valid Unicode text.") from None
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        # msgspec names only types here, never values.
        raise InvalidRequestError(f"The messages or options cannot be written as JSON: {error}.") from None


def _add_options(body: dict[str, Any], options: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for name, key in names.items():
        if (value := options.get(name)) is not None:
            body[key] = value


def _stop_list(stop: str | Sequence[str]) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop)


# ---------------------------------------------------------------------------------------------- Chat Completions


def openai_chat_body(request: ChatRequest) -> dict[str, Any]:
    """Return the body for ``POST /chat/completions``. A stream asks for its usage chunk."""
    options = request.options
    messages: Sequence[Message] = request.messages
    if system := options.get("system"):
        messages = [{"role": "system", "content": system}, *messages]
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "max_completion_tokens": request.max_output_tokens,
    }
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if options:
        _add_options(body, options, _CHAT_NAMES)
        if (choice := options.get("tool_choice")) is not None:
            body["tool_choice"] = _tool_choice(choice, lambda name: {"type": "function", "function": {"name": name}})
        body.update(options.get("extra") or {})
    return body


_CHAT_NAMES = {
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "seed": "seed",
    "tools": "tools",
    "response_format": "response_format",
    "reasoning_effort": "reasoning_effort",
}


def _tool_choice(choice: str | Mapping[str, Any], named: Callable[[str], dict[str, Any]]) -> Any:
    if isinstance(choice, Mapping) or choice in ("auto", "none", "required"):
        return choice
    return named(choice)


# ---------------------------------------------------------------------------------------------------- Responses


def openai_responses_body(request: ChatRequest) -> dict[str, Any]:
    """Return the body for ``POST /responses``. Tool calls and results become items of the input."""
    options = request.options
    body: dict[str, Any] = {
        "model": request.model,
        "input": [item for message in request.messages for item in _responses_items(message)],
        "max_output_tokens": request.max_output_tokens,
    }
    if request.stream:
        body["stream"] = True
    if options:
        _add_options(body, options, {"temperature": "temperature", "top_p": "top_p", "system": "instructions"})
        if tools := options.get("tools"):
            body["tools"] = [_responses_tool(tool) for tool in tools]
        if (choice := options.get("tool_choice")) is not None:
            body["tool_choice"] = _tool_choice(choice, lambda name: {"type": "function", "name": name})
        if response_format := options.get("response_format"):
            body["text"] = {"format": _responses_format(response_format)}
        if effort := options.get("reasoning_effort"):
            body["reasoning"] = {"effort": effort}
        body.update(options.get("extra") or {})
    return body


def _responses_items(message: Message) -> list[Mapping[str, Any]]:
    if "role" not in message:
        return [message]
    if message["role"] == "tool":
        output = message.get("content")
        return [{"type": "function_call_output", "call_id": message.get("tool_call_id", ""), "output": output}]
    calls = message.get("tool_calls")
    if not calls:
        return [message]
    items: list[Mapping[str, Any]] = []
    if message.get("content"):
        items.append({"role": message["role"], "content": message["content"]})
    for call_id, name, arguments in _calls_of(message):
        items.append({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments})
    return items


def _calls_of(message: Message) -> list[tuple[str, str, str]]:
    """Return id, name and JSON arguments of each tool call of an assistant's message."""
    calls = message["tool_calls"]
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise InvalidRequestError("tool_calls must be a list of tool calls.")
    return [_call_parts(index, call) for index, call in enumerate(calls)]


def _call_parts(index: int, call: Any) -> tuple[str, str, str]:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not isinstance(function, Mapping):
        raise InvalidRequestError(
            f"tool_calls[{index}] must be {{'id': ..., 'type': 'function', 'function': {{'name': ..., 'arguments': ...}}}}."
        )
    arguments = function.get("arguments") or "{}"
    if not isinstance(arguments, str):
        raise InvalidRequestError(f"tool_calls[{index}].function.arguments must be JSON text, as the model wrote it.")
    return str(call.get("id") or ""), name, arguments


def _responses_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    return {"type": "function", **function} if isinstance(function, Mapping) else tool


def _responses_format(response_format: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = response_format.get("json_schema")
    return {"type": "json_schema", **schema} if isinstance(schema, Mapping) else response_format


# ----------------------------------------------------------------------------------------------------- Messages


def anthropic_messages_body(request: ChatRequest) -> dict[str, Any]:
    """Return the body for ``POST /v1/messages``.

    System messages are lifted out of the conversation, because the API refuses that role inside it. Tool results become
    content blocks of a user turn, consecutive ones of one turn.
    """
    options = request.options
    system, turns = _anthropic_turns(request.messages)
    if text := options.get("system"):
        system.insert(0, {"type": "text", "text": text})
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "messages": turns,
    }
    if system:
        plain = len(system) == 1 and set(system[0]) == {"type", "text"}
        body["system"] = system[0]["text"] if plain else system
    if request.stream:
        body["stream"] = True
    if options:
        _add_anthropic_options(body, options)
        body.update(options.get("extra") or {})
    return body


def _add_anthropic_options(body: dict[str, Any], options: Mapping[str, Any]) -> None:
    _add_options(body, options, {"temperature": "temperature", "top_p": "top_p"})
    if (stop := options.get("stop")) is not None:
        body["stop_sequences"] = _stop_list(stop)
    if tools := options.get("tools"):
        body["tools"] = [_anthropic_tool(tool) for tool in tools]
    if (choice := options.get("tool_choice")) is not None:
        body["tool_choice"] = _anthropic_tool_choice(choice)
    output: dict[str, Any] = {}
    if effort := options.get("reasoning_effort"):
        output["effort"] = effort
    if response_format := options.get("response_format"):
        output["format"] = _anthropic_format(response_format)
    if output:
        body["output_config"] = output


def _anthropic_turns(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[Mapping[str, Any]]]:
    system: list[dict[str, Any]] = []
    turns: list[Mapping[str, Any]] = []
    results: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        role = message.get("role")
        if role == "tool":
            if not results:
                turns.append({"role": "user", "content": results})
            results.append(_tool_result(message))
            continue
        results = []
        if role in ("system", "developer"):
            system.extend(_text_blocks(index, message.get("content")))
        elif message.get("tool_calls"):
            turns.append({"role": role, "content": _tool_uses(index, message)})
        else:
            turns.append(message)
    return system, turns


def _text_blocks(index: int, content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None:
        return []
    if not isinstance(content, Sequence) or not all(isinstance(block, Mapping) for block in content):
        raise InvalidRequestError(f"messages[{index}].content must be text or a list of content blocks (mappings).")
    return [dict(block) for block in content]


def _tool_result(message: Message) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": message.get("tool_call_id", ""), "content": message.get("content")}


def _tool_uses(index: int, message: Message) -> list[dict[str, Any]]:
    blocks = _text_blocks(index, message.get("content"))
    for number, (call_id, name, arguments) in enumerate(_calls_of(message)):
        try:
            parsed = msgspec.json.decode(arguments)
        except msgspec.DecodeError:
            raise InvalidRequestError(f"tool_calls[{number}] ({name}) has arguments that are not JSON.") from None
        blocks.append({"type": "tool_use", "id": call_id, "name": name, "input": parsed})
    return blocks


def _anthropic_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return tool
    translated: dict[str, Any] = {
        "name": function.get("name"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    if description := function.get("description"):
        translated["description"] = description
    return translated


def _anthropic_tool_choice(choice: str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(choice, Mapping):
        function = choice.get("function")
        return {"type": "tool", "name": function.get("name")} if isinstance(function, Mapping) else choice
    words = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}
    return words.get(choice) or {"type": "tool", "name": choice}


def _anthropic_format(response_format: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = response_format.get("json_schema")
    if isinstance(schema, Mapping):
        return {"type": "json_schema", "schema": schema.get("schema")}
    if response_format.get("type") == "json_object":
        raise InvalidRequestError(
            "Anthropic has no JSON mode without a schema: use response_format={'type': 'json_schema', ...}."
        )
    return response_format
