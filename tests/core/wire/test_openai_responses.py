"""Reading OpenAI Responses answers, whole and streamed."""

import pytest

from turnpike.gateway.wire import MalformedAnswerError, ToolCall

from .streams import RESPONSE, RESPONSE_STARTED, RESPONSES_STREAM, as_dict, read_body, read_stream, sse, text_delta

FUNCTION_CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Paris"}',
}
CUSTOM_CALL = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_2", "name": "sql", "input": "select 1"}


def body(**changes):
    return read_body("openai-responses", {**RESPONSE, **changes})


def stream(*payloads, named=True):
    return read_stream("openai-responses", sse(*payloads, named=named))


def completed(**changes):
    return {"type": "response.completed", "response": {**RESPONSE, **changes}}


def message(*content):
    return {"id": "msg_1", "type": "message", "content": list(content)}


def test_a_whole_answer():
    answer = body()
    assert answer.text == "Héllo 😀"
    assert (answer.finish_reason, answer.provider_finish_reason) == ("stop", "completed")
    assert (answer.response_id, answer.response_model, answer.service_tier) == ("resp_1", RESPONSE["model"], "default")
    assert answer.usage == RESPONSE["usage"]
    assert answer.tool_usage == {"web_search": {"num_requests": 1}}
    assert answer.has_reasoning
    assert answer.complete


def test_a_stream_says_the_same_as_the_whole_answer():
    assert as_dict(read_stream("openai-responses", RESPONSES_STREAM)) == as_dict(body())


def test_only_searches_count_as_web_searches():
    items = [
        {"type": "web_search_call", "action": action} for action in ({"type": "search"}, {"type": "open_page"}, None)
    ]
    answer = body(
        output=[*items, {"type": "file_search_call"}, {"type": "code_interpreter_call"}, {"type": "mcp_call"}]
    )
    assert answer.tool_counts == {"web_search_requests": 2, "file_search_requests": 1, "code_interpreter_calls": 1}


def test_tool_counts_of_a_cut_stream_are_kept_and_those_of_a_whole_one_are_not_doubled():
    done = {
        "type": "response.output_item.done",
        "item": {"id": "ws", "type": "web_search_call", "action": {"type": "search"}},
    }
    assert stream(done).tool_counts == {"web_search_requests": 1}
    assert stream(done, completed()).tool_counts == {"web_search_requests": 1}


@pytest.mark.parametrize(
    ("changes", "finish_reason", "provider_finish_reason"),
    [
        ({"status": "complete"}, "stop", "complete"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "length",
            "max_output_tokens",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            "content_filter",
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, "steered", "steered"),
        ({"status": "incomplete", "incomplete_details": None}, "incomplete", "incomplete"),
        ({"status": "cancelled"}, "cancelled", "cancelled"),
        ({"status": "failed", "error": {"code": "server_error", "message": "m"}}, "error", "failed"),
        ({"status": None}, "stop", "completed"),
        ({"output": [FUNCTION_CALL]}, "tool_calls", "completed"),
        ({"output": [message({"type": "refusal", "refusal": "No."})]}, "refusal", "completed"),
    ],
)
def test_finish_reasons(changes, finish_reason, provider_finish_reason):
    answer = body(**changes)
    assert (answer.finish_reason, answer.provider_finish_reason) == (finish_reason, provider_finish_reason)
    assert answer.complete


def test_a_failed_response_has_an_error_without_its_message():
    answer = body(status="failed", error={"code": "rate_limit_exceeded", "message": "SECRET"}, usage=None)
    assert (answer.error.code, answer.error.category) == ("rate_limit_exceeded", "rate_limit")
    assert answer.usage is None
    assert "SECRET" not in repr(answer)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_background_response_is_not_an_answer_yet(status):
    answer = body(status=status, output=[])
    assert not answer.complete
    assert answer.usage is None
    assert answer.finish_reason is None
    assert answer.response_id == "resp_1"


def test_tool_calls_of_a_whole_answer():
    answer = body(output=[FUNCTION_CALL, CUSTOM_CALL])
    assert answer.tool_calls == [
        ToolCall("call_1", "weather", '{"city":"Paris"}'),
        ToolCall("call_2", "sql", "select 1"),
    ]


