"""The official OpenAI SDK reaches the simulator and understands everything it says."""

import json
from collections.abc import Iterator

import openai
import pytest

from turnpike.testing.simulator import Behaviour, Simulator, ToolCall

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"],
}
CHAT_TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
RESPONSES_TOOLS = [{"type": "function", "name": "get_weather", "parameters": WEATHER}]


@pytest.fixture(scope="module")
def sdk(running: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.openai_base_url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
def client(simulator: Simulator, sdk: openai.OpenAI) -> openai.OpenAI:
    return sdk


def test_chat_json_names_a_dated_snapshot_and_adds_up(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)

    assert answer.model == "gpt-4o-mini-2024-07-18"
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_same_conversation_gets_the_same_text_as_json_and_as_a_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True))

    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_chat_stream_tells_usage_only_when_asked_to(client: openai.OpenAI) -> None:
    asked = {"model": "gpt-4o-mini", "messages": HELLO}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_several_chat_choices_differ_and_all_count(client: openai.OpenAI) -> None:
    one = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    two = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, n=2)

    assert two.choices[0].message.content == one.choices[0].message.content != two.choices[1].message.content
    assert two.usage.completion_tokens > one.usage.completion_tokens


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_chat_limit_bounds_the_answer(client: openai.OpenAI, limit: str) -> None:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, **{limit: 3})

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3
    assert len(answer.choices[0].message.content) <= 12


def test_a_stop_sequence_ends_the_text(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Behaviour(text="one two three"))

    answer = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stop="two")

    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("one ", "stop")


def test_a_tool_named_by_the_user_is_called_and_its_result_is_answered_with_text(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Please use get_weather for me"}]
    first = client.chat.completions.create(model="gpt-4o", messages=messages, tools=CHAT_TOOLS)
    call = first.choices[0].message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model="gpt-4o", messages=messages, tools=CHAT_TOOLS)

    assert (first.choices[0].finish_reason, call.function.name) == ("tool_calls", "get_weather")
    assert isinstance(arguments["city"], str)
    assert 1 <= arguments["days"] <= 7
    assert (second.choices[0].finish_reason, second.choices[0].message.tool_calls) == ("stop", None)


def test_a_required_tool_streams_its_arguments(client: openai.OpenAI) -> None:
    asked = {"model": "gpt-4o", "messages": HELLO, "tools": CHAT_TOOLS, "tool_choice": "required"}
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls[0].function
    chunks = list(client.chat.completions.create(**asked, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]

    assert deltas[0].function.name == whole.name
    assert len(deltas) > 2
    assert "".join(delta.function.arguments for delta in deltas) == whole.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_an_azure_deployment_is_the_model(simulator: Simulator) -> None:
    azure = {"api_key": "k", "api_version": "2024-10-21", "max_retries": 0}
    with openai.AzureOpenAI(azure_endpoint=simulator.url, **azure) as client:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)

    assert answer.model == "gpt-4o-mini-2024-07-18"
    assert simulator.requests()[0].path.startswith("/openai/deployments/gpt-4o-mini/chat/completions?")


def test_structured_output_follows_its_schema(client: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER}}
    answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, response_format=wanted)

    assert set(json.loads(answer.choices[0].message.content)) == {"city", "days"}


@pytest.mark.parametrize("model", ["o3", "o4-mini", "gpt-5", "gpt-5-mini"])
def test_reasoning_models_reason_inside_their_output(client: openai.OpenAI, model: str) -> None:
    usage = client.chat.completions.create(model=model, messages=HELLO).usage

    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


def test_reasoning_can_use_up_the_whole_limit(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="o3", messages=HELLO, max_completion_tokens=10)

    assert (answer.choices[0].finish_reason, answer.choices[0].message.content) == ("length", "")
    assert answer.usage.completion_tokens_details.reasoning_tokens == answer.usage.completion_tokens == 10


def test_a_long_prompt_is_read_from_the_cache_the_second_time(client: openai.OpenAI) -> None:
    long = [{"role": "system", "content": "rules " * 1000}, *HELLO]
    usages = [client.chat.completions.create(model="gpt-4o", messages=long).usage for _ in range(2)]

    assert usages[0].prompt_tokens_details.cached_tokens == 0
    assert 1024 <= usages[1].prompt_tokens_details.cached_tokens < usages[1].prompt_tokens
    assert usages[1].prompt_tokens_details.cached_tokens % 128 == 0


