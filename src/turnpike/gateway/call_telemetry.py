"""Telemetry of calls: one span and a handful of measurements each.

Only the OpenTelemetry API is needed; without an SDK almost nothing happens. Telemetry never raises into a call and
never carries a prompt, an answer, a key or the text of an error. It may be sampled and dropped: the record is the
ledger.

``error.type`` is the envelope's ``error_type``, the same on span and metrics: ``auth_error``, ``rate_limit``,
``timeout``, ``transient_error``, ``invalid_request``, ``unknown``, ``cancelled``, ``denied``, or what a registered
provider's ``categorize_error`` returns. ``_OTHER`` stands for a value that is not a short token. No exception event is
recorded, because an exception's text may repeat a prompt or a key.
"""

from __future__ import annotations

import functools
import logging
import re
from importlib import metadata as distributions
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from turnpike.envelope import EnvelopeStatus, LLMRequestEnvelope
from turnpike.gateway.measurements import Instruments, Series, record, spending
from turnpike.gateway.semconv import Vocabulary, vintages_from_env
from turnpike.gateway.spans import (
    SpanStart,
    common_end,
    common_start,
    cost_nano_usd,
    identity,
    own_end,
    own_start,
    response_tier,
)
from turnpike.semconv import ATTR_TURNPIKE_MODEL_TIER, ATTR_TURNPIKE_ROUTE
from turnpike.usage import UsageVector

__all__ = ["CallTelemetry"]

_log = logging.getLogger("turnpike.telemetry")

_SCOPE = "turnpike"
_MAX_KINDS = 512
"""Kinds of call whose attributes are kept; when there are more, all are built anew."""
_SUCCESSES = (EnvelopeStatus.OK, EnvelopeStatus.CACHED, EnvelopeStatus.DEGRADED)
_NOT_SENT = (EnvelopeStatus.CACHED, EnvelopeStatus.DENIED)
_TOKEN = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_NO_CONTEXT = Context()


