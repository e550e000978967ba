"""Metrics: few series, exact sums, advised buckets, and nothing invented."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import CallbackOptions

from turnpike.context import LLMRequestContext
from turnpike.envelope import CostSource, EnvelopeStatus, LLMRequestEnvelope
from turnpike.gateway import tallies
from turnpike.gateway.measurements import spending
from turnpike.gateway.semconv import InstrumentSpec
from turnpike.gateway.telemetry import SpanStart
from turnpike.usage import UsageVector

Start = Callable[..., SpanStart]
Envelope = Callable[..., LLMRequestEnvelope]

DEFAULT = {
    "gen_ai.client.operation.duration": "s",
    "gen_ai.client.token.usage": "{token}",
    "turnpike.cost": "{USD}",
    "turnpike.estimated_cost_usd": "{USD}",
    "turnpike.requests": "{request}",
}
MODEL = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
OPERATION = {
    **MODEL,
    "gen_ai.operation.name": "chat",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "server.address": "api.openai.com",
    "server.port": 443,
}
LABELS = {"turnpike.route": "/chat/{id}", "turnpike.model_tier": "cheap"}


def test_a_success_is_measured_with_its_units(recorder: Any) -> None:
    recorder.call()
    assert {name: metric.unit for name, metric in recorder.metrics().items()} == DEFAULT


def test_histograms_have_the_advised_buckets(recorder: Any) -> None:
    recorder.call()
    (duration,) = recorder.points("gen_ai.client.operation.duration")
    tokens = recorder.points("gen_ai.client.token.usage")[0]
    assert (duration.explicit_bounds[0], duration.explicit_bounds[-1]) == (0.01, 81.92)
    assert (tokens.explicit_bounds[0], tokens.explicit_bounds[-1]) == (1, 67108864)


def test_attributes_are_those_with_few_values(recorder: Any) -> None:
    recorder.call()
    recorder.call()
    (duration,) = recorder.points("gen_ai.client.operation.duration")
    (cost,) = recorder.points("turnpike.cost")
    (published,) = recorder.points("turnpike.estimated_cost_usd")
    (requests,) = recorder.points("turnpike.requests")
    assert (duration.attributes, duration.count, duration.sum) == (OPERATION, 2, 3.0)
    money = {"turnpike.cost.currency": "USD", "turnpike.cost.source": "estimated_local_snapshot"}
    assert (cost.attributes, cost.value) == ({**MODEL, **LABELS, **money}, 0.0000171)
    assert (published.attributes, published.value) == ({**MODEL, **LABELS}, 0.0000171)
    assert (requests.attributes, requests.value) == ({**LABELS, "turnpike.status": "ok"}, 2)


def test_tokens_are_recorded_by_direction(recorder: Any) -> None:
    recorder.call()
    points = recorder.points("gen_ai.client.token.usage")
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in points} == {"input": 21, "output": 9}
    assert all(point.attributes.keys() == {*OPERATION, "gen_ai.token.type"} for point in points)


@pytest.mark.parametrize("vintage", ["v1.36.0", "v1.41.0", "genai-main"])
def test_thousands_of_different_calls_are_a_handful_of_series(
    recording: Any, start_of: Start, envelope_of: Envelope, vintage: str
) -> None:
    recorder, rng = recording(vintage), random.Random(7)
    for number in range(1500):
        usage = UsageVector(
            tokens_in=rng.randrange(1000, 90_000), tokens_out=rng.randrange(900), cache_read=rng.randrange(900)
        )
        who = LLMRequestContext(tenant_id=f"t{number}", caller_id=f"c{number}", session_id=f"s{number}")
        recorder.telemetry.measure(
            start_of(request_id=f"r{number}", context=who),
            envelope_of(usage=usage, cost_nano_usd=rng.randrange(10**7), response_id=f"chatcmpl-{number}"),
            duration_s=rng.random(),
        )
    series = {name: len(metric.data.data_points) for name, metric in recorder.metrics().items()}
    assert max(series.values()) <= 2, series


def test_two_gateways_on_one_provider_add_up(recorder: Any, start_of: Start, envelope_of: Envelope) -> None:
    other = recorder.another()
    recorder.call()
    other.measure(start_of(), envelope_of(), duration_s=1.0)
    (requests,) = recorder.points("turnpike.requests")
    (cost,) = recorder.points("turnpike.cost")
    assert (requests.value, cost.value) == (2, 0.0000171)


def test_threads_lose_no_count(recorder: Any, start_of: Start, envelope_of: Envelope) -> None:
    def work() -> None:
        for _ in range(200):
            recorder.telemetry.measure(start_of(), envelope_of(), duration_s=1.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (cost,) = recorder.points("turnpike.cost")
    assert cost.value == 800 * 8_550 / 1e9


def test_a_call_whose_cost_is_not_known_is_counted_and_adds_no_money(recorder: Any, envelope_of: Envelope) -> None:
    recorder.call(envelope=envelope_of(cost_nano_usd=None, cost_source=CostSource.DEGRADED_UNKNOWN))
    assert recorder.points("turnpike.cost") == recorder.points("turnpike.estimated_cost_usd") == []
    (unpriced,) = recorder.points("turnpike.cost.unpriced")
    assert (unpriced.value, unpriced.attributes) == (1, {**MODEL, **LABELS})


def test_a_priced_call_is_not_counted_as_unpriced(recorder: Any) -> None:
    recorder.call()
    assert recorder.points("turnpike.cost.unpriced") == []


def test_a_call_that_costs_nothing_is_priced(recorder: Any, failure_of: Envelope) -> None:
    recorder.call(envelope=failure_of())
    assert [point.value for point in recorder.points("turnpike.cost")] == [0]
    assert recorder.points("turnpike.cost.unpriced") == []


def test_unattributed_calls_are_counted(recorder: Any, envelope_of: Envelope) -> None:
    recorder.call(envelope=envelope_of(attributed=False, tenant_id="unattributed"))
    recorder.call()
    (point,) = recorder.points("turnpike.unattributed")
    assert (point.value, point.attributes) == (1, LABELS)


def test_a_success_without_usage_records_no_tokens(recording: Any, envelope_of: Envelope) -> None:
    recorder = recording("v1.41.0", "genai-main")
    recorder.call(envelope=envelope_of(tokens_in=None, tokens_out=None, usage=None))
    assert not [name for name in recorder.metrics() if "token" in name]


def test_a_failure_records_its_type_and_in_the_newest_vintage_zero_tokens(recording: Any, failure_of: Envelope) -> None:
    recorder = recording("genai-main", "v1.41.0")
    recorder.call(envelope=failure_of())
    (duration,) = recorder.points("gen_ai.client.inference.duration")
    (tokens,) = recorder.points("gen_ai.client.inference.operation.input_tokens")
    assert duration.attributes["error.type"] == tokens.attributes["error.type"] == "rate_limit"
    assert (tokens.count, tokens.sum) == (1, 0)
    assert recorder.points("gen_ai.client.token.usage") == []
    assert recorder.points("gen_ai.client.inference.usage.input_tokens") == []


def test_a_cancelled_stream_records_the_usage_seen_so_far(
    recorder: Any, start_of: Start, envelope_of: Envelope
) -> None:
    recorder.call(start_of(stream=True), envelope_of(status=EnvelopeStatus.CANCELLED), first_chunk_s=0.25)
    (first,) = recorder.points("gen_ai.client.operation.time_to_first_chunk")
    (duration,) = recorder.points("gen_ai.client.operation.duration")
    assert (first.sum, first.attributes) == (0.25, OPERATION)
    assert duration.attributes["error.type"] == "cancelled"
    assert sum(point.sum for point in recorder.points("gen_ai.client.token.usage")) == 30


@pytest.mark.parametrize("status", [EnvelopeStatus.CACHED, EnvelopeStatus.DENIED])
def test_a_call_that_asked_no_provider_is_no_provider_operation(
    recorder: Any, envelope_of: Envelope, status: EnvelopeStatus
) -> None:
    recorder.call(envelope=envelope_of(status=status))
    assert not [name for name in recorder.metrics() if name.startswith("gen_ai.")]
    (requests,) = recorder.points("turnpike.requests")
    assert requests.attributes["turnpike.status"] == status.value


def test_the_newest_vintage_counts_what_was_spent_by_part(recording: Any, envelope_of: Envelope) -> None:
    recorder = recording("genai-main")
    usage = UsageVector(
        tokens_in=100, tokens_out=40, cache_read=30, cache_write_5m=4, cache_audio_read=10, audio_in=25, reasoning=16
    )
    recorder.call(envelope=envelope_of(tokens_in=100, tokens_out=40, usage=usage))
    found = {
        (name.removeprefix("gen_ai.client.inference.usage."), point.attributes["gen_ai.token.modality"]): point.value
        for name, metric in recorder.metrics().items()
        if ".usage." in name
        for point in metric.data.data_points
    }
    assert found == {
        ("input_tokens", "audio"): 25,
        ("input_tokens", "unknown"): 75,
        ("output_tokens", "unknown"): 40,
        ("cache_read.input_tokens", "audio"): 10,
        ("cache_read.input_tokens", "unknown"): 20,
        ("cache_write.input_tokens", "unknown"): 4,
        ("reasoning.output_tokens", "unknown"): 16,
    }


COUNT = st.integers(0, 10**6)


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_what_was_spent_adds_up_to_the_whole(text: int, audio: int, image: int, out: int, audio_out: int) -> None:
    usage = UsageVector(
        tokens_in=text + audio + image, audio_in=audio, image_in=image, tokens_out=out + audio_out, audio_out=audio_out
    )
    amounts = list(spending(usage))
    assert sum(amount for (measure, _), amount in amounts if measure == "spent_input") == usage.tokens_in
    assert sum(amount for (measure, _), amount in amounts if measure == "spent_output") == usage.tokens_out
    assert all(amount > 0 for _, amount in amounts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_money_is_summed_in_whole_billionths(
    recording: Any, start_of: Start, envelope_of: Envelope, amounts: Any
) -> None:
    recorder = recording()
    for amount in amounts:
        recorder.telemetry.measure(start_of(), envelope_of(cost_nano_usd=amount), duration_s=1.0)
    (cost,) = recorder.points("turnpike.cost")
    assert cost.value == sum(amounts) / 1e9


def test_histograms_carry_the_trace_of_the_call(recorder: Any) -> None:
    recorder.call()
    (span,) = recorder.spans
    collected = recorder.metrics()
    for name in ("gen_ai.client.operation.duration", "gen_ai.client.token.usage"):
        for point in collected[name].data.data_points:
            assert {exemplar.span_id for exemplar in point.exemplars} == {span.get_span_context().span_id}


def test_an_instrument_of_two_vintages_is_recorded_once_with_both_names(recording: Any) -> None:
    recorder = recording("v1.36.0", "v1.41.0")
    recorder.call()
    (duration,) = recorder.points("gen_ai.client.operation.duration")
    assert duration.count == 1
    assert duration.attributes["gen_ai.system"] == duration.attributes["gen_ai.provider.name"] == "openai"


def test_dup_emits_the_instruments_of_both_vintages(recording: Any) -> None:
    recorder = recording("genai-main", "v1.41.0")
    recorder.call()
    assert {"gen_ai.client.inference.duration", "gen_ai.client.operation.duration"} <= recorder.metrics().keys()


def test_the_metrics_of_0_1_can_be_had_as_they_were(recording: Any) -> None:
    recorder = recording("turnpike-0.1")
    recorder.call()
    (requests,) = recorder.points("turnpike.requests")
    (cost,) = recorder.points("turnpike.estimated_cost_usd")
    assert requests.attributes == {**LABELS, "status": "success"}
    assert recorder.metrics()["turnpike.estimated_cost_usd"].unit == "USD"
    assert cost.attributes == {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o-mini", **LABELS}


def test_a_counter_keeps_a_bounded_number_of_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "_MAX_SERIES", 3)
    callbacks: list[Any] = []

    class Meter:
        def create_observable_counter(self, _name: str, given: list[Any], *_args: str) -> None:
            callbacks.extend(given)

    counters = tallies.Tallies()
    for number in range(10):
        spec = InstrumentSpec("turnpike.requests", "{request}", "")
        counters.adder(Meter(), spec, {"turnpike.route": f"/{number}"})(1)  # type: ignore[arg-type]
    (callback,) = callbacks
    seen = {tuple(item.attributes.items()): item.value for item in callback(CallbackOptions())}
    assert len(seen) == 4
    assert seen[(("otel.metric.overflow", True),)] == 7
