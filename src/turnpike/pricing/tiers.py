"""Service tiers, batch and fast mode: what a request was sold as, and its rates when those are known only for later.

The price data silently answers with standard rates for a tier that it does not know at that date. Here a tier without
rates is found out and either carried back from its first listed day, by its ratio to the standard rate of that day,
or named in a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from turnpike.pricing.rates import EXACT, Rate, RateTable
from turnpike.pricing.snapshot import ListedModel, day_start
from turnpike.pricing.supplement import SupplementRow, lay_over

__all__ = ["build_context", "context_rates"]

_TIERS: Final = frozenset({"flex", "priority", "fast"})
_STANDARD: Final = frozenset({"", "default", "standard", "standard_only", "on_demand", "not_available"})
_RENAMED: Final = {"priority": "fast", "fast": "priority"}
_CARRIED_DIGITS: Final = Decimal("1e-9")


def build_context(
    *, batch: bool, service_tier: str | None, speed: str | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The price context of a request, and notes on what could not be placed.

    Only the caller knows that an OpenAI answer came from a batch; Anthropic says so in ``service_tier``.
    """
    tier = (service_tier or "").lower()
    context: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if batch or tier == "batch":
        context["processing"] = "batch"
    elif tier in _TIERS:
        context["service_tier"] = tier
    elif tier == "auto":
        notes += ("tier_not_resolved",)
    elif tier not in _STANDARD:
        notes += ("tier_rate_unknown",)
    if speed == "fast":
        context["speed"] = "fast"
    elif speed and speed != "standard":
        notes += ("tier_rate_unknown",)
    return context, notes


def context_rates(
    listed: ListedModel | None,
    standard: RateTable,
    rows: Sequence[SupplementRow],
    at: datetime,
    context: Mapping[str, str],
) -> tuple[RateTable, tuple[str, ...]]:
    """The rates in a context.

    Args:
        listed: The price data's entry, None for a model that only the supplement knows.
        standard: The model's standard rates at ``at``, the supplement's rows applied.
        rows: The supplement's rows that hold for the model at ``at``.
        at: The request's start, UTC.
        context: From ``build_context``, not empty.

    Returns:
        The rates and ``tier_rate_projected_back`` or ``tier_rate_unknown`` when they are not listed for that day.
    """
    if any(row.context == context for row in rows):
        return lay_over(standard, rows, context), ()
    for spelling in _spellings(context):
        since = listed.modelled_since(spelling) if listed else None
        if listed is None or since is None:
            continue
        if since <= at.date():
            return _merged(listed.standard(at), listed.in_context(at, spelling), standard, rows), ()
        return _carried_back(listed, standard, rows, since, spelling), ("tier_rate_projected_back",)
    return standard, ("tier_rate_unknown",)


def _spellings(context: Mapping[str, str]) -> list[Mapping[str, str]]:
    """The context, then the same under the tier's other name: OpenAI renamed ``priority`` to ``fast``."""
    renamed = _RENAMED.get(context.get("service_tier", ""))
    return [context] if renamed is None else [context, {**context, "service_tier": renamed}]


def _merged(
    listed: RateTable, in_context: RateTable, standard: RateTable, rows: Sequence[SupplementRow]
) -> dict[str, Rate]:
    """The context's rates, with the supplemented standard rate wherever the context changes nothing."""
    changed = {name: rate for name, rate in in_context.items() if listed.get(name) != rate}
    if any(row.drop_tiers for row in rows):
        changed = {name: Rate(rate.base) for name, rate in changed.items()}
    return {**standard, **changed}


def _carried_back(
    listed: ListedModel,
    standard: RateTable,
    rows: Sequence[SupplementRow],
    since: date,
    context: Mapping[str, str],
) -> dict[str, Rate]:
    day = day_start(since)
    later_standard = listed.standard(day)
    later = _merged(later_standard, listed.in_context(day, context), later_standard, rows)
    result = {}
    for name, rate in standard.items():
        then = later_standard.get(name)
        result[name] = rate if then is None or name not in later else _scaled(rate, then, later[name])
    return result


def _scaled(rate: Rate, then: Rate, later: Rate) -> Rate:
    """``rate`` times the ratio of a context's later rate to the standard rate of that day."""
    if then in (rate, later):
        return later if then == rate else rate
    if not then.base:
        return rate
    return Rate(
        _carry(rate.base, then.base, later.base),
        tuple((start, _carry(price, then.base, later.base)) for start, price in rate.tiers),
    )


def _carry(price: Decimal, then: Decimal, later: Decimal) -> Decimal:
    value = EXACT.divide(EXACT.multiply(price, later), then)
    return value.quantize(_CARRIED_DIGITS, ROUND_HALF_EVEN, EXACT).normalize(EXACT)