CALL_EVENTS = [
    {"type": "response.output_item.added", "item": {**FUNCTION_CALL, "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '{"city":'},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '"Paris"}'},
    {"type": "response.function_call_arguments.done", "item_id": "fc_1", "arguments": '{"city":"Paris"}'},
    {"type": "response.output_item.done", "item": FUNCTION_CALL},
]


@pytest.mark.parametrize("last", [completed(output=[FUNCTION_CALL]), completed(output=[])], ids=["repeated", "empty"])
def test_streamed_tool_calls_are_there_once(last):
    answer = stream(*CALL_EVENTS, last)
    assert answer.tool_calls == [ToolCall("call_1", "weather", '{"city":"Paris"}')]
    assert answer.finish_reason == "tool_calls"


def test_a_cut_stream_keeps_the_arguments_so_far():
    answer = stream(*CALL_EVENTS[:2])
    assert answer.tool_calls == [ToolCall("call_1", "weather", '{"city":')]
    assert not answer.complete


def test_a_call_that_is_only_done_is_read():
    assert stream(CALL_EVENTS[-1]).tool_calls == [ToolCall("call_1", "weather", '{"city":"Paris"}')]


def test_a_streamed_custom_call_is_put_together():
    answer = stream(
        {"type": "response.output_item.added", "item": {**CUSTOM_CALL, "input": ""}},
        {"type": "response.custom_tool_call_input.delta", "item_id": "ctc_1", "delta": "select 1"},
    )
    assert answer.tool_calls == [ToolCall("call_2", "sql", "select 1")]


def test_a_streamed_refusal():
    refusal = message({"type": "refusal", "refusal": "I cannot."})
    answer = stream(
        {"type": "response.refusal.delta", "delta": "I can"},
        {"type": "response.refusal.delta", "delta": "not."},
        completed(output=[refusal]),
    )
    assert (answer.text, answer.finish_reason) == ("I cannot.", "refusal")


def test_text_that_only_the_end_has_is_not_lost():
    assert stream(completed()).text == "Héllo 😀"
    assert stream(text_delta("Hél"), completed()).text == "Héllo 😀"


def test_text_already_given_out_is_not_taken_back():
    assert stream(text_delta("other"), completed()).text == "other"


def test_the_tier_is_read_at_the_end_only():
    cut = stream({"type": "response.created", "response": RESPONSE_STARTED}, text_delta("x"))
    assert cut.service_tier is None
    assert (cut.response_id, cut.response_model) == ("resp_1", RESPONSE["model"])
    assert (cut.complete, cut.usage, cut.finish_reason) == (False, None, None)


def test_an_incomplete_stream_keeps_its_usage():
    details = {"reason": "max_output_tokens"}
    response = {**RESPONSE, "status": "incomplete", "incomplete_details": details}
    answer = stream(text_delta("Hél"), {"type": "response.incomplete", "response": response})
    assert (answer.finish_reason, answer.complete, answer.usage) == ("length", True, RESPONSE["usage"])


def test_a_failed_stream_is_complete_with_an_error():
    response = {**RESPONSE_STARTED, "status": "failed", "error": {"code": "server_error", "message": "SECRET"}}
    answer = stream(text_delta("x"), {"type": "response.failed", "response": response})
    assert (answer.text, answer.finish_reason, answer.complete) == ("x", "error", True)
    assert (answer.error.code, answer.error.category) == ("server_error", "transient_error")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": "SECRET", "param": None},
        {"type": "error", "error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "SECRET"}},
    ],
    ids=["flat", "nested"],
)
def test_an_error_event_ends_the_stream_incomplete(event):
    answer = stream(text_delta("x"), event)
    assert (answer.error.code, answer.error.category) == ("rate_limit_exceeded", "rate_limit")
    assert (answer.text, answer.finish_reason, answer.complete) == ("x", "error", False)


def test_the_event_name_stands_in_for_a_missing_type():
    assert read_stream("openai-responses", b'event: response.output_text.delta\ndata: {"delta": "x"}\n\n').text == "x"


def test_unknown_events_and_odd_deltas_are_ignored():
    answer = stream(
        {"type": "response.new.delta", "delta": {"a": 1}}, {**text_delta("x"), "delta": 3}, text_delta("y"), "[DONE]"
    )
    assert (answer.text, answer.malformed_events, answer.complete) == ("y", 0, False)


def test_a_terminal_event_without_a_response_completes():
    answer = stream(text_delta("x"), {"type": "response.completed"})
    assert (answer.complete, answer.finish_reason, answer.usage) == (True, "stop", None)


def test_a_body_that_is_no_response_is_refused():
    with pytest.raises(MalformedAnswerError, match="openai-responses"):
        read_body("openai-responses", {"hello": "world"})
