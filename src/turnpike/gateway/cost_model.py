"""The public face of pricing: estimate, register, and price a provider's usage.

The functions act on one default ``PriceBook``; a ``Gateway`` owns its own. Importing this module loads no price data
(the first price does, in some hundred milliseconds; ``preload_pricing`` does it ahead). Pricing never fails a call
that was paid for.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from turnpike.envelope import CostQuality, CostSource
from turnpike.pricing import NOTES, Price, PriceBook
from turnpike.pricing.snapshot import load_snapshot
from turnpike.pricing.supplement import load_supplement

__all__ = [
    "DEFAULT_BOOK",
    "MODEL_PRICING",
    "NOTES",
    "CostQuality",
    "CostSource",
    "Price",
    "PriceBook",
    "estimate_cost",
    "get_pricing",
    "preload_pricing",
    "price_usage",
    "pricing_version",
    "register_pricing",
]

DEFAULT_BOOK: Final = PriceBook()
"""The book that the functions of this module act on."""

MODEL_PRICING: Final[dict[str, dict[str, float]]] = {
    "gpt-4o-mini": {"input_per_1m": 0.15, "output_per_1m": 0.60},
    "gpt-4o": {"input_per_1m": 2.50, "output_per_1m": 10.00},
    "claude-sonnet-4-20250514": {"input_per_1m": 3.00, "output_per_1m": 15.00},
    "claude-haiku-3-5-20241022": {"input_per_1m": 0.80, "output_per_1m": 4.00},
}
"""The table of turnpike 0.1.x, kept for reading, and what ``register_pricing`` added; prices come from the data."""


def price_usage(
    usage: object,
    *,
    provider: str,
    api: str,
    model: str | None,
    requested_model: str | None = None,
    at: datetime | None = None,
    service_tier: str | None = None,
    batch: bool = False,
    speed: str | None = None,
    geo: str | None = None,
    tool_counts: Mapping[str, int] | None = None,
    is_partial: bool = False,
) -> Price:
    """Price a provider's usage object; see ``PriceBook.price``.

    Raises:
        ValueError: ``at`` has no time zone. Nothing else is raised, whatever the usage holds.
    """
    return DEFAULT_BOOK.price(
        usage,
        provider=provider,
        api=api,
        model=model,
        requested_model=requested_model,
        at=at,
        service_tier=service_tier,
        batch=batch,
        speed=speed,
        geo=geo,
        tool_counts=tool_counts,
        is_partial=is_partial,
    )


def estimate_cost(model: str, tokens_in: int, tokens_out: int) -> float:
    """The cost in USD of plain input and output tokens at today's standard price.

    Raises:
        ValueError: ``Unknown model ...`` when no price is known, or a count is not non-negative.
    """
    return float(DEFAULT_BOOK.estimate(model, tokens_in, tokens_out))


def register_pricing(
    model: str,
    input_per_1m: float | Decimal,
    output_per_1m: float | Decimal,
    *,
    provider: str | None = None,
    cached_input_per_1m: float | Decimal | None = None,
    cache_write_per_1m: float | Decimal | None = None,
    cache_write_1h_per_1m: float | Decimal | None = None,
    effective_from: date | datetime | None = None,
) -> None:
    """Register a model's price in USD per million tokens with the default book; see ``PriceBook.register``.

    Raises:
        ValueError: A price is negative or not finite (``non-negative``), or ``effective_from`` has no time zone.
    """
    DEFAULT_BOOK.register(
        model,
        input_per_1m,
        output_per_1m,
        provider=provider,
        cached_input_per_1m=cached_input_per_1m,
        cache_write_per_1m=cache_write_per_1m,
        cache_write_1h_per_1m=cache_write_1h_per_1m,
        effective_from=effective_from,
    )
    MODEL_PRICING.update(DEFAULT_BOOK.registered())


def get_pricing() -> dict[str, dict[str, float]]:
    """A deep copy of ``MODEL_PRICING``."""
    return copy.deepcopy(MODEL_PRICING)


def preload_pricing() -> None:
    """Load the price data now. Blocks for some hundred milliseconds the first time: call it in a thread at start."""
    load_snapshot()
    load_supplement()
    price_usage({"prompt_tokens": 1, "completion_tokens": 1}, provider="openai", api="openai-chat", model="gpt-4o-mini")


def pricing_version() -> str:
    """The price data in use, e.g. ``genai-prices/0.2.3+5f4d8e175a91;supplement/2026-11-21``. Loads it if need be."""
    return DEFAULT_BOOK.version()
