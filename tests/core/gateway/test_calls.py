"""What a call returns and what it leaves behind, the same for four ways to ask and three wire formats."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from turnpike import CostQuality, CostSource, EnvelopeStatus, Gateway, LLMRequestContext, LLMRequestEnvelope
from turnpike.testing.simulator import Behaviour, Simulator, ToolCall

from .conftest import APIS, Client, MemoryLedger

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PUBLISHED_KEYS = {
    "schema_version",
    "request_id",
    "tenant_id",
    "route",
    "caller_id",
    "use_case",
    "session_id",
    "task_id",
    "provider_selected",
    "model_selected",
    "model_tier",
    "routing_decision",
    "tokens_in",
    "tokens_out",
    "tokens_total",
    "estimated_cost_usd",
    "cost_source",
    "latency_ms",
    "status",
    "retry_count",
    "streaming",
    "finish_reason",
    "cache_hit",
    "audit_tags",
    "timestamp",
    "provider",
    "model",
    "schema_valid",
    "selected_model",
}


def test_an_answer_arrives_whole_and_costs_what_the_provider_bills(
    client: Client, api: dict[str, str], simulator: Simulator, ledger: MemoryLedger
) -> None:
    simulator.script(Behaviour(text="Héllo, wörld 😀", input_tokens=1234, output_tokens=567))
    result = client.ask("Say hello", **api)

    [bill] = simulator.bills()
    assert result.text == "Héllo, wörld 😀"
    assert result.finish_reason == "stop"
    assert result.selected_model == api["model"]
    assert result.cache_hit is False
    assert (result.tokens_in, result.tokens_out) == (1234, 567)
    assert result.envelope.cost_nano_usd == bill.cost_nano_usd > 0
    assert result.estimated_cost_usd == bill.cost_nano_usd / 1e9
    assert result.response_model == bill.model_billed
    assert ledger.only == result.envelope


def test_the_envelope_says_what_was_asked_of_whom_and_how_it_went(
    client: Client, api: dict[str, str], simulator: Simulator
) -> None:
    envelope = client.ask("Hello", **api).envelope

    [bill] = simulator.bills()
    assert (envelope.status, envelope.error_type, envelope.retry_count) == (EnvelopeStatus.OK, None, 0)
    assert (envelope.provider_requested, envelope.provider_selected) == (api["provider"], api["provider"])
    assert (envelope.model_requested, envelope.model_selected) == (api["model"], api["model"])
    assert envelope.provider_api == bill.api
    assert envelope.response_id == bill.response_id
    assert envelope.response_model == bill.model_billed
    assert envelope.tokens_total == envelope.tokens_in + envelope.tokens_out == bill.usage.all_input + bill.usage.output
    assert envelope.tokens_method == "provider"
    assert (envelope.cost_source, envelope.cost_quality) == (CostSource.ESTIMATED_LOCAL_SNAPSHOT, CostQuality.EXACT)
    assert envelope.pricing_version
    assert envelope.provider_usage
    assert envelope.streaming is client.is_stream
    assert envelope.latency_ms > 0
    assert (envelope.time_to_first_token_ms is not None) is client.is_stream
    assert envelope.started_at.endswith("+00:00")
    assert len({envelope, LLMRequestEnvelope.from_dict(envelope.to_dict())}) == 1


def test_cached_and_reasoning_tokens_are_counted_and_priced(
    client: Client, api: dict[str, str], simulator: Simulator
) -> None:
    simulator.script(Behaviour(input_tokens=1000, cache_read_tokens=9000, output_tokens=700, reasoning_tokens=300))
    envelope = client.ask("Think", **api).envelope

    [bill] = simulator.bills()
    assert (envelope.tokens_in, envelope.tokens_out) == (10_000, 700)
    assert envelope.usage.cache_read == 9000
    assert envelope.cost_nano_usd == bill.cost_nano_usd
    if api["provider"] != "claude":  # The Messages API does not tell reasoning apart.
        assert envelope.usage.reasoning == 300


def test_anthropic_cache_writes_of_both_lifetimes_are_input_and_are_priced(
    client: Client, simulator: Simulator
) -> None:
    usage = {"cache_read_tokens": 5000, "cache_write_5m_tokens": 2000, "cache_write_1h_tokens": 300}
    simulator.script(Behaviour(input_tokens=10, output_tokens=7, **usage))
    envelope = client.ask("Hello", provider="claude", model="claude-sonnet-4-5").envelope

    assert envelope.tokens_in == 7310
    assert (envelope.usage.cache_read, envelope.usage.cache_write_5m, envelope.usage.cache_write_1h) == (
        5000,
        2000,
        300,
    )
    assert envelope.cost_nano_usd == simulator.bills()[0].cost_nano_usd


@pytest.mark.parametrize(("written", "read"), [("stop", "stop"), ("length", "length"), ("refusal", "refusal")])
def test_finish_reasons_have_one_vocabulary(
    client: Client, api: dict[str, str], simulator: Simulator, written: str, read: str
) -> None:
    simulator.script(Behaviour(text="No.", finish_reason=written))
    result = client.ask("Hello", **api)

    assert result.finish_reason == result.envelope.finish_reason == read
    assert result.provider_finish_reason == result.envelope.provider_finish_reason


def test_a_tool_round_trip_hands_the_call_out_and_takes_the_result_back(
    client: Client, api: dict[str, str], simulator: Simulator
) -> None:
    simulator.script(
        Behaviour(tool_calls=(ToolCall("get_weather", {"city": "Zürich"}), ToolCall("get_weather", {"city": "Oslo"})))
    )
    question = {"role": "user", "content": "What is the weather in Zürich and Oslo?"}
    first = client.ask([question], tools=[WEATHER], **api)

    assert first.finish_reason == "tool_calls"
    assert [call.name for call in first.tool_calls] == ["get_weather", "get_weather"]
    assert [json.loads(call.arguments) for call in first.tool_calls] == [{"city": "Zürich"}, {"city": "Oslo"}]
    assert len({call.id for call in first.tool_calls}) == 2

    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in first.tool_calls]
    simulator.script(Behaviour(text="It rains."))
    second = client.ask([question, first.to_message(), *results], tools=[WEATHER], **api)

    assert second.text == "It rains."
    sent = json.dumps(simulator.requests()[-1].body)
    assert all(call.id in sent for call in first.tool_calls)
    assert sent.count("rain") == 2
    assert [bill.status for bill in simulator.bills()] == [200, 200]


@pytest.mark.parametrize("choice", ["auto", "none", "required", "get_weather"])
def test_every_api_accepts_every_form_of_tool_choice(
    gateway: Gateway, api: dict[str, str], simulator: Simulator, choice: str
) -> None:
    result = gateway.call_sync("Hello", tools=[WEATHER], tool_choice=choice, **api)

    assert bool(result.tool_calls) is (choice in ("required", "get_weather"))
    assert simulator.bills()[0].status == 200


def test_generation_options_reach_the_provider_under_its_own_names(
    client: Client, api: dict[str, str], simulator: Simulator
) -> None:
    client.ask("Hello", system="Be brief", temperature=0.5, top_p=0.9, max_output_tokens=77, **api)

    body = simulator.requests()[-1].body
    assert (body["temperature"], body["top_p"]) == (0.5, 0.9)
    limits = [body.get(name) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens")]
    assert limits.count(77) == 1
    assert "Be brief" in json.dumps(body)
    assert body.get("stream", False) is client.is_stream


def test_a_conversation_with_a_system_message_is_in_each_api_s_own_form(
    client: Client, api: dict[str, str], simulator: Simulator
) -> None:
    messages = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ]
    client.ask(messages, **api)

    body = simulator.requests()[-1].body
    if api["provider"] == "claude":
        assert body["system"] == "You are terse."
        assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    else:
        assert body["messages" if api["provider"] == "chat" else "input"] == messages


def test_a_structured_answer_follows_its_schema(client: Client, api: dict[str, str]) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}

    answer = json.loads(client.ask("Count", response_format=form, **api).text)

    assert set(answer) == {"n"}
    assert type(answer["n"]) is int


def test_an_anthropic_answer_that_begins_with_thinking_is_its_text(client: Client, simulator: Simulator) -> None:
    simulator.script(Behaviour(text="The answer is 4."))
    options = {"provider": "claude", "model": "claude-sonnet-4-5", "max_output_tokens": 2048}
    result = client.ask("2+2", extra={"thinking": {"type": "enabled", "budget_tokens": 1024}}, **options)

    assert result.text == "The answer is 4."
    assert simulator.bills()[0].usage.reasoning > 0


def test_an_answer_without_usage_is_returned_with_its_cost_unknown(
    client: Client, api: dict[str, str], simulator: Simulator, ledger: MemoryLedger
) -> None:
    simulator.script(Behaviour(text="Hello", usage="missing"))
    result = client.ask("Hello", **api)

    assert result.text == "Hello"
    assert (result.tokens_in, result.tokens_out, result.estimated_cost_usd) == (None, None, None)
    envelope = ledger.only
    assert envelope.status == EnvelopeStatus.OK
    assert (envelope.tokens_in, envelope.tokens_out, envelope.tokens_total) == (None, None, None)
    assert (envelope.cost_nano_usd, envelope.estimated_cost_usd) == (None, None)
    assert (envelope.cost_source, envelope.cost_quality) == (CostSource.DEGRADED_UNKNOWN, CostQuality.UNKNOWN)
    assert (envelope.tokens_method, envelope.usage, envelope.provider_usage) == (None, None, None)


def test_a_reported_usage_of_zero_is_a_known_zero(client: Client, api: dict[str, str], simulator: Simulator) -> None:
    simulator.script(Behaviour(usage="zero"))
    envelope = client.ask("Hello", **api).envelope

    assert (envelope.tokens_in, envelope.tokens_out, envelope.cost_nano_usd) == (0, 0, 0)


def test_a_model_without_a_price_answers_with_its_cost_unknown(
    client: Client, api: dict[str, str], simulator: Simulator
) -> None:
    simulator.script(Behaviour(text="Hello"))
    result = client.ask("Hello", provider=api["provider"], model="frobnicator-9")

    assert result.text == "Hello"
    assert result.tokens_in > 0
    assert (result.estimated_cost_usd, result.envelope.cost_nano_usd) == (None, None)
    assert result.envelope.cost_source == CostSource.DEGRADED_UNKNOWN
    assert result.envelope.status == EnvelopeStatus.OK


def test_an_unpriced_model_is_warned_of_once_for_each_model(
    make_gateway: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make_gateway()
    context = LLMRequestContext(tenant_id="acme")
    for model in ("frobnicator-1", "frobnicator-2", "frobnicator-1", "frobnicator-2"):
        gateway.call_sync("Hello", model=model, context=context)

    warnings = [record.getMessage() for record in caplog.records if "frobnicator" in record.getMessage()]
    assert len(warnings) == 2
    assert all("register_pricing" in warning for warning in warnings)


def test_missing_usage_is_not_blamed_on_the_price_list(
    make_gateway: Any, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.script(Behaviour(usage="missing"))
    make_gateway().call_sync("Hello", model="gpt-4o-mini", context=LLMRequestContext(tenant_id="acme"))

    assert [record.getMessage() for record in caplog.records if "register_pricing" in record.getMessage()] == []


def test_a_registered_price_holds_for_its_gateway_alone(make_gateway: Any) -> None:
    one, other = make_gateway(), make_gateway()
    one.prices.register("frobnicator-9", 1.0, 2.0)

    result = one.call_sync("Hello", model="frobnicator-9")
    assert result.envelope.cost_nano_usd == result.tokens_in * 1000 + result.tokens_out * 2000
    assert other.call_sync("Hello", model="frobnicator-9").estimated_cost_usd is None


@pytest.mark.parametrize("count", [{"prompt_tokens": -5, "completion_tokens": 3}, {"prompt_tokens": "many"}, {}])
def test_nonsense_in_a_provider_s_usage_costs_neither_the_answer_nor_a_readable_line(
    gateway: Gateway, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, simulator: Simulator, count: dict[str, Any]
) -> None:
    # The simulator's figures are always sane; the wire reader hands on whatever a server sent.
    from turnpike.gateway.wire.openai_chat import OpenAIChatReader

    def read_usage(self: OpenAIChatReader, completion: Any) -> None:
        self.answer.usage = count

    monkeypatch.setattr(OpenAIChatReader, "_read_usage", read_usage)
    simulator.script(Behaviour(text="Hello"))

    assert gateway.call_sync("Hello", model="gpt-4o-mini").text == "Hello"
    assert ledger.only.cost_nano_usd in (None, 0)


class TestTheLedgerLine:
    def test_has_every_published_key_and_reads_back_as_the_envelope(
        self, client: Client, api: dict[str, str], ledger: MemoryLedger
    ) -> None:
        context = LLMRequestContext("acme", "ada", "summary", "s-1", "t-1", "f-1")
        metadata = {"routing_decision": "cheap first", "complexity": "simple"}
        options = {**api, "route": "/answer", "tier": "cheap"}
        result = client.ask("Hello", context=context, metadata=metadata, **options)

        [line] = ledger.lines
        assert set(line) >= PUBLISHED_KEYS
        assert ("time_to_first_token_ms" in line) is client.is_stream
        assert (line["status"], line["schema_valid"], line["complexity"]) == ("success", True, "simple")
        assert (line["provider"], line["model"]) == (api["provider"], api["model"])
        assert line["selected_model"] == api["model"]
        assert (line["tenant_id"], line["caller_id"], line["route"]) == ("acme", "ada", "/answer")
        assert (line["model_tier"], line["routing_decision"]) == ("cheap", "cheap first")
        assert line["audit_tags"] == {"session_id": "s-1", "task_id": "t-1", "feature_id": "f-1"}

        envelope = LLMRequestEnvelope.from_dict(line)
        assert envelope == result.envelope
        assert hash(envelope) == hash(result.envelope)

    def test_does_not_let_metadata_rewrite_the_record(self, client: Client, ledger: MemoryLedger) -> None:
        own = {field.name: "spoofed" for field in dataclasses.fields(LLMRequestEnvelope)}
        metadata = {**own, "timestamp": "spoofed", "provider": "spoofed", "model": "spoofed", "mine": "kept"}
        del metadata["routing_decision"]
        result = client.ask(
            "Hello", model="gpt-4o-mini", context=LLMRequestContext(tenant_id="acme"), metadata=metadata
        )

        [line] = ledger.lines
        assert line["mine"] == "kept"
        assert "spoofed" not in [value for key, value in line.items() if key not in ("use_case", "audit_tags")]
        assert LLMRequestEnvelope.from_dict(line).cost_nano_usd == result.envelope.cost_nano_usd

    def test_of_hostile_metadata_is_still_a_line(self, client: Client, ledger: MemoryLedger) -> None:
        loop: list[Any] = []
        loop.append(loop)
        client.ask("Hello", model="gpt-4o-mini", metadata={"a": loop, "b": "\ud800", "c": object(), "d": float("nan")})

        [line] = ledger.lines
        assert set(line) >= {"a", "b", "c", "d"}
        assert b"\n" not in ledger.raw[0]

    def test_goes_to_the_file_that_the_settings_name(self, make_gateway: Any, tmp_path: Any) -> None:
        path = tmp_path / "new" / "ledger.jsonl"
        gateway = make_gateway({"telemetry_path": str(path)}, ledger=None)
        results = [gateway.call_sync(f"Hello {number}", model="gpt-4o-mini") for number in range(3)]

        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["request_id"] for line in lines] == [result.request_id for result in results]

    def test_is_not_written_when_the_ledger_is_off(self, make_gateway: Any, tmp_path: Any) -> None:
        path = tmp_path / "ledger.jsonl"
        gateway = make_gateway({"telemetry_path": str(path), "ledger": False}, ledger=None)

        assert gateway.call_sync("Hello", model="gpt-4o-mini").text
        assert not path.exists()

    def test_that_cannot_be_written_costs_nobody_an_answer(self, make_gateway: Any, tmp_path: Any) -> None:
        path = tmp_path / "folder" / "ledger.jsonl"
        gateway = make_gateway({"telemetry_path": str(path)}, ledger=None)
        gateway.call_sync("Hello", model="gpt-4o-mini")
        path.unlink()
        path.mkdir()
        result = gateway.call_sync("Hello", model="gpt-4o-mini")

        assert result.text
        path.rmdir()
        gateway.close()
        assert json.loads(path.read_text())["request_id"] == result.request_id


@pytest.mark.parametrize("corrupt", ["crlf", "cr", "comments", "no_final_blank_line"])
def test_every_legal_way_to_write_an_event_stream_is_read(
    streaming: Client, api: dict[str, str], simulator: Simulator, corrupt: str
) -> None:
    simulator.script(Behaviour(text="One two three", corrupt=(corrupt,), bytes_per_write=7))

    assert streaming.ask("Hello", **api).text == "One two three"


@pytest.mark.parametrize("way_of_sending", [{"gzip": True}, {"chunked": True}, {"bytes_per_write": 5}])
def test_a_json_answer_is_read_however_it_is_sent(
    gateway: Gateway, api: dict[str, str], simulator: Simulator, way_of_sending: dict[str, Any]
) -> None:
    simulator.script(Behaviour(text="Hello there", **way_of_sending))

    assert gateway.call_sync("Hello", **api).text == "Hello there"


def test_the_default_model_of_a_tier_is_the_policy_s(make_gateway: Any, simulator: Simulator) -> None:
    tiers = {"cheap": "gpt-4o-mini", "smart": {"model": "claude-sonnet-4-5", "provider": "claude"}}
    gateway = make_gateway({"tiers": tiers, "routes": {"/fast": {"tiers": {"cheap": "gpt-4.1-nano"}}}})

    assert gateway.call_sync("Hello", tier="cheap").selected_model == "gpt-4o-mini"
    assert gateway.call_sync("Hello", tier="cheap", route="/fast").selected_model == "gpt-4.1-nano"
    smart = gateway.call_sync("Hello", tier="smart", route="/fast").envelope
    assert (smart.provider_selected, smart.model_selected, smart.model_tier) == ("claude", "claude-sonnet-4-5", "smart")
    assert [bill.api for bill in simulator.bills()] == [APIS[0], APIS[0], APIS[2]]


@pytest.mark.parametrize("asked", [None, 100_000, 50])
def test_a_policy_s_output_bound_is_a_ceiling(make_gateway: Any, simulator: Simulator, asked: int | None) -> None:
    gateway = make_gateway({"default_policy": {"max_output_tokens": 64}})
    options = {} if asked is None else {"max_output_tokens": asked}
    gateway.call_sync("Hello", model="gpt-4o-mini", **options)

    assert simulator.requests()[0].body["max_completion_tokens"] == min(asked or 64, 64)


@pytest.mark.parametrize(
    "extra", [{"max_completion_tokens": 9999}, {"model": "gpt-5-pro"}, {"stream": True}, {"messages": []}]
)
def test_extra_keys_cannot_replace_what_the_gateway_has_settled(
    make_gateway: Any, simulator: Simulator, extra: dict[str, Any]
) -> None:
    gateway = make_gateway({"default_policy": {"max_output_tokens": 64}})

    with pytest.raises(ValueError, match=next(iter(extra))):
        gateway.call_sync("Hello", model="gpt-4o-mini", extra=extra)
    assert simulator.bills() == []
