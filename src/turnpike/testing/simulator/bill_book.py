"""What the simulated provider charges: its own price table, its own arithmetic, one line per request.

This is the other side of the till. It must never import `turnpike.pricing` or genai-prices, or an error there would be
repeated here and no reconciliation would see it.

Prices are US dollars per million tokens for standard processing, from developers.openai.com/api/docs/pricing and
platform.claude.com/docs/en/about-claude/pricing as read in August to November 2026. A price that a row does not give
(`None`) is the input price: such models have no cache discount and no charge for writing. Above `limit` input tokens
(cached ones included) a model costs more; a long prompt with no row in `LONG_CONTEXT` has no price here.
"""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import Any, NamedTuple

_PICO_PER_NANO = 1000
_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})$")


class Usage(NamedTuple):
    """Token counts of one request. Input kinds do not overlap; `reasoning` is part of `output`."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def all_input(self) -> int:
        """Every input token: uncached, read from the cache and written to it."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


class Price(NamedTuple):
    """Prices in pico-dollars per token (a millionth of a dollar per million tokens), so that sums stay whole."""

    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    limit: int | None = None


def _pico(usd_per_million: str) -> int:
    return int(Decimal(usd_per_million) * 1_000_000)


def _row(
    input_usd: str,
    output_usd: str,
    read: str | None = None,
    write: str | None = None,
    write_1h: str | None = None,
    limit: int | None = None,
) -> Price:
    write = write or input_usd
    return Price(
        _pico(input_usd), _pico(read or input_usd), _pico(write), _pico(write_1h or write), _pico(output_usd), limit
    )


_272K = 272_000
PRICES: dict[str, Price] = {
    "gpt-3.5-turbo": _row("0.5", "1.5"),
    "gpt-4": _row("30", "60"),
    "gpt-4-turbo": _row("10", "30"),
    "gpt-4o": _row("2.5", "10", "1.25"),
    "gpt-4o-2024-05-13": _row("5", "15"),
    "gpt-4o-mini": _row("0.15", "0.6", "0.075"),
    "gpt-4.1": _row("2", "8", "0.5"),
    "gpt-4.1-mini": _row("0.4", "1.6", "0.1"),
    "gpt-4.1-nano": _row("0.1", "0.4", "0.025"),
    "o1": _row("15", "60", "7.5"),
    "o3": _row("2", "8", "0.5"),
    "o3-mini": _row("1.1", "4.4", "0.55"),
    "o3-pro": _row("20", "80"),
    "o4-mini": _row("1.1", "4.4", "0.275"),
    "gpt-5": _row("1.25", "10", "0.125"),
    "gpt-5-mini": _row("0.25", "2", "0.025"),
    "gpt-5-nano": _row("0.05", "0.4", "0.005"),
    "gpt-5-pro": _row("15", "120"),
    "gpt-5.1": _row("1.25", "10", "0.125"),
    "gpt-5.2": _row("1.75", "14", "0.175"),
    "gpt-5.4": _row("2.5", "15", "0.25", limit=_272K),
    "gpt-5.6-luna": _row("0.2", "1.2", "0.02", "0.25", limit=_272K),
    "gpt-5.6-terra": _row("2", "12", "0.2", "2.5", limit=_272K),
    "gpt-6-sol": _row("2", "10", "0.2", "2.5", limit=_272K),
    "gpt-6.1-sol": _row("2", "10", "0.1", "2.5", limit=_272K),
    "claude-3-haiku": _row("0.25", "1.25", "0.03", "0.3", "0.5"),
    "claude-3-5-haiku": _row("0.8", "4", "0.08", "1", "1.6"),
    "claude-3-5-sonnet": _row("3", "15", "0.3", "3.75", "6"),
    "claude-3-7-sonnet": _row("3", "15", "0.3", "3.75", "6"),
    "claude-sonnet-4": _row("3", "15", "0.3", "3.75", "6"),
    "claude-sonnet-4-5": _row("3", "15", "0.3", "3.75", "6"),
    "claude-sonnet-4-6": _row("3", "15", "0.3", "3.75", "6"),
    "claude-sonnet-5": _row("2", "10", "0.2", "2.5", "4"),
    "claude-haiku-4-5": _row("1", "5", "0.1", "1.25", "2"),
    "claude-haiku-5-5": _row("0.1", "0.5", "0.01", "0.125", "0.2", limit=100_000),
    "claude-opus-4-1": _row("15", "75", "1.5", "18.75", "30"),
    "claude-opus-4-5": _row("5", "25", "0.5", "6.25", "10"),
    "claude-opus-4-6": _row("5", "25", "0.5", "6.25", "10"),
    "claude-opus-4-7": _row("5", "25", "0.5", "6.25", "10"),
    "claude-opus-4-8": _row("5", "25", "0.5", "6.25", "10"),
    "claude-opus-5": _row("5", "25", "0.5", "6.25", "10"),
    "claude-fable-5": _row("10", "50", "1", "12.5", "20"),
    "claude-fable-5-1": _row("10", "50", "0.25", "12.5", "20"),
}
LONG_CONTEXT: dict[str, Price] = {"gpt-6-sol": _row("4", "15", "0.4", "5")}


