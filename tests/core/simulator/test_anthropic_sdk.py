"""The official Anthropic SDK reaches the simulator and understands everything it says."""

from collections.abc import Iterator

import anthropic
import pytest

from turnpike.testing.simulator import Behaviour, Simulator

HELLO = [{"role": "user", "content": "Hello"}]
HAIKU = {"model": "claude-haiku-4-5", "max_tokens": 4000}
TOOLS = [
    {
        "name": "get_weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


@pytest.fixture(scope="module")
def sdk(running: Simulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.anthropic_base_url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
def client(simulator: Simulator, sdk: anthropic.Anthropic) -> anthropic.Anthropic:
    return sdk


def test_json_and_stream_say_the_same(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**HAIKU, messages=HELLO)
    with client.messages.stream(**HAIKU, messages=HELLO) as stream:
        streamed = stream.get_final_message()

    assert whole.model == "claude-haiku-4-5-20251001"
    assert (whole.stop_reason, whole.content[0].text) == (streamed.stop_reason, streamed.content[0].text)
    assert whole.usage.output_tokens == streamed.usage.output_tokens


def test_a_stream_has_the_vendors_events_in_order(client: anthropic.Anthropic) -> None:
    kinds = [event.type for event in client.messages.create(**HAIKU, messages=HELLO, stream=True)]

    assert kinds[0] == "message_start"
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) <= {"ping", "content_block_delta"}


def test_thinking_comes_first_and_counts_as_output(client: anthropic.Anthropic) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    whole = client.messages.create(**HAIKU, messages=HELLO, thinking=thinking)
    with client.messages.stream(**HAIKU, messages=HELLO, thinking=thinking) as stream:
        streamed = stream.get_final_message()

    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert [block.type for block in streamed.content] == ["thinking", "text"]
    assert whole.content[0].signature == streamed.content[0].signature != ""
    assert 0 < whole.usage.output_tokens_details.thinking_tokens < whole.usage.output_tokens


def test_a_tool_is_used_and_its_result_is_answered_with_text(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**HAIKU, messages=HELLO, tools=TOOLS, tool_choice={"type": "any"}) as stream:
        first = stream.get_final_message()
    used = first.content[0]
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used.id, "content": "sunny"}]}
    answered = {"role": "assistant", "content": [used.model_dump(include={"type", "id", "name", "input"})]}
    second = client.messages.create(**HAIKU, messages=[*HELLO, answered, result], tools=TOOLS)

    assert (first.stop_reason, used.type, used.name) == ("tool_use", "tool_use", "get_weather")
    assert isinstance(used.input["city"], str)
    assert (second.stop_reason, second.content[0].type) == ("end_turn", "text")


def test_cache_breakpoints_are_written_by_their_ttl_and_then_read(client: anthropic.Anthropic) -> None:
    def block(word: str, ttl: str) -> dict[str, object]:
        return {"type": "text", "text": word * 6000, "cache_control": {"type": "ephemeral", "ttl": ttl}}

    system = [block("a", "1h"), block("b", "5m")]
    first, second = (client.messages.create(**HAIKU, messages=HELLO, system=system).usage for _ in range(2))

    # 6000 letters and "system\n" are 6007 bytes: 1502 tokens, and 4 more for each block.
    assert first.cache_creation.ephemeral_1h_input_tokens == 1506
    assert first.cache_creation.ephemeral_5m_input_tokens == 1506
    assert (first.cache_read_input_tokens, first.cache_creation_input_tokens) == (0, 3012)
    assert (second.cache_read_input_tokens, second.cache_creation_input_tokens) == (3012, 0)
    assert first.input_tokens == second.input_tokens


def test_max_tokens_and_stop_sequences_end_the_text(client: anthropic.Anthropic, simulator: Simulator) -> None:
    short = client.messages.create(model="claude-haiku-4-5", max_tokens=2, messages=HELLO)
    simulator.script(Behaviour(text="one two three"))
    stopped = client.messages.create(**HAIKU, messages=HELLO, stop_sequences=["three", "two"])

    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)
    assert (stopped.stop_reason, stopped.stop_sequence, stopped.content[0].text) == ("stop_sequence", "two", "one ")


def test_a_system_message_belongs_at_the_top(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="top-level `system` parameter"):
        client.messages.create(**HAIKU, messages=[{"role": "system", "content": "Be brief."}, *HELLO])


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (400, "invalid_request_error", "false"),
        (401, "authentication_error", "false"),
        (403, "permission_error", "false"),
        (404, "not_found_error", "false"),
        (413, "request_too_large", "false"),
        (429, "rate_limit_error", "true"),
        (500, "api_error", "true"),
        (529, "overloaded_error", "true"),
    ],
)
def test_scripted_errors_have_the_vendors_types(
    client: anthropic.Anthropic, simulator: Simulator, status: int, kind: str, retry: str
) -> None:
    simulator.script(Behaviour(status=status))

    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**HAIKU, messages=HELLO)

    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.body["request_id"] == caught.value.request_id
    assert caught.value.response.headers["x-should-retry"] == retry


def test_an_overload_inside_a_stream_is_raised_by_the_sdk(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.script(Behaviour(error_event="error"))

    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(client.messages.create(**HAIKU, messages=HELLO, stream=True))


def test_a_refusal_is_a_stop_reason(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.default(Behaviour(text="No.", finish_reason="refusal"))

    assert client.messages.create(**HAIKU, messages=HELLO).stop_reason == "refusal"


def test_the_prefix_without_v1_works_too(simulator: Simulator) -> None:
    with anthropic.Anthropic(base_url=simulator.url + "/opt/text=yes", api_key="k", max_retries=0) as client:
        assert client.messages.create(**HAIKU, messages=HELLO).content[0].text == "yes"