def test_the_cache_belongs_to_one_key_and_one_prefix(simulator: Simulator) -> None:
    def cached(key: str, first_word: str) -> int:
        with openai.OpenAI(base_url=simulator.openai_base_url, api_key=key, max_retries=0) as client:
            messages = [{"role": "user", "content": first_word + " rules" * 1000}]
            usage = client.chat.completions.create(model="gpt-4o", messages=messages).usage
        return usage.prompt_tokens_details.cached_tokens

    assert [cached("a", "x"), cached("b", "x"), cached("a", "y")] == [0, 0, 0]
    assert cached("a", "x") > 0


def test_responses_json(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="o4-mini", input="Hello", instructions="Be brief.")

    assert (answer.status, answer.model) == ("completed", "o4-mini-2025-04-16")
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.output_text
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens


def test_responses_stream_is_numbered_and_ends_with_the_whole_response(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="gpt-4o", input="Hello")
    events = list(client.responses.create(model="gpt-4o", input="Hello", stream=True))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert (events[-1].type, events[-1].response.usage) == ("response.completed", whole.usage)


def test_a_responses_limit_leaves_it_incomplete(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="gpt-4o", input="Hello", max_output_tokens=16)
    last = list(client.responses.create(model="gpt-4o", input="Hello", max_output_tokens=16, stream=True))[-1]

    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (last.type, last.response.usage.output_tokens) == ("response.incomplete", 16)


def test_responses_calls_a_function_and_takes_its_output(client: openai.OpenAI) -> None:
    with client.responses.stream(model="gpt-4o", input="Use get_weather", tools=RESPONSES_TOOLS) as stream:
        first = stream.get_final_response()
    call = first.output[0]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    conversation = [{"role": "user", "content": "Use get_weather"}, call.model_dump(exclude_none=True), result]
    second = client.responses.create(model="gpt-4o", input=conversation, tools=RESPONSES_TOOLS)

    assert (call.type, call.name) == ("function_call", "get_weather")
    assert set(json.loads(call.arguments)) == {"city", "days"}
    assert second.output_text


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_scripted_errors_are_the_sdks_errors(
    client: openai.OpenAI, simulator: Simulator, status: int, error: type[openai.APIStatusError]
) -> None:
    simulator.script(Behaviour(status=status, retry_after="7", error_message="as scripted"))

    with pytest.raises(error, match="as scripted") as caught:
        client.responses.create(model="gpt-4o", input="Hello")

    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.request_id.startswith("req_")


def test_an_exhausted_quota_is_told_from_a_rate_limit(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Behaviour(status=429, error_code="insufficient_quota"), Behaviour(status=429))
    codes = []
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
        codes.append((caught.value.code, caught.value.type))

    assert codes == [("insufficient_quota", "insufficient_quota"), ("rate_limit_exceeded", "requests")]


def test_an_error_inside_a_stream_is_raised_by_the_sdk(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Behaviour(error_event="error", error_message="went wrong", after_events=2))
    stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)

    with pytest.raises(openai.APIError, match="went wrong"):
        list(stream)


def test_a_response_that_fails_says_so_in_its_last_event(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Behaviour(error_event="response.failed", error_message="went wrong"))

    events = list(client.responses.create(model="gpt-4o", input="Hello", stream=True))

    assert [event.sequence_number for event in events] == [0, 1, 2, 3]
    assert (events[-1].type, events[-1].response.status) == ("response.failed", "failed")
    assert events[-1].response.error.message == "went wrong"


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_in_the_place_each_format_has_for_it(
    client: openai.OpenAI, simulator: Simulator, stream: bool
) -> None:
    simulator.default(Behaviour(text="I cannot help.", finish_reason="refusal"))
    if stream:
        chunks = list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
        refusal = "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks)
        part = list(client.responses.create(model="gpt-4o", input="Hi", stream=True))[-1].response.output[0].content[0]
    else:
        refusal = client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.refusal
        part = client.responses.create(model="gpt-4o", input="Hi").output[0].content[0]

    assert refusal == part.refusal == "I cannot help."


def test_scripted_tool_calls_arrive_in_parallel(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Behaviour(tool_calls=(ToolCall("a", {"x": 1}), ToolCall("b", '{"broken'))))

    calls = client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.tool_calls

    assert [(call.function.name, call.function.arguments) for call in calls] == [("a", '{"x":1}'), ("b", '{"broken')]
