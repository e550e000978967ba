"""Prices that the operator registers: checked on the way in, dated, and looked up by exact name only."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from turnpike.fork import reset_in_child
from turnpike.pricing.rates import Rate, RateTable
from turnpike.pricing.snapshot import canonical_provider, day_start

__all__ = ["RegisteredPrice", "RegisteredPrices"]

_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)
Number = int | float | Decimal


class RegisteredPrice(NamedTuple):
    """One registered price list of one model."""

    effective_from: datetime
    rates: RateTable


class RegisteredPrices:
    """Registered price lists by provider and model. Safe to read and to change from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        reset_in_child(self)
        self._lists: dict[tuple[str | None, str], tuple[RegisteredPrice, ...]] = {}
        self.digest: str = ""
        """First 8 hex digits of the SHA-256 over the sorted table; empty when nothing is registered."""

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def register(
        self,
        model: str,
        rates: dict[str, Number | None],
        *,
        provider: str | None = None,
        effective_from: date | datetime | None = None,
    ) -> None:
        """Add a price list, replacing the one that takes effect at the same moment.

        Args:
            model: The name as the provider or the caller writes it.
            rates: Dimension to USD per million tokens; None leaves a dimension out.
            provider: Hold for this provider only.
            effective_from: The first moment it holds; a date means midnight UTC. None means always.

        Raises:
            ValueError: A rate is negative or not finite, the name is empty, or a datetime has no time zone.
        """
        if not model.strip():
            msg = "model must not be empty; write the name that the provider reports, e.g. 'gpt-4o-mini'"
            raise ValueError(msg)
        table = {name: Rate(_rate(model, name, rate)) for name, rate in rates.items() if rate is not None}
        entry = RegisteredPrice(_moment(effective_from), table)
        key = (None if provider is None else canonical_provider(provider), model.lower())
        with self._lock:
            others = (each for each in self._lists.get(key, ()) if each.effective_from != entry.effective_from)
            self._lists = {**self._lists, key: tuple(sorted((*others, entry), key=lambda each: each.effective_from))}
            self.digest = _digest(self._lists)

    def find(self, provider: str, models: Sequence[str], at: datetime) -> tuple[str, RateTable] | None:
        """The name that is registered and its rates at a moment; a list for the provider goes before one for all."""
        for model in models:
            for key in ((provider, model.lower()), (None, model.lower())):
                for entry in reversed(self._lists.get(key, ())):
                    if entry.effective_from <= at:
                        return model, entry.rates
        return None

    def providers_of(self, model: str) -> tuple[str | None, ...]:
        """The providers that a model is registered for; None stands for all of them."""
        return tuple(provider for provider, name in self._lists if name == model.lower())

    def current(self, at: datetime) -> dict[str, RateTable]:
        """The rates of every registered model at a moment."""
        rates = {}
        for (_, model), entries in self._lists.items():
            for entry in entries:
                if entry.effective_from <= at:
                    rates[model] = entry.rates
        return rates


def _rate(model: str, name: str, rate: Number) -> Decimal:
    if isinstance(rate, bool) or not math.isfinite(rate) or rate < 0:
        msg = f"price of {model!r}: {name} must be finite, non-negative USD per million tokens, not {rate!r}"
        raise ValueError(msg)
    return rate if isinstance(rate, Decimal) else Decimal(repr(rate))


def _moment(effective_from: date | datetime | None) -> datetime:
    if effective_from is None:
        return _ALWAYS
    if not isinstance(effective_from, datetime):
        return day_start(effective_from)
    if effective_from.utcoffset() is None:
        msg = "effective_from has no time zone; write e.g. datetime(2026, 11, 1, tzinfo=UTC) or a plain date"
        raise ValueError(msg)
    return effective_from.astimezone(UTC)


def _digest(lists: dict[tuple[str | None, str], tuple[RegisteredPrice, ...]]) -> str:
    table = [
        [
            provider or "",
            model,
            entry.effective_from.isoformat(),
            sorted((k, str(v.base)) for k, v in entry.rates.items()),
        ]
        for (provider, model), entries in lists.items()
        for entry in entries
    ]
    return hashlib.sha256(json.dumps(sorted(table)).encode()).hexdigest()[:8]
