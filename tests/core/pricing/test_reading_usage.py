"""A provider's usage becomes counts that add up, or says why it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.pricing import APIS, NOTES, read_usage
from turnpike.usage import UsageVector

CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20, "audio_tokens": 0, "image_tokens": 7},
    "completion_tokens_details": {"reasoning_tokens": 25, "audio_tokens": 0},
}
RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
    "output_tokens": 40,
    "output_tokens_details": {"reasoning_tokens": 25},
}
ANTHROPIC = {
    "input_tokens": 50,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 20,
    "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 8},
    "output_tokens": 40,
    "output_tokens_details": {"thinking_tokens": 25},
    "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 2},
}
CONVERSE = {
    "inputTokens": 50,
    "outputTokens": 40,
    "cacheReadInputTokens": 30,
    "cacheWriteInputTokens": 20,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 12}, {"ttl": "1h", "inputTokens": 8}],
    "totalTokens": 140,
}


@pytest.mark.parametrize(
    ("api", "usage", "expected"),
    [
        ("openai-chat", CHAT, UsageVector(100, 40, cache_read=30, cache_write_5m=20, image_in=7, reasoning=25)),
        ("openai-responses", RESPONSES, UsageVector(100, 40, cache_read=30, cache_write_5m=20, reasoning=25)),
        (
            "anthropic-messages",
            ANTHROPIC,
            UsageVector(
                100, 40, cache_read=30, cache_write_5m=12, cache_write_1h=8, reasoning=25, web_search_requests=3
            ),
        ),
        ("bedrock-converse", CONVERSE, UsageVector(100, 40, cache_read=30, cache_write_5m=12, cache_write_1h=8)),
        ("openai-embeddings", {"prompt_tokens": 9, "total_tokens": 9}, UsageVector(9, 0)),
    ],
)
def test_the_whole_input_is_counted_for_every_format(api: str, usage: dict[str, Any], expected: UsageVector) -> None:
    assert read_usage(usage, api) == (expected, ())


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, {"total_tokens": 0}])
def test_missing_usage_is_not_zero(usage: object) -> None:
    assert read_usage(usage, "openai-chat") == (None, ("no_usage",))


def test_tokens_that_only_the_total_knows_are_named() -> None:
    usage = {"prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100}
    assert read_usage(usage, "openai-chat") == (UsageVector(66, 6), ("tokens_unaccounted",))


def test_a_reported_zero_is_a_zero() -> None:
    vector, notes = read_usage({"prompt_tokens": 0, "completion_tokens": 0}, "openai-chat")
    assert (vector, notes) == (UsageVector(0, 0), ())


def test_missing_output_stays_missing() -> None:
    assert read_usage({"prompt_tokens": 5}, "openai-chat") == (UsageVector(5, None), ("output_tokens_missing",))
    assert read_usage({"output_tokens": 5}, "anthropic-messages") == (
        UsageVector(None, 5),
        ("input_tokens_missing",),
    )


def test_cache_writes_without_a_split_live_five_minutes() -> None:
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 20, "output_tokens": 1}
    vector, notes = read_usage(usage, "anthropic-messages")
    assert vector == UsageVector(21, 1, cache_write_5m=20)
    assert notes == ()


def test_writes_that_the_split_leaves_out_are_named() -> None:
    usage = ANTHROPIC | {"cache_creation_input_tokens": 25}
    vector, notes = read_usage(usage, "anthropic-messages")
    assert vector is not None
    assert (vector.tokens_in, vector.cache_write_5m, vector.cache_write_1h) == (105, 17, 8)
    assert notes == ("cache_split_incomplete",)


def test_a_split_stands_for_a_missing_total() -> None:
    usage = {key: value for key, value in ANTHROPIC.items() if key != "cache_creation_input_tokens"}
    vector, _ = read_usage(usage, "anthropic-messages")
    assert vector is not None
    assert vector.tokens_in == 100


@pytest.mark.parametrize(
    ("api", "usage", "totals"),
    [
        ("openai-chat", CHAT | {"prompt_tokens_details": {"cached_tokens": 500}}, UsageVector(100, 40)),
        ("openai-chat", CHAT | {"prompt_tokens_details": {"audio_tokens": 101}}, UsageVector(100, 40)),
        ("openai-chat", CHAT | {"completion_tokens_details": {"audio_tokens": 41}}, UsageVector(100, 40)),
        ("openai-responses", RESPONSES | {"output_tokens_details": {"reasoning_tokens": 41}}, UsageVector(100, 40)),
        ("anthropic-messages", ANTHROPIC | {"cache_creation_input_tokens": 3}, UsageVector(83, 40)),
    ],
)
def test_parts_that_do_not_fit_are_dropped_and_not_clamped(
    api: str, usage: dict[str, Any], totals: UsageVector
) -> None:
    assert read_usage(usage, api) == (totals, ("inconsistent_usage",))


@pytest.mark.parametrize("count", [-1, 1.5, True, "12", [1], float("inf"), float("nan")])
def test_an_unreadable_total_leaves_nothing(count: object) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 5}
    assert read_usage(usage, "openai-chat") == (None, ("malformed_usage",))


@pytest.mark.parametrize("details", ["text", {"cached_tokens": "many"}, {"cached_tokens": -3}, [1]])
def test_an_unreadable_part_leaves_the_totals(details: object) -> None:
    assert read_usage(CHAT | {"prompt_tokens_details": details}, "openai-chat") == (
        UsageVector(100, 40),
        ("malformed_usage",),
    )
    usage = ANTHROPIC | {"cache_creation": details if isinstance(details, str) else {"ephemeral_1h_input_tokens": "x"}}
    assert read_usage(usage, "anthropic-messages") == (UsageVector(100, 40), ("malformed_usage",))


@pytest.mark.parametrize("usage", [["prompt_tokens"], "prompt_tokens", 7])
def test_a_usage_that_is_no_object_is_malformed(usage: object) -> None:
    assert read_usage(usage, "openai-chat") == (None, ("malformed_usage",))


def test_whole_numbers_written_as_floats_are_read() -> None:
    usage = {"prompt_tokens": 10.0, "completion_tokens": 5.0, "prompt_tokens_details": {"cached_tokens": 4.0}}
    assert read_usage(usage, "openai-chat") == (UsageVector(10, 5, cache_read=4), ())


def test_reasoning_counted_beside_the_output_is_added_when_the_total_says_so() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    assert read_usage(usage, "openai-chat") == (UsageVector(10, 105, reasoning=100), ())


@pytest.mark.parametrize("field", ["cached_tokens", "prompt_cache_hit_tokens"])
def test_cache_reads_of_compatible_providers_are_found(field: str) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, field: 8}
    assert read_usage(usage, "openai-chat") == (UsageVector(10, 5, cache_read=8), ())


def test_cached_audio_is_read() -> None:
    details = {"cached_tokens": 6, "audio_tokens": 5, "cached_tokens_details": {"audio_tokens": 2}}
    vector, _ = read_usage(
        {"input_tokens": 10, "output_tokens": 0, "input_tokens_details": details}, "openai-responses"
    )
    assert vector == UsageVector(10, 0, cache_read=6, audio_in=5, cache_audio_read=2)


def test_tool_calls_are_counted_by_field_or_by_item_type() -> None:
    counts = {
        "web_search_call": 2,
        "web_search_preview_call": 1,
        "file_search_requests": 4,
        "code_interpreter_call": 1,
        "mcp_call": 9,
        "shell_call": 0,
    }
    vector, notes = read_usage(RESPONSES, "openai-responses", counts)
    assert vector is not None
    assert (vector.web_search_requests, vector.file_search_requests, vector.code_interpreter_calls) == (3, 4, 1)
    assert notes == ()


def test_a_tool_without_a_known_fee_is_named_in_plain_letters() -> None:
    _, notes = read_usage(RESPONSES, "openai-responses", {"Image Generation\n\x1b[31m": 1})
    assert notes == ("tool_fee_unknown:image_generation___31m",)


def test_counts_in_the_usage_go_before_those_of_the_caller() -> None:
    vector, _ = read_usage(ANTHROPIC, "anthropic-messages", {"web_search_requests": 99})
    assert vector is not None
    assert vector.web_search_requests == 3


def test_an_unknown_format_is_named() -> None:
    assert read_usage(CHAT, "smoke-signals") == (None, ("unknown_api",))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted({*CHAT, *RESPONSES, *ANTHROPIC, *CONVERSE}))
DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "ephemeral_1h_input_tokens", "reasoning_tokens"]),
    st.integers(-5, 200) | JUNK,
)


@given(
    usage=st.dictionaries(FIELDS, st.integers(-5, 10**25) | DETAILS | JUNK) | JUNK, api=st.sampled_from(sorted(APIS))
)
def test_nothing_a_provider_sends_raises_and_every_vector_adds_up(usage: object, api: str) -> None:
    vector, notes = read_usage(usage, api)
    assert all(note.partition(":")[0] in NOTES for note in notes)
    if vector is None:
        assert notes
    else:
        assert vector.problems() == ()
        assert vector.cache_audio_read <= min(vector.audio_in, vector.cache_read)
