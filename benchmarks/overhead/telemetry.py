"""OpenTelemetry as an application has it, the same for every subject that emits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Telemetry:
    """The global providers: batches of spans to an exporter that counts, metrics to a reader in memory."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        telemetry = self

        class Counting(SpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                telemetry.spans += len(spans)
                telemetry.attributes += sum(len(span.attributes or ()) for span in spans)
                return SpanExportResult.SUCCESS

        self.spans = 0
        self.attributes = 0
        self._tracers = TracerProvider()
        # A queue that never overflows: a dropped span would be work that was not done.
        self._tracers.add_span_processor(BatchSpanProcessor(Counting(), max_queue_size=100_000))
        self._reader = InMemoryMetricReader()
        trace.set_tracer_provider(self._tracers)
        metrics.set_meter_provider(MeterProvider(metric_readers=[self._reader]))

    @property
    def tracer_provider(self) -> Any:
        return self._tracers

    def flush(self) -> None:
        """Export what waits."""
        self._tracers.force_flush()

    def metric_records(self) -> int:
        """How many values the histograms hold by now."""
        data = self._reader.get_metrics_data()
        points = (
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        )
        return sum(getattr(point, "count", 0) for point in points)
