"""The cost that a provider states itself, which beats every price list. It is used as stated or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from turnpike.pricing.rates import EXACT

__all__ = ["REPORTING_PROVIDERS", "reported_cost"]

_TICKS_PER_USD_EXPONENT: Final = 10


def _openrouter(usage: Mapping[str, Any]) -> Any:
    # With the customer's own key OpenRouter charges nothing and the upstream provider's bill is the cost.
    if usage.get("is_byok"):
        details = usage.get("cost_details")
        return details.get("upstream_inference_cost") if isinstance(details, Mapping) else None
    return usage.get("cost")


def _perplexity(usage: Mapping[str, Any]) -> Any:
    cost = usage.get("cost")
    return cost.get("total_cost") if isinstance(cost, Mapping) else cost


def _xai(usage: Mapping[str, Any]) -> Any:
    return usage.get("cost_in_usd_ticks")


_READERS: Final[dict[str, tuple[Callable[[Mapping[str, Any]], Any], int]]] = {
    "openrouter": (_openrouter, 0),
    "perplexity": (_perplexity, 0),
    "x-ai": (_xai, _TICKS_PER_USD_EXPONENT),
}

REPORTING_PROVIDERS: Final = frozenset(_READERS)
"""Providers (canonical ids) whose usage can state its cost. Azure-hosted Grok has xAI's field too, but always 0."""


def reported_cost(provider: str, usage: object) -> tuple[Decimal | None, tuple[str, ...]]:
    """The stated cost in USD, or None; with ``reported_cost_invalid`` when something else than an amount was stated.

    Source of the fields: OpenRouter's usage accounting, Perplexity's and xAI's API references (a tick is 1e-10 USD).
    """
    if provider not in _READERS or not isinstance(usage, Mapping):
        return None, ()
    read, exponent = _READERS[provider]
    value = read(usage)
    if value is None:
        return None, ()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None, ("reported_cost_invalid",)
    # repr() is the shortest text that reads back as the same float: what the provider's JSON said.
    return Decimal(repr(value)).scaleb(-exponent, EXACT), ()
