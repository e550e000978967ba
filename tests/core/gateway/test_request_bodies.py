"""Whatever a conversation holds, its body is valid JSON, says what was meant, and leaves no message out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnpike.errors import InvalidRequestError
from turnpike.gateway.request_body import (
    ChatRequest,
    anthropic_messages_body,
    encode_body,
    openai_chat_body,
    openai_responses_body,
)

WRITERS = [openai_chat_body, openai_responses_body, anthropic_messages_body]

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
numbered = st.integers(0, 10**9).map(lambda number: f"marker-{number}-end")
parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), min_size=1, max_size=3)
content = texts | parts


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A conversation in which every message carries a marker of its own."""
    messages: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 6))):
        marker = f"marker-{index}-end"
        role = draw(st.sampled_from(["system", "developer", "user", "assistant", "tool", "calls"]))
        body = draw(content)
        body = f"{marker}{body}" if isinstance(body, str) else [{"type": "text", "text": marker}, *body]
        if role == "tool":
            messages.append({"role": "tool", "tool_call_id": f"call-{index}", "content": body})
        elif role == "calls":
            arguments = json.dumps({"marker": marker, "x": draw(texts)})
            call = {"id": f"call-{index}", "type": "function", "function": {"name": "f", "arguments": arguments}}
            messages.append({"role": "assistant", "content": draw(st.none() | texts), "tool_calls": [call]})
        else:
            messages.append({"role": role, "content": body})
    return messages


@pytest.mark.parametrize("write", WRITERS)
@settings(deadline=None)
@given(messages=conversations(), stream=st.booleans(), system=st.none() | texts)
def test_a_body_is_json_and_holds_every_message_in_order(
    write: Any, messages: list[dict[str, Any]], stream: bool, system: str | None
) -> None:
    options = {} if system is None else {"system": system}
    before = json.dumps(messages)
    raw = encode_body(write(ChatRequest(messages, "m", 100, options, stream)))

    body = json.loads(raw)
    text = json.dumps(body)
    positions = [text.find(f"marker-{index}-end") for index in range(len(messages))]
    assert -1 not in positions
    turns = [index for index, message in enumerate(messages) if message["role"] not in ("system", "developer")]
    in_turns = json.dumps(body.get("messages") or body.get("input"))
    found = [in_turns.find(f"marker-{index}-end") for index in turns]
    assert found == sorted(found)
    if turns:
        assert -1 not in found
    assert body.get("stream", False) is stream
    assert json.dumps(messages) == before, "the caller's messages were changed"
    if system is not None:
        assert json.dumps(system) in text


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("write", WRITERS)
@settings(deadline=None)
@given(
    message=st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
        optional={"content": json_like, "tool_calls": json_like, "tool_call_id": json_like},
    )
)
def test_a_strange_message_becomes_json_or_an_error_of_ours(write: Any, message: dict[str, Any]) -> None:
    try:
        raw = encode_body(write(ChatRequest([message], "m", 100, {}, False)))
    except InvalidRequestError:
        return
    assert isinstance(json.loads(raw), dict)


@pytest.mark.parametrize("write", WRITERS)
@settings(deadline=None)
@given(value=json_like)
def test_strange_options_become_json_or_an_error_of_ours(write: Any, value: Any) -> None:
    tools = [value] if isinstance(value, dict) else [{"function": value}]
    options = {"tools": tools, "extra": {"x": value}}
    try:
        raw = encode_body(write(ChatRequest([{"role": "user", "content": "x"}], "m", 100, options, False)))
    except InvalidRequestError:
        return
    assert isinstance(json.loads(raw), dict)


def test_consecutive_tool_results_become_one_anthropic_turn_and_others_do_not() -> None:
    def result(number: int) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": f"c{number}", "content": str(number)}

    messages = [result(1), result(2), {"role": "user", "content": "next"}, result(3)]
    turns = anthropic_messages_body(ChatRequest(messages, "m", 100))["messages"]

    assert [turn["role"] for turn in turns] == ["user", "user", "user"]
    assert [[block["tool_use_id"] for block in turn["content"]] for turn in (turns[0], turns[2])] == [
        ["c1", "c2"],
        ["c3"],
    ]


def test_anthropic_tool_calls_carry_their_arguments_as_an_object() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"city":"Zürich"}'}}
    messages = [{"role": "assistant", "content": "wait", "tool_calls": [call]}]
    [turn] = anthropic_messages_body(ChatRequest(messages, "m", 100))["messages"]

    assert turn["content"] == [
        {"type": "text", "text": "wait"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"city": "Zürich"}},
    ]


def test_anthropic_system_blocks_keep_their_cache_marks() -> None:
    block = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    body = anthropic_messages_body(
        ChatRequest([{"role": "system", "content": [block]}, {"role": "user", "content": "x"}], "m", 1)
    )

    assert body["system"] == [block]


def test_items_of_the_responses_api_pass_untouched() -> None:
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]

    assert openai_responses_body(ChatRequest(items, "m", 1))["input"] == items


def test_a_chat_stream_asks_for_its_usage() -> None:
    body = openai_chat_body(ChatRequest([{"role": "user", "content": "x"}], "m", 1, {}, True))

    assert body["stream_options"] == {"include_usage": True}
