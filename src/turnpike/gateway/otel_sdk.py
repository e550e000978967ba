"""The parts of ``setup_otel()`` that need the OpenTelemetry SDK; imported by it alone, and only when it is called.

A pipeline is a provider whose exporter can be taken away and put back, because a provider can be set only once. It
never raises for a bad value in the environment: it says so in the log and goes on without.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from importlib import metadata as distributions
from typing import Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider  # noqa: TID253 - this module is imported only where the SDK is asked for
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter, PeriodicExportingMetricReader  # noqa: TID253 - this module is imported only where the SDK is asked for
from opentelemetry.sdk.resources import Resource  # noqa: TID253 - this module is imported only where the SDK is asked for
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider  # noqa: TID253 - this module is imported only where the SDK is asked for
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter  # noqa: TID253 - this module is imported only where the SDK is asked for

from turnpike.errors import MissingExtraError

__all__ = ["MetricPipeline", "TracePipeline", "make_resource"]

_log = logging.getLogger("turnpike.otel")

_DEFAULT_INTERVAL_MS = 30_000.0

T = TypeVar("T")


class TracePipeline:
    """A tracer provider and its exporter."""

    def __init__(self) -> None:
        self._relay = _Relay()
        self.provider: TracerProvider = TracerProvider(resource=make_resource(), shutdown_on_exit=False)
        self.provider.add_span_processor(self._relay)

    def open(self) -> None:
        """Begin to export, if the environment says where.

        Raises:
            MissingExtraError: if the exporter is not installed.
        """
        if self._relay.target is not None:
            return
        exporter = _built("traces", _span_exporter)
        if exporter is not None:
            self._relay.target = _built("traces", lambda: BatchSpanProcessor(exporter))

    def close(self, _timeout_s: float) -> None:
        """Send what is waiting and stop exporting. The SDK's processor takes no deadline; the caller stops waiting."""
        target, self._relay.target = self._relay.target, None
        if target is not None:
            target.shutdown()


class MetricPipeline:
    """A meter provider and its reader."""

    def __init__(self) -> None:
        self._reader: _Reader | None = _built("metrics", _reader)
        self._is_open = True
        readers = [self._reader] if self._reader is not None else []
        self.provider: MeterProvider = MeterProvider(readers, make_resource(), shutdown_on_exit=False)

    def open(self) -> None:
        """Begin to export again after ``close``, if the environment says where and the SDK can."""
        if self._is_open:
            return
        self._is_open = True
        if not hasattr(self.provider, "add_metric_reader"):
            _log.warning("this version of the OpenTelemetry SDK cannot export metrics again once it was shut down")
            return
        self._reader = _built("metrics", _reader)
        if self._reader is not None:
            self.provider.add_metric_reader(self._reader)

    def close(self, timeout_s: float) -> None:
        """Send what has been measured and stop exporting."""
        reader, self._reader, self._is_open = self._reader, None, False
        if reader is not None:
            reader.shutdown(timeout_s * 1e3)
            if hasattr(self.provider, "remove_metric_reader"):
                self.provider.remove_metric_reader(reader)


class _Relay(SpanProcessor):
    """Hands spans to a processor that can be exchanged; a provider cannot let go of one."""

    def __init__(self) -> None:
        self.target: SpanProcessor | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if (target := self.target) is not None:
            target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if (target := self.target) is not None:
            target.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True if (target := self.target) is None else target.force_flush(timeout_millis)


class _Reader(PeriodicExportingMetricReader):
    """A reader that may be shut down twice: taking it off its provider does that again."""

    def __init__(self, exporter: MetricExporter, interval_ms: float) -> None:
        super().__init__(exporter, export_interval_millis=interval_ms)
        self._closed = False

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if not self._closed:
            self._closed = True
            super().shutdown(timeout_millis, **kwargs)


def make_resource() -> Resource:
    """Describe this process: the environment's attributes, and Turnpike's defaults where it says nothing."""
    detected = Resource.create()
    named = detected.attributes
    ours: dict[str, str] = {}
    if str(named.get("service.name", "")).startswith("unknown_service"):
        ours["service.name"] = "turnpike"
    version = os.environ.get("OTEL_SERVICE_VERSION") or (_own_version() if ours else None)
    if version and "service.version" not in named:
        ours["service.version"] = version
    if "deployment.environment.name" not in named:
        # The second is the attribute's old name, under which people still set it.
        environment = os.environ.get("OTEL_DEPLOYMENT_ENVIRONMENT") or named.get("deployment.environment")
        ours["deployment.environment.name"] = str(environment or "development")
    return detected.merge(Resource(ours))


def _own_version() -> str | None:
    try:
        return distributions.version("turnpike")
    except distributions.PackageNotFoundError:
        return None


def _exporter_kind(signal: str) -> str | None:
    upper = signal.upper()
    chosen = os.environ.get(f"OTEL_{upper}_EXPORTER", "").strip().lower()
    if chosen in ("otlp", "console"):
        return chosen
    if chosen == "none":
        return None
    if chosen:
        _log.warning("OTEL_%s_EXPORTER must be otlp, console or none for setup_otel()", upper)
    if os.environ.get(f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return "otlp"
    _log.info("no OTEL_EXPORTER_OTLP_ENDPOINT is set; %s are not exported", signal)
    return None


def _span_exporter() -> SpanExporter | None:
    kind = _exporter_kind("traces")
    if kind == "otlp":
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            raise MissingExtraError("setup_otel() with an OTLP endpoint", "otel") from None
        return OTLPSpanExporter()
    return ConsoleSpanExporter() if kind == "console" else None


def _reader() -> _Reader | None:
    exporter = _metric_exporter()
    return None if exporter is None else _Reader(exporter, _interval_ms())


def _metric_exporter() -> MetricExporter | None:
    kind = _exporter_kind("metrics")
    if kind == "otlp":
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        except ImportError:
            raise MissingExtraError("setup_otel() with an OTLP endpoint", "otel") from None
        return OTLPMetricExporter()
    return ConsoleMetricExporter() if kind == "console" else None


def _interval_ms() -> float:
    text = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    if not text:
        return _DEFAULT_INTERVAL_MS
    try:
        interval_ms = float(text)
    except ValueError:
        interval_ms = math.nan
    if 0 < interval_ms < math.inf:
        return interval_ms
    _log.warning("OTEL_METRIC_EXPORT_INTERVAL must be a number of milliseconds such as 30000; 30000 is used")
    return _DEFAULT_INTERVAL_MS


def _built(signal: str, build: Callable[[], T | None]) -> T | None:
    try:
        return build()
    except MissingExtraError:
        raise
    except Exception as error:  # noqa: BLE001 - a bad variable must not stop the application
        # The type only: the text may quote a header with a key in it.
        name = type(error).__name__
        _log.warning("the OTEL_* variables for %s are not usable (%s); %s are not exported", signal, name, signal)
        return None
