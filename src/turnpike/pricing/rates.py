"""Rates and the arithmetic on them: a table of prices in, a compiled card that charges a usage vector out.

All arithmetic is on integers scaled so that no rate loses a digit; a result is exact until it is rounded once, half-
even, to billionths of a dollar. A card never guesses: a reported dimension without a rate is charged as ordinary
tokens and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple

import msgspec

from turnpike.usage import UsageVector

__all__ = ["EXACT", "Charge", "Fees", "Rate", "RateCard", "RateTable", "compile_card", "nano_of", "nano_usd"]

EXACT: Final = Context(prec=100)
"""Room for every product and sum of prices and counts, whatever the calling thread's decimal context is."""


class Rate(NamedTuple):
    """USD per million tokens (per thousand for the dimensions of requests), with long-context steps.

    Above a step's start the step's rate holds for every token of the request (the whole input counts, strictly
    greater).
    """

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, tokens_in: int) -> Decimal:
        """The rate of a request with ``tokens_in`` input tokens in all."""
        value = self.base
        for start, price in self.tiers:
            if tokens_in > start:
                value = price
        return value


RateTable = Mapping[str, Rate]
"""Dimension to rate: input, output, cache_read, cache_write, cache_write_5m, cache_write_1h, audio_in, audio_out,
cache_audio_read, image_in, reasoning; and per thousand: requests, web_search, file_search."""


class Fees(NamedTuple):
    """USD for one call of a server-side tool; None is "not known"."""

    web_search: Decimal | None = None
    web_search_preview: Decimal | None = None
    file_search: Decimal | None = None


class Charge(NamedTuple):
    """What a card makes of a vector: an amount in units of 10^-``scale`` USD, and notes."""

    units: int
    notes: tuple[str, ...]


_Coefficients = tuple[int, int, int, int, int, int, int, int, int, int]


class RateCard(msgspec.Struct, frozen=True):
    """The rates of one model at one moment in one context, compiled to one multiplication per reported count.

    A part is charged by its difference to the class that contains it (a cached token is an input token plus the
    difference), so classes that were not reported cost nothing to handle.
    """

    scale: int
    base: _Coefficients
    steps: tuple[tuple[int, _Coefficients], ...]
    per_request: int
    fees: tuple[int | None, int | None, int | None]
    unrated: tuple[str, ...]
    """Fields of the vector that have no rate of their own."""
    lacks_plain: bool
    """Whether one of the everyday fields is among them, so that every vector must be checked."""

    def charge(self, vector: UsageVector, previews: int = 0) -> Charge:
        """Price the vector. ``previews`` of its web searches were calls of OpenAI's preview tool."""
        tokens_in = vector.tokens_in or 0
        rates = self._stepped(tokens_in) if self.steps else self.base
        units = rates[0] * tokens_in + rates[1] * (vector.tokens_out or 0) + self.per_request
        if vector.cache_read:
            units += rates[2] * vector.cache_read
        if vector.reasoning:
            units += rates[3] * vector.reasoning
        special = self.lacks_plain
        if vector.cache_write_5m or vector.cache_write_1h:
            special = True
            units += rates[4] * vector.cache_write_5m + rates[5] * vector.cache_write_1h
        if vector.audio_in or vector.audio_out or vector.image_in:
            special = True
            units += _modalities(rates, vector)
        notes: tuple[str, ...] = ()
        if special and self.unrated:
            notes = tuple([f"dimension_without_rate:{name}" for name in self.unrated if getattr(vector, name)])
        if vector.web_search_requests or vector.file_search_requests or vector.code_interpreter_calls:
            fee, fee_notes = self._fees(vector, previews)
            units += fee
            notes += fee_notes
            if rates is not self.base:
                notes += ("threshold_on_summed_usage",)
        if vector.audio_in and _overlap(vector) > 0:
            notes += ("overlap_not_reported",)
        return Charge(units, notes)

    def _stepped(self, tokens_in: int) -> _Coefficients:
        rates = self.base
        for start, coefficients in self.steps:
            if tokens_in > start:
                rates = coefficients
        return rates

    def _fees(self, vector: UsageVector, previews: int) -> tuple[int, tuple[str, ...]]:
        previews = min(previews, vector.web_search_requests)
        used = (
            ("web_search", vector.web_search_requests - previews, self.fees[0]),
            ("web_search_preview", previews, self.fees[1]),
            ("file_search", vector.file_search_requests, self.fees[2]),
            ("code_interpreter", vector.code_interpreter_calls, None),
        )
        units = sum(number * fee for _, number, fee in used if fee is not None)
        return units, tuple(f"tool_fee_unknown:{name}" for name, number, fee in used if number and fee is None)


