"""Counters that are added up here and read when metrics are collected.

Adding to a dictionary costs a fraction of a microsecond; handing every addition to a metrics SDK costs several, and a
call makes three or more. Sums are integers, so the money in a metric is the money on the ledger to the last billionth
of a dollar. The price is that these counters carry no exemplars; the histograms of the same call do.

Nothing is added up, or even made, before a provider is there to read it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from turnpike.fork import reset_in_child
from turnpike.gateway.semconv import InstrumentSpec

__all__ = ["Tallies", "tallies_of"]

_MAX_SERIES = 2000
"""As many as the SDK keeps of one instrument."""
_OVERFLOW = {"otel.metric.overflow": True}


class _Tally:
    """One counter: a sum for each set of attributes."""

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor
        self._sums: dict[frozenset[tuple[str, Any]], tuple[Mapping[str, Any], list[int]]] = {}
        self._lock = threading.Lock()
        reset_in_child(self)

    def adder(self, attributes: Mapping[str, Any]) -> Callable[..., None]:
        """Return what adds to the sum of ``attributes``; a sum that is never added to is never reported."""
        key = frozenset(attributes.items())
        with self._lock:
            if key not in self._sums and len(self._sums) >= _MAX_SERIES:
                key, attributes = frozenset(_OVERFLOW.items()), _OVERFLOW
            _, amounts = self._sums.setdefault(key, (attributes, []))

        def add(amount: int, _attributes: object = None, _context: object = None) -> None:
            with self._lock:
                if amounts:
                    amounts[0] += amount
                else:
                    amounts.append(amount)

        return add

    def observe(self, _options: CallbackOptions) -> list[Observation]:
        """Report the sums to a reader."""
        with self._lock:
            found = [(amounts[0], attributes) for attributes, amounts in self._sums.values() if amounts]
        if self._divisor == 1:
            return [Observation(amount, attributes) for amount, attributes in found]
        return [Observation(amount / self._divisor, attributes) for amount, attributes in found]

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


class Tallies:
    """The counters of one meter."""

    def __init__(self) -> None:
        self._tallies: dict[InstrumentSpec, _Tally] = {}
        self._lock = threading.Lock()
        reset_in_child(self)

    def adder(self, meter: Meter, spec: InstrumentSpec, attributes: Mapping[str, Any]) -> Callable[..., None]:
        """Return what adds to the counter ``spec`` under ``attributes``; ``meter`` makes it the first time."""
        with self._lock:
            tally = self._tallies.get(spec)
            if tally is None:
                tally = self._tallies[spec] = _Tally(spec.divisor)
                meter.create_observable_counter(spec.name, [tally.observe], spec.unit, spec.description)
        return tally.adder(attributes)

    def after_fork_in_child(self) -> None:
        """Forget a lock that another thread of the parent may have held."""
        self._lock = threading.Lock()


_by_provider: WeakKeyDictionary[MeterProvider, dict[str, Tallies]] = WeakKeyDictionary()


def tallies_of(provider: MeterProvider, schema_url: str) -> Tallies:
    """Return the counters of the meter that ``provider`` gives for ``schema_url``.

    An SDK keeps one instrument for each name and ignores the callback of a second one, so gateways that report to the
    same provider must add to the same sums.
    """
    try:
        tallies = _by_provider.setdefault(provider, {})
    except TypeError:
        # The provider takes no weak references.
        return Tallies()
    return tallies.setdefault(schema_url, Tallies())
