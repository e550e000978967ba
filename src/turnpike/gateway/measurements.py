"""What one settled call is worth to the metrics: which instruments, with which attributes.

The answer depends on a handful of values with few variants (route, tier, model, status, ...), so it is worked out once
per combination and kept. Nothing here is ever an attribute that has many values: no tenant, no id, no count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, MeterProvider

from turnpike import semconv as own
from turnpike.gateway.semconv import InstrumentSpec, Vocabulary
from turnpike.gateway.tallies import tallies_of
from turnpike.usage import UsageVector

__all__ = ["Instruments", "Points", "Series", "record", "spending"]

Points: TypeAlias = tuple[tuple[Callable[..., None], dict[str, Any]], ...]
"""What records or adds a value, with the attributes to call it with."""

CURRENCY = "USD"
_NANO = 10**9

_COST = InstrumentSpec(own.METRIC_TURNPIKE_COST, "{USD}", "Cost of calls.", divisor=_NANO)
_COST_USD = InstrumentSpec(own.METRIC_TURNPIKE_COST_USD, "{USD}", "Cost of calls, as in 0.1.", divisor=_NANO)
_COST_USD_0_1 = InstrumentSpec(own.METRIC_TURNPIKE_COST_USD, "USD", "Cost of calls, as in 0.1.", divisor=_NANO)
_UNPRICED = InstrumentSpec(own.METRIC_TURNPIKE_COST_UNPRICED, "{call}", "Calls whose cost is not known.")
_REQUESTS = InstrumentSpec(own.METRIC_TURNPIKE_REQUESTS, "{request}", "Calls by how they ended.")
_UNATTRIBUTED = InstrumentSpec(own.METRIC_TURNPIKE_UNATTRIBUTED, "{call}", "Calls for which no tenant is named.")

_STATUS_0_1 = "status"
_MODALITIES = {
    "spent_input": ("audio", "image", "unknown"),
    "spent_output": ("audio", "unknown"),
    "spent_cache_read": ("audio", "unknown"),
    "spent_cache_write": ("unknown",),
    "spent_reasoning": ("unknown",),
}


@dataclass(slots=True)
class Series:
    """Where the values of one kind of call go. Empty points are measures that this kind does not report."""

    duration: Points = ()
    first_chunk: Points = ()
    tokens_in: Points = ()
    tokens_out: Points = ()
    failed_tokens: Points = ()
    """What gets a 0 when a failed call has no usage."""
    spent: Mapping[tuple[str, str], Points] = field(default_factory=dict)
    """By measure and modality; only in vintages that have such counters."""
    cost: Points = ()
    unpriced: Points = ()
    requests: Points = ()
    unattributed: Points = ()


class Instruments:
    """The instruments of one meter, made when first needed."""

    def __init__(self, provider: MeterProvider, meter: Meter, vocabulary: Vocabulary) -> None:
        self._meter = meter
        self._vocabulary = vocabulary
        self._tallies = tallies_of(provider, vocabulary.schema_url)
        self._histograms: dict[InstrumentSpec, Histogram] = {}

    def series(
        self, facts: Mapping[str, Any], labels: Mapping[str, Any], *, status: str, cost_source: str, reached: bool
    ) -> Series:
        """Work out where the values of one kind of call go.

        Args:
            facts: fields of the GenAI vocabulary.
            labels: route and tier under their own names; ``None`` is left out.
            status: how the call ended.
            cost_source: where its cost figure comes from.
            reached: whether a provider was asked at all. If not, nothing goes to the GenAI metrics, which describe
                providers' operations.
        """
        series = self._genai(facts) if reached else Series()
        labels = {name: value for name, value in labels.items() if value is not None}
        names = ("provider", "request_model")
        model = self._vocabulary.attributes({name: facts[name] for name in names}) | labels
        money = {own.ATTR_TURNPIKE_COST_CURRENCY: CURRENCY, own.ATTR_TURNPIKE_COST_ORIGIN: cost_source}
        legacy = self._vocabulary.legacy_metrics
        ended = {
            _STATUS_0_1 if legacy else own.ATTR_TURNPIKE_STATUS: "success" if legacy and status == "ok" else status
        }
        series.cost = self._points((_COST, model | money), (_COST_USD_0_1 if legacy else _COST_USD, model))
        series.unpriced = self._points((_UNPRICED, model))
        series.requests = self._points((_REQUESTS, labels | ended))
        series.unattributed = self._points((_UNATTRIBUTED, labels))
        return series

    def _genai(self, facts: Mapping[str, Any]) -> Series:
        def points(measure: str, modality: str | None = None) -> Points:
            return self._points(*self._vocabulary.points(measure, facts, modality=modality))

        spent = {
            (measure, modality): points(measure, modality)
            for measure, modalities in _MODALITIES.items()
            for modality in modalities
            if self._vocabulary.has_spending_counters
        }
        return Series(
            duration=points("duration"),
            first_chunk=points("time_to_first_chunk"),
            tokens_in=points("input_tokens"),
            tokens_out=points("output_tokens"),
            failed_tokens=points("failed_input_tokens") + points("failed_output_tokens"),
            spent=spent,
        )

    def _points(self, *uses: tuple[InstrumentSpec, dict[str, Any]]) -> Points:
        return tuple((self._recorder(spec, attributes), attributes) for spec, attributes in uses)

    def _recorder(self, spec: InstrumentSpec, attributes: Mapping[str, Any]) -> Callable[..., None]:
        if spec.bounds is None:
            return self._tallies.adder(self._meter, spec, attributes)
        histogram = self._histograms.get(spec)
        if histogram is None:
            # Made twice by two threads at once it is still one: the SDK hands out the same instrument.
            histogram = self._histograms[spec] = self._meter.create_histogram(
                spec.name, spec.unit, spec.description, explicit_bucket_boundaries_advisory=spec.bounds
            )
        return histogram.record


def record(points: Points, value: float, context: Context | None) -> None:
    """Record ``value`` on each of ``points`` in ``context``. Money is given in billionths of a dollar."""
    for method, attributes in points:
        method(value, attributes, context)


def spending(usage: UsageVector) -> Iterator[tuple[tuple[str, str], int]]:
    """Split ``usage`` into amounts above zero by measure and modality.

    What the provider did not report as audio or image is ``unknown``: that it is text is likely, but was not said.
    """
    audio_read = usage.cache_audio_read
    parts = (
        ("spent_input", "audio", usage.audio_in),
        ("spent_input", "image", usage.image_in),
        ("spent_input", "unknown", (usage.tokens_in or 0) - usage.audio_in - usage.image_in),
        ("spent_output", "audio", usage.audio_out),
        ("spent_output", "unknown", (usage.tokens_out or 0) - usage.audio_out),
        ("spent_cache_read", "audio", audio_read),
        ("spent_cache_read", "unknown", usage.cache_read - audio_read),
        ("spent_cache_write", "unknown", usage.cache_write_5m + usage.cache_write_1h),
        ("spent_reasoning", "unknown", usage.reasoning),
    )
    return (((measure, modality), amount) for measure, modality, amount in parts if amount > 0)