def _modalities(rates: _Coefficients, vector: UsageVector) -> int:
    units = rates[6] * vector.audio_in + rates[7] * vector.cache_audio_read
    units += rates[8] * vector.image_in + rates[9] * vector.audio_out
    hidden = _overlap(vector)
    if hidden > 0:
        # These tokens are cached and audio at once, by how the provider's numbers add up; charged as audio alone.
        units -= rates[2] * hidden
    return units


def _overlap(vector: UsageVector) -> int:
    """Input tokens that must be both cached and of a modality although the provider reported no such overlap."""
    cached = vector.cache_read + vector.cache_write_5m + vector.cache_write_1h
    parts = cached + vector.audio_in - vector.cache_audio_read + vector.image_in
    return min(parts - (vector.tokens_in or 0), vector.cache_read - vector.cache_audio_read)


def nano_usd(units: int, scale: int) -> int:
    """Round an amount in units of 10^-``scale`` USD to billionths of a dollar, half-even."""
    if scale <= 9:
        return units * int(10 ** (9 - scale))
    divisor = int(10 ** (scale - 9))
    whole, rest = divmod(units, divisor)
    twice = 2 * rest
    if twice > divisor or (twice == divisor and whole & 1):
        whole += 1
    return whole


def nano_of(cost_usd: Decimal) -> int:
    """Round an amount in USD to billionths of a dollar, half-even."""
    return int(cost_usd.scaleb(9, EXACT).to_integral_value(ROUND_HALF_EVEN, EXACT))


def compile_card(table: RateTable, fees: Fees, factor: Decimal = Decimal(1)) -> RateCard:
    """Compile a table. ``factor`` multiplies every token rate, but no fee.

    The fallbacks are those of genai-prices: a dimension without a rate counts as the class that contains it. Image and
    reasoning tokens are sold as ordinary tokens by most models, so for these a missing rate is not worth a note.
    """
    thousand, million = 3, 6
    starts = sorted({start for rate in table.values() for start, _ in rate.tiers})
    cells = [_cells(table, tokens_in, factor) for tokens_in in (0, *(start + 1 for start in starts))]
    request = table["requests"].base if "requests" in table else Decimal(0)
    amounts = [
        *(value.scaleb(-million, EXACT) for cell in cells for value in cell),
        request.scaleb(-thousand, EXACT),
        *(fee for fee in fees if fee is not None),
    ]
    scale = max(9, *(-int(amount.as_tuple().exponent) for amount in amounts))
    coefficients = [_coefficients([_units(value, scale - million) for value in cell]) for cell in cells]
    unrated = _unrated(table)
    return RateCard(
        scale=scale,
        base=coefficients[0],
        steps=tuple(zip(starts, coefficients[1:], strict=True)),
        per_request=_units(request, scale - thousand),
        fees=tuple(None if fee is None else _units(fee, scale) for fee in fees),  # type: ignore[arg-type]
        unrated=unrated,
        lacks_plain=not _PLAIN.isdisjoint(unrated),
    )


def _units(value: Decimal, scale: int) -> int:
    return int(value.scaleb(scale, EXACT))


def _cells(table: RateTable, tokens_in: int, factor: Decimal) -> list[Decimal]:
    """The rate of each class of tokens that a request is made of, fallbacks resolved."""

    def rate(*names: str) -> Decimal:
        for name in names:
            if name in table:
                return EXACT.multiply(table[name].at(tokens_in), factor)
        return Decimal(0)

    return [
        rate("input"),
        rate("output"),
        rate("cache_read", "input"),
        rate("reasoning", "output"),
        rate("cache_write_5m", "cache_write", "input"),
        rate("cache_write_1h", "cache_write", "input"),
        rate("audio_in", "input"),
        rate("cache_audio_read", "audio_in", "cache_read", "input"),
        rate("image_in", "input"),
        rate("audio_out", "output"),
    ]


def _coefficients(cells: list[int]) -> _Coefficients:
    plain, out, read, reasoning, write_5m, write_1h, audio, audio_read, image, audio_out = cells
    return (
        plain,
        out,
        read - plain,
        reasoning - out,
        write_5m - plain,
        write_1h - plain,
        audio - plain,
        audio_read - audio - read + plain,
        image - plain,
        audio_out - out,
    )


_PLAIN: Final = frozenset({"tokens_in", "tokens_out", "cache_read"})
_OWN_RATE: Final = {
    "tokens_in": ("input",),
    "tokens_out": ("output",),
    "cache_read": ("cache_read",),
    "cache_write_5m": ("cache_write_5m", "cache_write"),
    "cache_write_1h": ("cache_write_1h",),
    "audio_in": ("audio_in",),
    "cache_audio_read": ("cache_audio_read",),
    "audio_out": ("audio_out",),
}


def _unrated(table: RateTable) -> tuple[str, ...]:
    return tuple(name for name, rates in _OWN_RATE.items() if table.keys().isdisjoint(rates))