def price_of(model: str, usage: Usage) -> Price | None:
    """The price row for `model`, a dated snapshot included; None when the table has none."""
    name = model if model in PRICES else _DATED.sub("", model)
    price = PRICES.get(name)
    if price is not None and price.limit is not None and usage.all_input > price.limit:
        return LONG_CONTEXT.get(name)
    return price


def cost_nano_usd(model: str, usage: Usage) -> int | None:
    """What `usage` costs in nano-dollars, rounded half to even once; None when the model has no price."""
    price = price_of(model, usage)
    if price is None:
        return None
    pico = (
        usage.input * price.input
        + usage.cache_read * price.cache_read
        + usage.cache_write_5m * price.cache_write_5m
        + usage.cache_write_1h * price.cache_write_1h
        + usage.output * price.output
    )
    nano, rest = divmod(pico, _PICO_PER_NANO)
    half = _PICO_PER_NANO // 2
    return nano + (rest > half or (rest == half and nano % 2 == 1))


def fingerprint(key: str) -> str:
    """A short name for an API key that does not give the key away: 12 hex digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12] if key else ""


class Bill(NamedTuple):
    """One request as the provider's books have it.

    `accepted` is False for a refused request, which costs 0. `usage` is the truth whatever went over the wire;
    `sent_output_tokens` is the part of the output that was written to the connection and `delivered_usage` whether
    the usage was. `finished` is False while the request is still being answered. `cost_nano_usd` is None when the
    model has no price.
    """

    sequence: int
    response_id: str | None
    api: str
    model_asked: str | None
    model_billed: str | None
    streaming: bool
    key: str
    status: int
    accepted: bool
    usage: Usage
    cost_nano_usd: int | None
    sent_output_tokens: int = 0
    delivered_usage: bool = False
    aborted_by_client: bool = False
    finished: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The bill as `GET /__bills` shows it."""
        return {**self._asdict(), "usage": self.usage._asdict(), "generated_output_tokens": self.usage.output}


class BillBook:
    """Every bill since the start or the last reset, in the order in which requests were accepted or refused."""

    def __init__(self) -> None:
        self._bills: list[Bill] = []

    def __len__(self) -> int:
        return len(self._bills)

    def since(self, sequence: int = 0) -> list[Bill]:
        """The bills numbered `sequence` and above."""
        return self._bills[max(sequence, 0) :]

    def add(self, bill: Bill) -> None:
        """Enter a bill; its sequence must be the length of the book."""
        if bill.sequence != len(self._bills):
            raise ValueError(f"bill {bill.sequence} does not follow the {len(self._bills)} in the book")
        self._bills.append(bill)

    def close(self, bill: Bill, *, sent_output_tokens: int, delivered_usage: bool, aborted: bool, stops: bool) -> None:
        """Settle `bill`; with `stops` the output ends with what was sent, and is billed so.

        A bill of an earlier book (before a reset) is left alone.
        """
        if not (bill.sequence < len(self._bills) and self._bills[bill.sequence] is bill):
            return
        usage, cost = bill.usage, bill.cost_nano_usd
        if stops and bill.accepted and sent_output_tokens < usage.output:
            usage = usage._replace(output=sent_output_tokens, reasoning=min(usage.reasoning, sent_output_tokens))
            cost = cost_nano_usd(bill.model_billed or "", usage)
        self._bills[bill.sequence] = bill._replace(
            usage=usage,
            cost_nano_usd=cost,
            sent_output_tokens=sent_output_tokens,
            delivered_usage=delivered_usage,
            aborted_by_client=aborted,
            finished=True,
        )

    def clear(self) -> None:
        """Start an empty book."""
        self._bills = []