class CallTelemetry:
    """Spans and metrics of one gateway. Two gateways share nothing but the providers they are given.

    Nothing is created before the first call. Providers that are set after that are taken up by the next call.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        vintages: tuple[str, ...] | None = None,
    ) -> None:
        """Use the given providers, or the global ones.

        Args:
            tracer_provider: where spans come from.
            meter_provider: where instruments come from.
            vintages: the vintages of the GenAI conventions to emit, the primary one first; by default what the
                environment says, see ``turnpike.gateway.semconv``.

        Raises:
            ValueError: if a vintage is not known.
        """
        self._vocabulary = Vocabulary(vintages_from_env() if vintages is None else vintages)
        self._given_tracer_provider = tracer_provider
        self._given_meter_provider = meter_provider
        self._tracing: tuple[trace.TracerProvider | None, trace.Tracer | None] = (None, None)
        self._metering: tuple[metrics.MeterProvider | None, Instruments | None] = (None, None)
        self._starts: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._ends: dict[tuple[Any, ...], tuple[dict[str, Any], Series]] = {}
        self._complained = False

    def start(self, start: SpanStart, parent: Context) -> Span:
        """Start the one CLIENT span of a call; it becomes nobody's current span.

        Args:
            start: what is known of the call.
            parent: the context captured when the call was made.

        Returns:
            The span, or one that records nothing when there is no SDK or the span could not be started. Never raises.
        """
        try:
            tracer = self._tracer()
            if tracer is not None:
                return tracer.start_span(
                    f"{start.operation} {start.model}",
                    parent,
                    SpanKind.CLIENT,
                    self._start_attributes(start),
                    record_exception=False,
                    set_status_on_exception=False,
                )
        except Exception as error:  # noqa: BLE001 - see start()
            self._complain("starting a span", error)
        return trace.NonRecordingSpan(trace.get_current_span(parent).get_span_context())

    def finish(
        self,
        span: Span,
        start: SpanStart,
        envelope: LLMRequestEnvelope,
        *,
        duration_s: float,
        time_to_first_chunk_s: float | None,
    ) -> None:
        """End ``span`` and record the metrics of a call. Never raises.

        Args:
            span: what ``start`` returned.
            start: what the span was started with; after a fallback, with provider, model and server of the leg that
                served.
            envelope: the call's terminal envelope.
            duration_s: from the call's start to its end, in seconds.
            time_to_first_chunk_s: seconds until the first chunk, of a stream that had one.
        """
        try:
            instruments = self._instruments()
            if instruments is None and not span.is_recording():
                return
            error_type, usage = _error_type(envelope), _usage(envelope)
            attributes, series = self._kind(instruments, start, envelope, error_type)
        except Exception as error:  # noqa: BLE001 - see start()
            self._complain("ending a span", error)
            attributes, series, error_type, usage = {}, Series(), None, None
        first_chunk_s = time_to_first_chunk_s if start.stream else None
        if span.is_recording():
            self._describe(span, start, envelope, attributes, usage, error_type, first_chunk_s)
        try:
            span.end()
        except Exception as error:  # noqa: BLE001 - see start()
            self._complain("ending a span", error)
        if series.requests:
            context = trace.set_span_in_context(span, _NO_CONTEXT)
            self._measure(series, envelope, usage, error_type, duration_s, first_chunk_s, context)

    def _describe(
        self,
        span: Span,
        start: SpanStart,
        envelope: LLMRequestEnvelope,
        common: dict[str, Any],
        usage: UsageVector | None,
        error_type: str | None,
        first_chunk_s: float | None,
    ) -> None:
        try:
            attributes = common.copy()
            own_end(attributes, self._vocabulary, envelope, usage, first_chunk_s)
            span.set_attributes(attributes)
            if error_type is not None:
                span.set_status(Status(StatusCode.ERROR, error_type))
            if envelope.fallback_triggered:
                span.update_name(f"{start.operation} {start.model}")
        except Exception as error:  # noqa: BLE001 - see start()
            self._complain("describing a span", error)

    def measure(self, start: SpanStart, envelope: LLMRequestEnvelope, *, duration_s: float) -> None:
        """Record the metrics of a call that has no span of its own. Never raises."""
        try:
            error_type = _error_type(envelope)
            _, series = self._kind(self._instruments(), start, envelope, error_type)
        except Exception as error:  # noqa: BLE001 - see start()
            self._complain("recording metrics", error)
            return
        self._measure(series, envelope, _usage(envelope), error_type, duration_s, None, None)

    def _tracer(self) -> trace.Tracer | None:
        """Return the tracer in force, or ``None`` while there is no SDK."""
        provider = self._given_tracer_provider or trace.get_tracer_provider()
        known, tracer = self._tracing
        if provider is not known:
            tracer = None
            if not isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
                tracer = provider.get_tracer(_SCOPE, _version(), self._vocabulary.schema_url)
                if isinstance(tracer, trace.NoOpTracer):
                    tracer = None
            self._tracing = (provider, tracer)
        return tracer

    def _instruments(self) -> Instruments | None:
        """Return the instruments in force, or ``None`` while there is no SDK."""
        provider = self._given_meter_provider or metrics.get_meter_provider()
        known, instruments = self._metering
        if provider is not known:
            instruments = self._instruments_of(provider)
            self._ends = {}
            self._metering = (provider, instruments)
        return instruments

    def _instruments_of(self, provider: metrics.MeterProvider) -> Instruments | None:
        # The API's own providers, the proxy among them, have no other public mark.
        if type(provider).__module__.startswith("opentelemetry.metrics"):
            return None
        try:
            meter = provider.get_meter(_SCOPE, _version(), self._vocabulary.schema_url)
            return None if isinstance(meter, metrics.NoOpMeter) else Instruments(provider, meter, self._vocabulary)
        except Exception as error:  # noqa: BLE001 - see start()
            self._complain("setting up metrics", error)
            return None

    def _start_attributes(self, start: SpanStart) -> dict[str, Any]:
        key = (
            start.operation,
            start.provider,
            start.provider_name,
            start.provider_api,
            start.model,
            start.route,
            start.tier,
            start.stream,
            start.server_address,
            start.server_port,
            start.output_type,
            start.retry_attempts_allowed,
            start.cache_enabled,
            start.service_tier,
        )
        common = self._starts.get(key)
        if common is None:
            common = common_start(self._vocabulary, start)
            if len(self._starts) >= _MAX_KINDS:
                self._starts.clear()
            self._starts[key] = common
        attributes = common.copy()
        own_start(attributes, self._vocabulary, start)
        return attributes

    def _kind(
        self,
        instruments: Instruments | None,
        start: SpanStart,
        envelope: LLMRequestEnvelope,
        error_type: str | None,
    ) -> tuple[dict[str, Any], Series]:
        """Return the end attributes and the metric series that calls of this kind have in common."""
        key = (
            start.operation,
            start.provider,
            start.model,
            start.server_address,
            start.server_port,
            start.route,
            start.tier,
            error_type,
            envelope.status,
            envelope.cache_hit,
            envelope.response_model,
            envelope.finish_reason,
            envelope.provider_finish_reason,
            envelope.service_tier,
            envelope.cost_source,
            envelope.cost_quality,
            envelope.fallback_triggered,
        )
        kind = self._ends.get(key)
        if kind is None:
            series = self._series(instruments, start, envelope, error_type)
            kind = common_end(self._vocabulary, start, envelope, error_type), series
            if len(self._ends) >= _MAX_KINDS:
                self._ends.clear()
            self._ends[key] = kind
        return kind

    def _series(
        self, instruments: Instruments | None, start: SpanStart, envelope: LLMRequestEnvelope, error_type: str | None
    ) -> Series:
        if instruments is None:
            return Series()
        facts = identity(start) | {
            "response_model": envelope.response_model,
            "openai_response_tier": response_tier(start, envelope),
            "error_type": error_type,
        }
        try:
            return instruments.series(
                facts,
                {ATTR_TURNPIKE_ROUTE: start.route, ATTR_TURNPIKE_MODEL_TIER: start.tier},
                status=str(envelope.status),
                cost_source=str(envelope.cost_source),
                reached=envelope.status not in _NOT_SENT,
            )
        except Exception as error:  # noqa: BLE001 - see start()
            self._complain("setting up metrics", error)
            return Series()

    def _measure(
        self,
        series: Series,
        envelope: LLMRequestEnvelope,
        usage: UsageVector | None,
        error_type: str | None,
        duration_s: float,
        first_chunk_s: float | None,
        context: Context | None,
    ) -> None:
        try:
            record(series.duration, duration_s, context)
            if first_chunk_s is not None:
                record(series.first_chunk, first_chunk_s, context)
            _measure_tokens(series, usage, error_type, context)
            cost = cost_nano_usd(envelope)
            if cost is not None:
                record(series.cost, cost, context)
            else:
                record(series.unpriced, 1, context)
            record(series.requests, 1, context)
            if envelope.attributed is False:
                record(series.unattributed, 1, context)
        except Exception as error:  # noqa: BLE001 - see start()
            self._complain("recording metrics", error)

    def _complain(self, what: str, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            # The type only: the text of an exception raised here may quote attribute values.
            _log.warning("%s failed (%s); calls go on, and this is not logged again", what, type(error).__name__)


def _measure_tokens(series: Series, usage: UsageVector | None, error_type: str | None, context: Context | None) -> None:
    if usage is None:
        if error_type is not None:
            record(series.failed_tokens, 0, context)
        return
    if usage.tokens_in is not None:
        record(series.tokens_in, usage.tokens_in, context)
    if usage.tokens_out is not None:
        record(series.tokens_out, usage.tokens_out, context)
    if series.spent:
        for part, amount in spending(usage):
            record(series.spent[part], amount, context)


def _usage(envelope: LLMRequestEnvelope) -> UsageVector | None:
    if envelope.usage is not None:
        return envelope.usage
    if envelope.tokens_in is None and envelope.tokens_out is None:
        return None
    return UsageVector(tokens_in=envelope.tokens_in, tokens_out=envelope.tokens_out)


def _error_type(envelope: LLMRequestEnvelope) -> str | None:
    status = envelope.status
    if status in _SUCCESSES:
        return None
    error_type = envelope.error_type or ("unknown" if status == EnvelopeStatus.ERROR else str(status))
    return error_type if _TOKEN.fullmatch(error_type) else "_OTHER"


@functools.cache
def _version() -> str | None:
    try:
        return distributions.version("turnpike")
    except distributions.PackageNotFoundError:
        return None
