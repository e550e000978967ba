"""Dated corrections to the price data, from ``supplement.json``: one row per gap, each with its source.

A row names models (``models`` exactly, ``prefixes`` by their start), the providers it holds for, a time span
(``from`` inclusive, ``until`` exclusive, UTC days) and either ``rates`` to lay over the listed ones or ``drop_tiers``
to end a long-context step. A row with a ``context`` holds for that tier or batch only. A row with input and output
rates also prices a model that the price data does not list. The file is read once, on first use.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from importlib import resources

import msgspec

from turnpike.pricing.rates import Rate, RateTable
from turnpike.struct_types import prepared

__all__ = ["Supplement", "SupplementRow", "lay_over", "load_supplement"]


class _Alias(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alias: str
    providers: tuple[str, ...]
    model: str
    source: str


class SupplementRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """One correction."""

    id: str
    providers: tuple[str, ...]
    source: str
    models: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    since: date = date.min
    until: date = date.max
    context: dict[str, str] = {}
    rates: dict[str, Decimal] = {}
    drop_tiers: bool = False

    def holds(self, providers: Sequence[str], model: str, at: datetime) -> bool:
        """Whether the row is about this model at this moment (UTC)."""
        return (
            (model in self.models or model.startswith(self.prefixes))
            and self.since <= at.date() < self.until
            and any(provider in self.providers for provider in providers)
        )


@prepared
class Supplement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    date: str
    aliases: tuple[_Alias, ...]
    rows: tuple[SupplementRow, ...]

    def real_name(self, provider: str, model: str) -> str:
        """The vendor's id for a model that callers know by another name."""
        for entry in self.aliases:
            if entry.alias == model and provider in entry.providers:
                return entry.model
        return model

    def rows_for(self, providers: Sequence[str], model: str, at: datetime) -> tuple[SupplementRow, ...]:
        """The rows that hold for a model name at a moment, in the file's order."""
        name = model.lower()
        return tuple(row for row in self.rows if row.holds(providers, name, at))


def lay_over(table: RateTable, rows: Sequence[SupplementRow], context: Mapping[str, str]) -> RateTable:
    """Lay the rows for ``context`` over a table; an empty context selects the rows for standard rates."""
    result = dict(table)
    for row in rows:
        if row.context == context:
            result.update({name: Rate(rate) for name, rate in row.rates.items()})
        if row.drop_tiers:
            result = {name: Rate(rate.base) for name, rate in result.items()}
    return result


@functools.cache
def load_supplement() -> Supplement:
    """Read the file that ships with the package."""
    data = resources.files(__package__).joinpath("supplement.json").read_bytes()
    return msgspec.json.decode(data, type=Supplement)
