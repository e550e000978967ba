"""Reading Anthropic Messages answers, whole and streamed."""

import pytest

from turnpike.gateway.wire import MalformedAnswerError, ToolCall

from .streams import ANTHROPIC_STREAM, MESSAGE_START, START_USAGE, block_delta, block_start, read_body, read_stream, sse

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 3, "service_tier": "standard"},
}


def body(**changes):
    return read_body("anthropic-messages", {**MESSAGE, **changes})


def stream(*payloads):
    return read_stream("anthropic-messages", sse(*payloads, named=True))


def test_a_whole_answer():
    answer = body()
    assert answer.text == "Hello"
    assert (answer.finish_reason, answer.provider_finish_reason) == ("stop", "end_turn")
    assert (answer.response_id, answer.response_model, answer.service_tier) == ("msg_1", MESSAGE["model"], "standard")
    assert answer.usage == MESSAGE["usage"]
    assert answer.complete
    assert not answer.has_reasoning


def test_all_text_blocks_are_the_text_and_nothing_else_is():
    answer = body(
        content=[
            {"type": "thinking", "thinking": "hidden", "signature": "s"},
            {"type": "text", "text": "one "},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]},
            {"type": "text", "text": "two"},
        ]
    )
    assert (answer.text, answer.tool_calls, answer.has_reasoning) == ("one two", [], True)


def test_tool_input_is_encoded_compactly():
    tool = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris", "days": [1, 2]}}
    answer = body(content=[tool, {**tool, "id": "toolu_2", "input": {}}], stop_reason="tool_use")
    assert answer.tool_calls == [
        ToolCall("toolu_1", "weather", '{"city":"Paris","days":[1,2]}'),
        ToolCall("toolu_2", "weather", "{}"),
    ]
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("provider", "common"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "refusal"),
        ("pause_turn", "pause"),
        ("compaction", "pause"),
        ("something_new", "something_new"),
    ],
)
def test_finish_reasons(provider, common):
    answer = body(stop_reason=provider)
    assert (answer.finish_reason, answer.provider_finish_reason) == (common, provider)


def test_a_stream():
    answer = read_stream("anthropic-messages", ANTHROPIC_STREAM)
    assert answer.text == "Héllo 😀"
    assert answer.tool_calls == [ToolCall("toolu_1", "weather", '{"city": "Paris"}')]
    assert (answer.finish_reason, answer.provider_finish_reason) == ("tool_calls", "tool_use")
    assert (answer.response_id, answer.service_tier) == ("msg_1", "standard")
    assert answer.has_reasoning
    assert answer.complete


def test_the_usage_of_a_delta_replaces_key_by_key_and_its_nulls_are_skipped():
    assert read_stream("anthropic-messages", ANTHROPIC_STREAM).usage == {
        "input_tokens": 30,
        "cache_read_input_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 20,
        "service_tier": "standard",
    }


def test_text_at_the_start_of_a_block_is_kept():
    assert (
        stream(MESSAGE_START, block_start(0, type="text", text="A"), block_delta(0, "text_delta", text="B")).text
        == "AB"
    )


def test_a_streamed_tool_without_input_deltas_has_the_input_of_its_start():
    answer = stream(
        block_start(0, type="tool_use", id="a", name="now", input={}),
        block_start(1, type="tool_use", id="b", name="later", input={"hours": 1}),
        block_start(2, type="tool_use", id="c", name="never"),
    )
    assert answer.tool_calls == [
        ToolCall("a", "now", "{}"),
        ToolCall("b", "later", '{"hours":1}'),
        ToolCall("c", "never", "{}"),
    ]


def test_a_cut_stream_keeps_what_arrived_and_is_not_complete():
    answer = stream(MESSAGE_START, block_start(0, type="text", text=""), block_delta(0, "text_delta", text="par"))
    assert (answer.text, answer.usage, answer.complete, answer.finish_reason) == ("par", START_USAGE, False, None)


def test_an_error_event_keeps_what_arrived_and_loses_the_message():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "SECRET", "details": None}}
    answer = stream(MESSAGE_START, block_delta(0, "text_delta", text="par"), error)
    assert (answer.error.type, answer.error.category) == ("overloaded_error", "transient_error")
    assert (answer.text, answer.usage, answer.complete, answer.finish_reason) == ("par", START_USAGE, False, "error")
    assert "SECRET" not in repr(answer)


def test_the_event_name_stands_in_for_a_missing_type():
    assert (
        read_stream("anthropic-messages", b'event: content_block_delta\ndata: {"delta": {"text": "x"}}\n\n').text == "x"
    )


def test_events_with_parts_missing_are_harmless():
    kinds = ("message_start", "content_block_start", "content_block_delta", "message_delta", "new_event")
    answer = stream(*({"type": kind} for kind in kinds), {"type": "message_stop"})
    assert (answer.text, answer.usage, answer.complete, answer.malformed_events) == ("", None, True, 0)


def test_an_error_in_a_successful_body():
    answer = read_body("anthropic-messages", {"type": "error", "error": {"type": "api_error", "message": "SECRET"}})
    assert (answer.error.type, answer.error.category, answer.finish_reason) == ("api_error", "transient_error", "error")


def test_a_body_that_is_no_message_is_refused():
    with pytest.raises(MalformedAnswerError, match="anthropic-messages"):
        read_body("anthropic-messages", {"input_tokens": 12})
