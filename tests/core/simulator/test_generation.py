"""Properties of what is generated: bounded, stable, and the same on the wire and on the bill."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnpike.testing.simulator.arguments import instance_of
from turnpike.testing.simulator.behaviour import Behaviour
from turnpike.testing.simulator.bill_book import Usage
from turnpike.testing.simulator.composing import compose
from turnpike.testing.simulator.generation import Answer, bounded, prompt_tokens, split, tokens_of, words
from turnpike.testing.simulator.wire_formats import BY_API

APIS = st.sampled_from(sorted(BY_API))
MODELS = st.sampled_from(["gpt-4o", "o3", "gpt-5", "claude-haiku-4-5"])
LIMITS = st.none() | st.integers(1, 300)
TOOL = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def request(api: str, model: str, prompt: str, limit: int | None, *, tool: bool, think: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model}
    body["input" if api == "openai-responses" else "messages"] = [{"role": "user", "content": prompt}]
    limits = {"openai-chat": "max_completion_tokens", "openai-responses": "max_output_tokens"}
    if limit is not None or api == "anthropic-messages":
        body[limits.get(api, "max_tokens")] = 1000 if limit is None else limit
    if tool and api == "openai-chat":
        body |= {"tools": [{"function": {"name": "f", "parameters": TOOL}}], "tool_choice": "required"}
    elif tool and api == "openai-responses":
        body |= {"tools": [{"type": "function", "name": "f", "parameters": TOOL}], "tool_choice": "required"}
    elif tool:
        body |= {"tools": [{"name": "f", "input_schema": TOOL}], "tool_choice": {"type": "any"}}
    if think and api == "anthropic-messages":
        body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return body


def answer_to(api: str, body: dict[str, Any], behaviour: Behaviour) -> tuple[Any, Answer]:
    ask = BY_API[api].read(body)
    return ask, compose(ask, behaviour, Usage(input=prompt_tokens(ask.segments)), "id", 0)


@settings(max_examples=150, deadline=None)
@given(
    api=APIS,
    model=MODELS,
    prompt=st.text(max_size=50),
    limit=LIMITS,
    tool=st.booleans(),
    think=st.booleans(),
    text=st.none() | st.text(st.characters(codec="utf-8"), max_size=200),
    chunks=st.none() | st.integers(1, 50),
)
def test_an_answer_keeps_its_limit_and_its_stream_counts_up_to_its_usage(
    api: str, model: str, prompt: str, limit: int | None, tool: bool, think: bool, text: str | None, chunks: int | None
) -> None:
    body = request(api, model, prompt, limit, tool=tool, think=think)
    ask, answer = answer_to(api, body, Behaviour(text=text, chunks=chunks))
    _, again = answer_to(api, body, Behaviour(text=text, chunks=chunks))
    events = list(BY_API[api].write_events(ask, answer))
    counts = [event.output_tokens for event in events]

    assert again == answer
    assert 0 <= answer.usage.reasoning <= answer.usage.output
    assert limit is None or answer.usage.output <= limit
    assert counts == sorted(counts)
    assert counts[-1] == answer.usage.output
    json.loads(BY_API[api].write(ask, answer))


@given(text=st.text(st.characters(codec="utf-8")), count=st.integers(1, 40))
def test_splitting_loses_nothing(text: str, count: int) -> None:
    pieces = split(text, count)

    assert "".join(pieces) == text
    assert len(pieces) == max(1, min(count, len(text)))


@given(chunks=st.lists(st.text(st.characters(codec="utf-8"), min_size=1)), limit=st.integers(0, 50))
def test_bounding_keeps_a_prefix_within_the_limit(chunks: list[str], limit: int) -> None:
    kept, cut = bounded(chunks, limit)

    assert "".join(chunks).startswith("".join(kept))
    assert tokens_of("".join(kept)) <= limit
    assert cut == (list(kept) != chunks)


@given(seed=st.binary(min_size=16, max_size=16), count=st.integers(1, 300))
def test_words_are_as_many_as_asked_for(seed: bytes, count: int) -> None:
    prose = "".join(words(seed, count))

    assert len(prose.split(" ")) == count
    assert prose.endswith(".")


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ééé", 2)])
def test_a_token_is_four_bytes(text: str, tokens: int) -> None:
    assert tokens_of(text) == tokens


@pytest.mark.parametrize(
    ("schema", "check"),
    [
        ({"type": "string", "enum": ["a", "b"]}, lambda value: value in {"a", "b"}),
        ({"const": 7}, lambda value: value == 7),
        ({"default": "d", "type": "string"}, lambda value: value == "d"),
        ({"type": "string", "format": "date"}, lambda value: value == "2026-11-21"),
        ({"type": "string", "minLength": 20, "maxLength": 22}, lambda value: 20 <= len(value) <= 22),
        ({"type": "integer", "minimum": 5, "maximum": 6}, lambda value: value in {5, 6}),
        ({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7}, lambda value: value == 6),
        ({"type": "number"}, lambda value: value >= 0),
        ({"type": "boolean"}, lambda value: isinstance(value, bool)),
        ({"type": ["null", "string"]}, lambda value: isinstance(value, str)),
        ({"type": "null"}, lambda value: value is None),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, lambda value: len(value) == 2),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, lambda value: isinstance(value, bool)),
        ({"allOf": [{"type": "object"}, {"required": ["x"]}]}, lambda value: value == {"x": None}),
        ({"properties": {"x": {"type": "integer"}}, "required": []}, lambda value: value == {}),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"const": 3}}}, lambda value: value == 3),
        ({"type": "mystery"}, lambda value: value is None),
    ],
)
def test_arguments_satisfy_their_schema(schema: dict[str, Any], check: Any) -> None:
    assert check(instance_of(schema, b"0123456789abcdef"))


def test_a_schema_that_contains_itself_ends() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}

    assert "next" in instance_of(schema, b"0123456789abcdef")
