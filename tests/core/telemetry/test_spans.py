"""The span of a call: one CLIENT span that says what was asked, what came back and what it cost, and quotes nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from turnpike.context import LLMRequestContext
from turnpike.envelope import CostSource, EnvelopeStatus, FutureValue, LLMRequestEnvelope
from turnpike.gateway.telemetry import SpanStart
from turnpike.usage import UsageVector

Start = Callable[..., SpanStart]
Envelope = Callable[..., LLMRequestEnvelope]


def test_a_call_is_one_client_span_named_after_operation_and_model(recorder: Any) -> None:
    recorder.call()
    (span,) = recorder.spans
    assert (span.name, span.kind, span.status.status_code, span.events) == (
        "chat gpt-4o-mini",
        SpanKind.CLIENT,
        StatusCode.UNSET,
        (),
    )
    assert (span.instrumentation_scope.name, span.instrumentation_scope.schema_url) == (
        "turnpike",
        "https://opentelemetry.io/schemas/1.41.0",
    )


def test_the_span_is_a_child_of_the_context_captured_at_the_call(recorder: Any) -> None:
    handler = recorder.tracer_provider.get_tracer("app").start_span("POST /chat/{id}")
    recorder.call(parent=trace.set_span_in_context(handler))
    (span,) = recorder.spans
    assert span.parent == handler.get_span_context()


def test_starting_a_span_makes_it_nobodys_current_span(recorder: Any, start_of: Start) -> None:
    before = trace.get_current_span()
    span = recorder.telemetry.start(start_of(), Context())
    assert trace.get_current_span() is before
    span.end()


def test_a_sampler_sees_all_that_is_known_at_the_start(recording: Any, start_of: Start) -> None:
    seen: list[Any] = []

    class Watching(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            seen.append(dict(args[4]))
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "watching"

    recording(sampler=Watching()).call(start_of(stream=True, temperature=0.2, stop_sequences=("END",)))
    (attributes,) = seen
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "server.address": "api.openai.com",
        "server.port": 443,
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 500,
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.stop_sequences": ("END",),
        "openai.api.type": "chat_completions",
        "turnpike.route": "/chat/{id}",
        "turnpike.provider": "openai",
        "turnpike.model_tier": "cheap",
        "turnpike.retry_attempts_allowed": 2,
        "turnpike.cache_enabled": False,
        "turnpike.request_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "turnpike.tenant_id": "acme",
        "turnpike.caller_id": "billing",
        "turnpike.session_id": "s-1",
        "turnpike.audit.session_id": "s-1",
    }


def test_calls_of_one_kind_do_not_see_each_others_identity(recorder: Any, start_of: Start) -> None:
    recorder.call(start_of(context=LLMRequestContext(tenant_id="acme", use_case="search", feature_id="f")))
    recorder.call(start_of(request_id="r-2", context=LLMRequestContext(tenant_id="initech")))
    _, second = recorder.spans
    assert second.attributes["turnpike.tenant_id"] == "initech"
    assert second.attributes["turnpike.request_id"] == "r-2"
    assert {"turnpike.use_case", "turnpike.audit.feature_id"}.isdisjoint(second.attributes)


def test_a_call_without_a_tenant_says_so_and_names_none(recorder: Any, start_of: Start) -> None:
    recorder.call(start_of(context=LLMRequestContext()))
    assert recorder.attributes["turnpike.attributed"] is False
    assert "turnpike.tenant_id" not in recorder.attributes


def test_a_success_ends_with_what_came_back_and_what_it_cost(recorder: Any, envelope_of: Envelope) -> None:
    recorder.call(envelope=envelope_of(service_tier="default", provider_finish_reason="completed"))
    ended = {
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 21,
        "gen_ai.usage.output_tokens": 9,
        "openai.response.service_tier": "default",
        "turnpike.provider_finish_reason": "completed",
        "turnpike.status": "ok",
        "turnpike.cache_hit": False,
        "turnpike.retry_count": 0,
        "turnpike.estimated_cost_usd": 0.00000855,
        "turnpike.cost.amount": 0.00000855,
        "turnpike.cost.currency": "USD",
        "turnpike.cost.source": "estimated_local_snapshot",
        "turnpike.cost.quality": "exact",
    }
    assert ended.items() <= recorder.attributes.items()
    assert "error.type" not in recorder.attributes


def test_cached_input_is_part_of_the_input_and_stands_beside_it(
    recorder: Any, start_of: Start, envelope_of: Envelope, anthropic: dict[str, Any]
) -> None:
    usage = UsageVector(tokens_in=21, tokens_out=9, cache_read=6, cache_write_5m=1, cache_write_1h=1, reasoning=4)
    recorder.call(start_of(**anthropic), envelope_of(usage=usage))
    assert {name: value for name, value in recorder.attributes.items() if name.startswith("gen_ai.usage.")} == {
        "gen_ai.usage.input_tokens": 21,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 6,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 4,
    }


@pytest.mark.parametrize(
    ("vintage", "provider", "cache_write"),
    [
        ("v1.36.0", "gen_ai.system", None),
        ("v1.41.0", "gen_ai.provider.name", "gen_ai.usage.cache_creation.input_tokens"),
        ("genai-main", "gen_ai.provider.name", "gen_ai.usage.cache_write.input_tokens"),
    ],
)
def test_each_vintage_has_its_own_names(
    recording: Any, envelope_of: Envelope, vintage: str, provider: str, cache_write: str | None
) -> None:
    recorder = recording(vintage)
    recorder.call(envelope=envelope_of(usage=UsageVector(tokens_in=21, tokens_out=9, cache_write_5m=2)))
    names = {name for name in recorder.attributes if "provider.name" in name or "system" in name or "write" in name}
    names |= {name for name in recorder.attributes if "cache_creation" in name}
    assert names == {provider, *([cache_write] if cache_write else [])}


def test_tokens_that_are_not_known_are_left_out(recorder: Any, envelope_of: Envelope) -> None:
    recorder.call(envelope=envelope_of(tokens_in=None, tokens_out=None, usage=None))
    assert not [name for name in recorder.attributes if "usage" in name]


def test_a_count_without_its_parts_is_still_reported(recorder: Any, envelope_of: Envelope) -> None:
    recorder.call(envelope=envelope_of(usage=None))
    assert recorder.attributes["gen_ai.usage.input_tokens"] == 21


def test_a_cost_that_is_not_known_is_left_out(recorder: Any, envelope_of: Envelope) -> None:
    recorder.call(envelope=envelope_of(cost_nano_usd=None, cost_source=CostSource.DEGRADED_UNKNOWN))
    assert "turnpike.cost.amount" not in recorder.attributes
    assert recorder.attributes["turnpike.cost.source"] == "degraded_unknown"


def test_a_stream_has_the_time_to_its_first_chunk(recorder: Any, start_of: Start) -> None:
    recorder.call(start_of(stream=True), first_chunk_s=0.25)
    assert recorder.attributes["gen_ai.response.time_to_first_chunk"] == 0.25


def test_a_call_that_is_no_stream_has_no_first_chunk(recorder: Any) -> None:
    recorder.call(first_chunk_s=0.25)
    assert not [name for name in recorder.attributes if "chunk" in name or "stream" in name]


@pytest.mark.parametrize(
    ("status", "error_type", "expected"),
    [
        (EnvelopeStatus.ERROR, "rate_limit", "rate_limit"),
        (EnvelopeStatus.ERROR, None, "unknown"),
        (EnvelopeStatus.DENIED, None, "denied"),
        (EnvelopeStatus.CANCELLED, None, "cancelled"),
        (EnvelopeStatus.CANCELLED, "timeout", "timeout"),
        (EnvelopeStatus.UNKNOWN, None, "unknown"),
        (FutureValue("preempted"), None, "preempted"),
        (EnvelopeStatus.ERROR, "Your prompt was: hello", "_OTHER"),
        (EnvelopeStatus.ERROR, "x" * 65, "_OTHER"),
    ],
)
def test_a_call_that_did_not_succeed_is_an_error_with_a_type(
    recorder: Any, failure_of: Envelope, status: Any, error_type: str | None, expected: str
) -> None:
    recorder.call(envelope=failure_of(status=status, error_type=error_type))
    (span,) = recorder.spans
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, expected)
    assert span.attributes["error.type"] == span.attributes["turnpike.error_category"] == expected
    (point,) = recorder.points("turnpike.requests")
    assert point.attributes["turnpike.status"] == str(status)


@pytest.mark.parametrize("status", [EnvelopeStatus.OK, EnvelopeStatus.CACHED, EnvelopeStatus.DEGRADED])
def test_a_call_with_an_answer_is_no_error(recorder: Any, envelope_of: Envelope, status: EnvelopeStatus) -> None:
    recorder.call(envelope=envelope_of(status=status, error_type="timeout"))
    (span,) = recorder.spans
    assert (span.status.status_code, "error.type" in span.attributes) == (StatusCode.UNSET, False)


def test_after_a_fallback_the_span_names_who_served(
    recorder: Any, start_of: Start, envelope_of: Envelope, anthropic: dict[str, Any]
) -> None:
    start = start_of()
    span = recorder.telemetry.start(start, Context())
    start.provider, start.model = anthropic["provider"], anthropic["model"]
    start.server_address = anthropic["server_address"]
    envelope = envelope_of(fallback_triggered=True)
    recorder.telemetry.finish(span, start, envelope, duration_s=1.0, time_to_first_chunk_s=None)
    (ended,) = recorder.spans
    assert ended.name == "chat claude-sonnet-4-5"
    assert ended.attributes["gen_ai.provider.name"] == "anthropic"
    assert ended.attributes["turnpike.fallback_triggered"] is True


def test_a_server_port_needs_an_address(recorder: Any, start_of: Start) -> None:
    recorder.call(start_of(server_address=None, server_port=8080))
    assert not [name for name in recorder.attributes if name.startswith("server.")]


@pytest.mark.parametrize(("asked", "written"), [("flex", "flex"), ("auto", None), (None, None)])
def test_an_openai_tier_is_written_when_one_was_asked_for(
    recorder: Any, start_of: Start, asked: str | None, written: str | None
) -> None:
    recorder.call(start_of(service_tier=asked))
    assert recorder.attributes.get("openai.request.service_tier") == written


def test_openai_attributes_stay_off_other_providers(
    recorder: Any, start_of: Start, envelope_of: Envelope, anthropic: dict[str, Any]
) -> None:
    recorder.call(
        start_of(**{**anthropic, "provider_api": "openai-chat"}, service_tier="flex"),
        envelope_of(service_tier="standard"),
    )
    assert not [name for name in recorder.attributes if name.startswith("openai.")]


def test_text_that_somebody_wrote_is_in_no_signal(recording: Any, failure_of: Envelope) -> None:
    recorder = recording("genai-main", "v1.36.0")
    recorder.call(
        envelope=failure_of(
            error_type="the prompt was: SECRET",
            routing_reason="SECRET",
            fallback_reason="SECRET",
            cost_notes=("SECRET",),
            provider_usage={"note": "SECRET"},
            cache_key_fingerprint="SECRET",
        )
    )
    (span,) = recorder.spans
    assert "SECRET" not in span.to_json()
    assert "SECRET" not in recorder.reader.get_metrics_data().to_json()


def test_a_call_that_is_not_sampled_leaves_no_span_and_all_its_metrics(recording: Any) -> None:
    recorder = recording(sampler=ALWAYS_OFF)
    recorder.call()
    assert recorder.spans == ()
    assert {"gen_ai.client.operation.duration", "turnpike.cost", "turnpike.requests"} <= recorder.metrics().keys()
