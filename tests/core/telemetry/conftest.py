"""Calls as the gateway would report them, and an OpenTelemetry SDK that keeps what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from turnpike.context import LLMRequestContext
from turnpike.envelope import (
    ENVELOPE_SCHEMA_VERSION,
    CostQuality,
    CostSource,
    EnvelopeStatus,
    LLMRequestEnvelope,
)
from turnpike.gateway.telemetry import CallTelemetry, SpanStart
from turnpike.usage import UsageVector

VARIABLES = ("OTEL_SEMCONV_STABILITY_OPT_IN", "TURNPIKE_SEMCONV", "TURNPIKE_TELEMETRY_PATH", "TURNPIKE_LEDGER")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


OPENAI: dict[str, Any] = {
    "provider": "openai",
    "provider_name": "openai",
    "provider_api": "openai-chat",
    "model": "gpt-4o-mini",
    "server_address": "api.openai.com",
    "server_port": 443,
}
ANTHROPIC: dict[str, Any] = {
    "provider": "anthropic",
    "provider_name": "anthropic",
    "provider_api": "anthropic-messages",
    "model": "claude-sonnet-4-5",
    "server_address": "api.anthropic.com",
    "server_port": 443,
}


def make_start(**given: Any) -> SpanStart:
    """An OpenAI call, unless ``given`` says otherwise."""
    fields = {
        **OPENAI,
        "request_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "route": "/chat/{id}",
        "tier": "cheap",
        "context": LLMRequestContext(tenant_id="acme", caller_id="billing", session_id="s-1"),
        "max_tokens": 500,
        "retry_attempts_allowed": 2,
    }
    return SpanStart(**{**fields, **given})


def make_envelope(**given: Any) -> LLMRequestEnvelope:
    """A priced success, unless ``given`` says otherwise."""
    fields = {
        "schema_version": ENVELOPE_SCHEMA_VERSION,
        "request_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "tenant_id": "acme",
        "route": "/chat/{id}",
        "tokens_in": 21,
        "tokens_out": 9,
        "usage": UsageVector(tokens_in=21, tokens_out=9),
        "response_model": "gpt-4o-mini-2024-07-18",
        "response_id": "chatcmpl-1",
        "finish_reason": "stop",
        "cost_nano_usd": 8_550,
        "cost_source": CostSource.ESTIMATED_LOCAL_SNAPSHOT,
        "cost_quality": CostQuality.EXACT,
        "retry_count": 0,
        "attributed": True,
    }
    return LLMRequestEnvelope(**{**fields, **given})


def make_failure(**given: Any) -> LLMRequestEnvelope:
    """A rate-limited call that no provider accepted."""
    nothing = dict.fromkeys(("tokens_in", "tokens_out", "usage", "response_model", "response_id", "finish_reason"))
    fields = {"status": EnvelopeStatus.ERROR, "error_type": "rate_limit", "cost_nano_usd": 0, **nothing}
    return make_envelope(**{**fields, **given})


class Recorder:
    """A gateway's telemetry over an SDK in memory."""

    def __init__(self, vintages: tuple[str, ...] | None = None, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.vintages = vintages
        self.telemetry = self.another()

    def another(self) -> CallTelemetry:
        """The telemetry of one more gateway that reports to the same providers."""
        return CallTelemetry(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, vintages=self.vintages
        )

    def call(
        self,
        start: SpanStart | None = None,
        envelope: LLMRequestEnvelope | None = None,
        *,
        duration_s: float = 1.5,
        first_chunk_s: float | None = None,
        parent: Context | None = None,
    ) -> None:
        start = start or make_start()
        span = self.telemetry.start(start, parent if parent is not None else Context())
        self.telemetry.finish(
            span,
            start,
            envelope or make_envelope(),
            duration_s=duration_s,
            time_to_first_chunk_s=first_chunk_s,
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the only span."""
        (span,) = self.spans
        return dict(span.attributes or {})

    def metrics(self) -> dict[str, Any]:
        """The metrics collected now, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str) -> list[Any]:
        """The data points of a metric; none if it has not been recorded."""
        metric = self.metrics().get(name)
        return [] if metric is None else list(metric.data.data_points)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def recording() -> Iterator[Callable[..., Recorder]]:
    """Make recorders of other vintages and samplers."""
    made: list[Recorder] = []

    def make(*vintages: str, **options: Any) -> Recorder:
        made.append(Recorder(vintages or None, **options))
        return made[-1]

    yield make
    for one in made:
        one.meter_provider.shutdown()


@pytest.fixture
def start_of() -> Callable[..., SpanStart]:
    return make_start


@pytest.fixture
def envelope_of() -> Callable[..., LLMRequestEnvelope]:
    return make_envelope


@pytest.fixture
def failure_of() -> Callable[..., LLMRequestEnvelope]:
    return make_failure


@pytest.fixture
def anthropic() -> dict[str, Any]:
    return dict(ANTHROPIC)
