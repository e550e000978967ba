"""Telemetry never costs a call: no SDK, a broken one, or one that arrives late."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from turnpike.envelope import LLMRequestEnvelope
from turnpike.gateway import call_telemetry
from turnpike.gateway.telemetry import CallTelemetry, SpanStart

Start = Callable[..., SpanStart]
Envelope = Callable[..., LLMRequestEnvelope]


def run(telemetry: CallTelemetry, start: SpanStart, envelope: LLMRequestEnvelope, parent: Context | None = None) -> Any:
    span = telemetry.start(start, parent if parent is not None else Context())
    telemetry.finish(span, start, envelope, duration_s=1.0, time_to_first_chunk_s=None)
    return span


def test_without_an_sdk_the_callers_trace_goes_on(start_of: Start, envelope_of: Envelope) -> None:
    remote = SpanContext(0x1234, 0x56, is_remote=True, trace_flags=TraceFlags(1))
    parent = trace.set_span_in_context(NonRecordingSpan(remote), Context())
    telemetry = CallTelemetry(
        tracer_provider=trace.NoOpTracerProvider(), meter_provider=metrics.NoOpMeterProvider(), vintages=("v1.41.0",)
    )
    span = run(telemetry, start_of(), envelope_of(), parent)
    assert (span.get_span_context(), span.is_recording()) == (remote, False)


def test_a_disabled_sdk_records_nothing(
    start_of: Start, envelope_of: Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False)
    span = run(CallTelemetry(tracer_provider=tracers, meter_provider=meters), start_of(), envelope_of())
    assert not span.is_recording()


def test_a_provider_that_is_set_after_the_first_call_gets_the_second(
    recorder: Any, start_of: Start, envelope_of: Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = CallTelemetry()
    run(telemetry, start_of(), envelope_of())
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorder.tracer_provider)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: recorder.meter_provider)
    run(telemetry, start_of(), envelope_of())
    assert len(recorder.spans) == 1
    assert [point.value for point in recorder.points("turnpike.requests")] == [1]


class BrokenSampler(Sampler):
    def should_sample(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("SECRET")

    def get_description(self) -> str:
        return "broken"


def test_a_broken_sampler_costs_the_span_and_not_the_call(recording: Any, caplog: pytest.LogCaptureFixture) -> None:
    recorder = recording(sampler=BrokenSampler())
    recorder.call()
    recorder.call()
    assert [point.value for point in recorder.points("turnpike.requests")] == [2]
    assert [record.getMessage() for record in caplog.records] == [
        "starting a span failed (RuntimeError); calls go on, and this is not logged again"
    ]


@pytest.mark.parametrize("broken", ["on_start", "on_end"])
def test_a_broken_processor_costs_the_span_and_not_the_call(recorder: Any, broken: str) -> None:
    class Broken(SpanProcessor):
        pass

    def fail(*_args: Any) -> None:
        raise RuntimeError

    setattr(Broken, broken, fail)
    recorder.tracer_provider.add_span_processor(Broken())
    recorder.call()
    assert [point.value for point in recorder.points("turnpike.requests")] == [1]


class NoMeters(MeterProvider):
    def get_meter(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("SECRET")


class NoInstruments(MeterProvider):
    def get_meter(self, *_args: Any, **_kwargs: Any) -> Any:
        return object()


@pytest.mark.parametrize("broken", [NoMeters, NoInstruments])
def test_broken_metrics_do_not_cost_the_span(
    recorder: Any,
    start_of: Start,
    envelope_of: Envelope,
    caplog: pytest.LogCaptureFixture,
    broken: type[MeterProvider],
) -> None:
    telemetry = CallTelemetry(tracer_provider=recorder.tracer_provider, meter_provider=broken(shutdown_on_exit=False))
    for _ in range(2):
        run(telemetry, start_of(), envelope_of())
    assert [span.attributes["turnpike.status"] for span in recorder.spans] == ["ok", "ok"]
    assert len(caplog.records) == 1
    assert "SECRET" not in caplog.text


def test_a_value_that_cannot_be_recorded_costs_nothing_else(recorder: Any) -> None:
    recorder.call(duration_s="soon")
    recorder.call()
    assert len(recorder.spans) == 2
    assert [point.count for point in recorder.points("gen_ai.client.operation.duration")] == [1]


def test_many_kinds_of_calls_do_not_grow_memory(
    recorder: Any, start_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_telemetry, "_MAX_KINDS", 4)
    for number in range(20):
        recorder.call(start_of(model=f"m{number}"))
    telemetry = recorder.telemetry
    assert max(len(telemetry._starts), len(telemetry._ends)) <= 4
    assert [span.name for span in recorder.spans] == [f"chat m{number}" for number in range(20)]


def test_a_child_of_a_fork_counts_on_although_a_thread_held_the_lock(
    recorder: Any, start_of: Start, envelope_of: Envelope
) -> None:
    recorder.call()
    held = recorder.telemetry._metering[1]._tallies._lock
    held.acquire()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            recorder.telemetry.measure(start_of(model="another"), envelope_of(), duration_s=1.0)
            status = 0
        finally:
            os._exit(status)
    held.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
