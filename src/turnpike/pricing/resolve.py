"""From the names on a request to the rates that hold for it: registered, supplement, price data, or unknown.

The slow half of pricing (about 0.2 ms); its results are memoised by ``PriceBook``. The model that answered is looked
up before the one that was asked for, never a similar one. Nothing here reads a clock: the minute of the request is
part of the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from turnpike.pricing.fees import fees_for, region_factor
from turnpike.pricing.matching import dated, stripped
from turnpike.pricing.rates import RateCard, RateTable, compile_card
from turnpike.pricing.registered import RegisteredPrices
from turnpike.pricing.reported import REPORTING_PROVIDERS
from turnpike.pricing.snapshot import ListedModel, Snapshot, canonical_provider, load_snapshot
from turnpike.pricing.supplement import Supplement, SupplementRow, lay_over, load_supplement
from turnpike.pricing.tiers import build_context, context_rates

__all__ = ["RateKey", "Resolved", "resolve"]


class RateKey(NamedTuple):
    """Everything that rates depend on."""

    provider: str
    api: str
    model: str | None
    requested_model: str | None
    service_tier: str | None
    batch: bool
    speed: str | None
    geo: str | None
    minute: int
    """Minutes since the epoch: price lists are dated, and some change within the day."""


class Resolved(msgspec.Struct, frozen=True):
    """The answer to a ``RateKey``."""

    card: RateCard | None
    """None when there is no price; the notes say why."""
    notes: tuple[str, ...]
    version: str
    model_id: str | None
    provider: str
    """The provider's canonical id when it can state its own cost, else empty."""


class _Found(NamedTuple):
    table: RateTable
    model_id: str
    notes: tuple[str, ...]
    version: str


def resolve(key: RateKey, registered: RegisteredPrices) -> Resolved:
    """Find the rates for a key. Loads the price data on the first call."""
    snapshot = load_snapshot()
    provider = canonical_provider(key.provider)
    at = datetime.fromtimestamp(key.minute * 60, UTC)
    context, notes = build_context(batch=key.batch, service_tier=key.service_tier, speed=key.speed)
    names = [name for name in dict.fromkeys((key.model, key.requested_model)) if name]
    found = _registered(registered, provider, names, at, context, snapshot.version) or _listed(
        snapshot, load_supplement(), provider, names, at, context
    )
    reporter = provider if provider in REPORTING_PROVIDERS else ""
    if isinstance(found, str):
        return Resolved(None, (found,), snapshot.version, None, reporter)
    factor, region_notes = region_factor(key.api, key.geo)
    if names[0] != key.model and "registered_price" not in found.notes:
        notes += ("priced_requested_model",)
    card = compile_card(found.table, fees_for(provider, key.api, found.model_id, found.table), factor)
    return Resolved(
        card, tuple(dict.fromkeys(notes + found.notes + region_notes)), found.version, found.model_id, reporter
    )


def _registered(
    registered: RegisteredPrices,
    provider: str,
    names: list[str],
    at: datetime,
    context: Mapping[str, str],
    version: str,
) -> _Found | None:
    entry = registered.find(provider, names, at)
    if entry is None:
        return None
    notes = ("registered_price", "tier_rate_unknown") if context else ("registered_price",)
    return _Found(entry[1], entry[0], notes, f"{version};overrides/{registered.digest}")


def _listed(
    snapshot: Snapshot,
    supplement: Supplement,
    provider: str,
    names: list[str],
    at: datetime,
    context: Mapping[str, str],
) -> _Found | str:
    reason = "unknown_model" if snapshot.has_provider(provider) else "unknown_provider"
    for name in names:
        found = _listed_model(snapshot, supplement, provider, name, at, context)
        if isinstance(found, str):
            reason = found
        elif found is not None:
            return found if name == names[0] else found._replace(notes=("priced_requested_model", *found.notes))
    return reason


def _listed_model(
    snapshot: Snapshot, supplement: Supplement, provider: str, name: str, at: datetime, context: Mapping[str, str]
) -> _Found | str | None:
    real_name = supplement.real_name(provider, name)
    listed = snapshot.find(provider, real_name)
    owners = (provider, listed.owner) if listed else (provider,)
    rows = tuple(row for row in supplement.rows_for(owners, stripped(real_name), at) if row.context in ({}, context))
    table = lay_over(listed.standard(at) if listed else {}, rows, {})
    if not table.keys() & {"input", "output"} or (listed is None and not table.keys() >= {"input", "output"}):
        return "no_token_rate" if listed else None
    notes = _match_notes(listed, real_name, at)
    if context:
        table, context_notes = context_rates(listed, table, rows, at, context)
        notes += context_notes
    version = f"{snapshot.version};supplement/{supplement.date}" if rows else snapshot.version
    return _Found(table, listed.model_id if listed else _row_id(rows), notes, version)


def _row_id(rows: tuple[SupplementRow, ...]) -> str:
    return next(row.id for row in rows if row.rates)


def _match_notes(listed: ListedModel | None, name: str, at: datetime) -> tuple[str, ...]:
    day = dated(name)
    from_the_future = day is not None and day > (at + timedelta(days=1)).date()
    if from_the_future or (listed is not None and not listed.is_exact):
        return ("loose_model_match",)
    return ()
