"""Reading OpenAI Chat answers, whole and streamed."""

import pytest

from turnpike.gateway.wire import MalformedAnswerError, ToolCall

from .streams import CHAT_STREAM, CHAT_USAGE, chat_chunk, read_body, read_stream, sse


def completion(message, finish_reason="stop", **extra):
    return {
        "id": "chatcmpl-1",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
        "usage": CHAT_USAGE,
        **extra,
    }


def chat(body):
    return read_body("openai-chat", body)


def stream(*payloads):
    return read_stream("openai-chat", sse(*payloads))


def tool_delta(**call):
    return chat_chunk({"tool_calls": [call]})


def test_a_whole_answer():
    answer = chat(completion({"content": "Hello"}, service_tier="default", system_fingerprint="fp_1"))
    assert answer.text == "Hello"
    assert (answer.finish_reason, answer.provider_finish_reason) == ("stop", "stop")
    assert (answer.response_id, answer.response_model) == ("chatcmpl-1", "gpt-4o-mini-2024-07-18")
    assert (answer.service_tier, answer.system_fingerprint) == ("default", "fp_1")
    assert answer.usage == CHAT_USAGE
    assert answer.complete
    assert answer.error is None


def test_a_stream_keeps_the_usage_that_comes_after_the_finish_reason():
    answer = read_stream("openai-chat", CHAT_STREAM)
    assert answer.text == "Héllo 😀"
    assert answer.usage == CHAT_USAGE
    assert (answer.finish_reason, answer.service_tier, answer.system_fingerprint) == ("stop", "default", "fp_1")
    assert answer.complete


def test_a_refusal_is_text_and_its_own_finish_reason():
    whole = chat(completion({"content": None, "refusal": "I cannot."}))
    streamed = stream(
        chat_chunk({"refusal": "I can"}), chat_chunk({"refusal": "not."}), chat_chunk({}, "stop"), "[DONE]"
    )
    for answer in (whole, streamed):
        assert answer.text == "I cannot."
        assert (answer.finish_reason, answer.provider_finish_reason) == ("refusal", "stop")


def test_an_empty_refusal_is_none():
    assert chat(completion({"content": "4", "refusal": ""})).finish_reason == "stop"


def test_a_refusal_that_was_cut_off_is_reported_as_cut_off():
    assert chat(completion({"refusal": "I can"}, "length")).finish_reason == "length"


@pytest.mark.parametrize(
    ("provider", "common"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("error", "error"),
        ("insufficient_system_resource", "error"),
        ("something_new", "something_new"),
    ],
)
def test_finish_reasons(provider, common):
    answer = chat(completion({"content": "x"}, provider))
    assert (answer.finish_reason, answer.provider_finish_reason) == (common, provider)


def test_an_empty_finish_reason_says_nothing():
    answer = chat(completion({"content": "x"}, ""))
    assert (answer.finish_reason, answer.provider_finish_reason) == (None, None)


def test_tool_calls_of_a_whole_answer_keep_the_arguments_verbatim():
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{ "city":"Paris" }'}}
    answer = chat(completion({"content": None, "tool_calls": [call]}, "tool_calls"))
    assert answer.tool_calls == [ToolCall("call_1", "weather", '{ "city":"Paris" }')]
    assert answer.text == ""


def test_a_forced_function_call_that_ends_with_stop_is_a_tool_call():
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    answer = chat(completion({"content": None, "tool_calls": [call]}, "stop"))
    assert (answer.finish_reason, answer.provider_finish_reason) == ("tool_calls", "stop")


def test_streamed_tool_calls_are_put_together_by_index():
    answer = stream(
        tool_delta(index=0, id="call_1", type="function", function={"name": "weather", "arguments": ""}),
        tool_delta(index=0, function={"arguments": '{"city":'}),
        tool_delta(index=1, id="call_2", type="function", function={"name": "time", "arguments": ""}),
        tool_delta(index=0, function={"arguments": '"Paris"}'}),
        tool_delta(index=1, function={"arguments": "{}"}),
        chat_chunk({}, "tool_calls"),
        "[DONE]",
    )
    assert answer.tool_calls == [ToolCall("call_1", "weather", '{"city":"Paris"}'), ToolCall("call_2", "time", "{}")]


@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["one index for all", "no index"])
def test_calls_of_servers_with_poor_indexes_are_told_apart(index):
    answer = stream(
        tool_delta(**index, id="a", function={"name": "one", "arguments": "{"}),
        tool_delta(**index, function={"arguments": "}"}),
        tool_delta(**index, id="b", function={"name": "two", "arguments": "{}"}),
        "[DONE]",
    )
    assert answer.tool_calls == [ToolCall("a", "one", "{}"), ToolCall("b", "two", "{}")]


def test_arguments_sent_as_an_object_are_encoded():
    call = {"id": "a", "function": {"name": "one", "arguments": {"city": "Paris"}}}
    assert chat(completion({"tool_calls": [call]})).tool_calls == [ToolCall("a", "one", '{"city":"Paris"}')]


def test_a_custom_tool_call_carries_its_input():
    call = {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    assert chat(completion({"tool_calls": [call]})).tool_calls == [ToolCall("a", "sql", "select 1")]


def test_a_streamed_custom_tool_call_is_put_together():
    answer = stream(
        tool_delta(index=0, id="a", type="custom", custom={"name": "sql", "input": ""}),
        tool_delta(index=0, custom={"input": "select 1"}),
        "[DONE]",
    )
    assert answer.tool_calls == [ToolCall("a", "sql", "select 1")]


def test_the_legacy_function_call_is_a_tool_call_without_id():
    whole = chat(completion({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"))
    streamed = stream(
        chat_chunk({"function_call": {"name": "f", "arguments": ""}}),
        chat_chunk({"function_call": {"arguments": "{}"}}, "function_call"),
        "[DONE]",
    )
    for answer in (whole, streamed):
        assert answer.tool_calls == [ToolCall("", "f", "{}")]
        assert answer.finish_reason == "tool_calls"


def test_an_empty_legacy_function_call_is_none():
    assert chat(completion({"content": "x", "function_call": {"name": "", "arguments": ""}})).tool_calls == []


def test_of_content_parts_only_the_text_is_text():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "8"},
        {"type": "?"},
        3,
    ]
    answer = stream(chat_chunk({"content": parts[:1]}), chat_chunk({"content": parts[1:]}, "stop"), "[DONE]")
    assert answer.text == chat(completion({"content": parts})).text == "8"
    assert answer.has_reasoning


def test_a_refusal_among_the_content_parts_counts():
    answer = chat(completion({"content": [{"type": "refusal", "refusal": "No."}]}))
    assert (answer.text, answer.finish_reason) == ("No.", "refusal")


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_noted_but_is_not_text(field):
    answer = stream(chat_chunk({field: "thinking"}), chat_chunk({"content": "x", field: None}), "[DONE]")
    assert answer.text == "x"
    assert answer.has_reasoning


def test_other_choices_than_the_first_are_ignored():
    body = completion({"content": "one"})
    body["choices"].insert(0, {"index": 1, "message": {"content": "two"}, "finish_reason": "length"})
    assert (chat(body).text, chat(body).finish_reason) == ("one", "stop")
    streamed = stream(
        chat_chunk({"content": "two"}, "length", index=1), chat_chunk({"content": "one"}, "stop"), "[DONE]"
    )
    assert (streamed.text, streamed.finish_reason) == ("one", "stop")


def test_a_message_beside_a_delta_counts_in_a_body_and_not_in_a_stream():
    both = {"index": 0, "delta": {"content": ""}, "message": {"content": "Hi"}, "finish_reason": "stop"}
    assert chat({"choices": [both]}).text == "Hi"
    assert stream(chat_chunk({"content": "Hi"}), {"choices": [both]}, "[DONE]").text == "Hi"


def test_a_first_chunk_without_choices_is_read_over():
    azure = {"choices": [], "id": "", "model": "", "object": "", "prompt_filter_results": [{"prompt_index": 0}]}
    answer = stream(azure, chat_chunk({"content": "x"}, "stop"), "[DONE]")
    assert (answer.text, answer.response_id, answer.response_model) == ("x", "chatcmpl-1", "gpt-4o-mini-2024-07-18")


def test_repeated_usage_is_replaced_and_never_added():
    answer = stream(
        chat_chunk({"content": "a"}, usage={"completion_tokens": 1}),
        chat_chunk({"content": "b"}, usage={"completion_tokens": 2}),
        chat_chunk({}, "stop", usage={"completion_tokens": 3}),
        "[DONE]",
    )
    assert answer.usage == {"completion_tokens": 3}


def test_the_usage_of_groq_is_found():
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    assert stream(chat_chunk({}, "stop", x_groq={"id": "r", "usage": usage}), "[DONE]").usage == usage


def test_an_ordinary_usage_beats_the_one_of_groq():
    groq = {"usage": {"prompt_tokens": 1}}
    assert stream(chat_chunk({}, "stop", usage={"prompt_tokens": 2}, x_groq=groq)).usage == {"prompt_tokens": 2}


def test_an_error_in_the_stream_keeps_text_and_usage_and_loses_the_message():
    error = {"code": 429, "message": "SECRET prompt"}
    answer = stream(
        chat_chunk({"content": "par"}), chat_chunk({"content": "t"}, error=error, usage=CHAT_USAGE), "[DONE]"
    )
    assert (answer.text, answer.usage) == ("part", CHAT_USAGE)
    assert (answer.error.code, answer.error.type, answer.error.category) == ("429", None, "rate_limit")
    assert answer.finish_reason == "error"
    assert "SECRET" not in repr(answer)


def test_an_error_does_not_overwrite_the_finish_reason():
    answer = stream(chat_chunk({"content": "x"}, "length"), {"error": {"code": 400, "message": "m"}})
    assert answer.finish_reason == "length"
    assert answer.error.category == "invalid_request"


def test_an_error_event_alone_does_not_complete_a_stream():
    answer = stream(chat_chunk({"content": "x"}), {"error": {"type": "server_error", "message": "m"}})
    assert answer.error.category == "transient_error"
    assert not answer.complete


def test_an_error_in_a_successful_body():
    answer = chat({"error": {"code": "content_filter", "message": "SECRET", "param": "prompt"}})
    assert (answer.error.code, answer.error.category) == ("content_filter", "invalid_request")
    assert (answer.finish_reason, answer.usage, answer.complete) == ("error", None, True)


def test_a_stream_without_done_is_complete_only_if_usage_came_with_the_end():
    assert stream(chat_chunk({"content": "x"}, "stop", usage=CHAT_USAGE)).complete
    assert stream(chat_chunk({"content": "x"}, "stop"), {"choices": [], "usage": CHAT_USAGE}).complete
    assert not stream(chat_chunk({"content": "x"}, "stop")).complete
    assert not stream(chat_chunk({"content": "x"}, usage=CHAT_USAGE)).complete
    assert not stream(chat_chunk({"content": "x"}, usage=CHAT_USAGE), chat_chunk({}, "stop")).complete


def test_missing_usage_is_none_and_not_zero():
    assert stream(chat_chunk({"content": "x"}, "stop", usage=None), "[DONE]").usage is None


def test_a_body_that_is_no_chat_completion_is_refused():
    with pytest.raises(MalformedAnswerError, match="openai-chat"):
        chat({"method": "POST", "pathname": "/chat/completions"})
