"""What a price says about itself: the figure, how sure it is, and the notes that explain why.

One vocabulary of notes for everybody: a note lowers the quality to the level that ``NOTES`` gives it, so a price is
``exact`` only when nothing had to be assumed. This module knows no rate and must never guess: a cost that is not
known is None.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from turnpike.envelope import CostQuality, CostSource
from turnpike.usage import UsageVector

__all__ = ["NOTES", "Price", "quality_of"]

NOTES: Final[dict[str, tuple[CostQuality, str]]] = {
    "provider_reported": (CostQuality.EXACT, "the provider stated the cost itself; no price list was used"),
    "registered_price": (CostQuality.EXACT, "priced from register_pricing()"),
    "iterations_priced": (
        CostQuality.EXACT,
        "Anthropic usage.iterations: every entry priced at its own model and summed; the tokens are the top-level ones",
    ),
    "tier_rate_projected_back": (
        CostQuality.PROJECTED,
        "the tier, batch or speed rate is known only from a later date; its ratio to standard was carried back",
    ),
    "priced_requested_model": (
        CostQuality.APPROXIMATE,
        "the model that answered is not named or has no price; the requested one was priced",
    ),
    "loose_model_match": (
        CostQuality.APPROXIMATE,
        "the price list matched only a prefix of the model name, or the name carries a date after the request",
    ),
    "dimension_without_rate": (
        CostQuality.APPROXIMATE,
        "':<dimension>' was reported but has no rate of its own; charged as ordinary tokens",
    ),
    "tier_rate_unknown": (
        CostQuality.APPROXIMATE,
        "no rate is known for the service tier, batch or speed; standard rates were used",
    ),
    "tier_not_resolved": (
        CostQuality.APPROXIMATE,
        "the tier says 'auto', which is not a rate; standard rates were used",
    ),
    "geo_rate_unknown": (
        CostQuality.APPROXIMATE,
        "the inference region has no known factor; standard rates were used",
    ),
    "tool_fee_unknown": (CostQuality.APPROXIMATE, "':<tool>' has a fee that is not known; it is not in the cost"),
    "threshold_on_summed_usage": (
        CostQuality.APPROXIMATE,
        "a long-context rate applied to a usage that sums several internal calls of a server tool",
    ),
    "overlap_not_reported": (
        CostQuality.APPROXIMATE,
        "cached and audio or image tokens overlap by an unreported amount; priced at the upper bound",
    ),
    "cache_split_incomplete": (
        CostQuality.APPROXIMATE,
        "fewer cache writes have a lifetime than were written; the rest was priced as 5-minute writes",
    ),
    "reported_cost_invalid": (
        CostQuality.APPROXIMATE,
        "the provider's own cost was not a usable amount; priced by list",
    ),
    "output_tokens_missing": (CostQuality.PARTIAL, "no output tokens were reported; the cost covers the input"),
    "input_tokens_missing": (CostQuality.PARTIAL, "no input tokens were reported; the cost covers the output"),
    "tokens_unaccounted": (
        CostQuality.PARTIAL,
        "the reported total is more than input and output together; the rest is not in the cost",
    ),
    "stream_cut": (CostQuality.PARTIAL, "the caller says that the answer was cut off before its final usage"),
    "iteration_unpriced": (CostQuality.PARTIAL, "an entry of usage.iterations has no price; the others were summed"),
    "attempt_without_cost": (CostQuality.PARTIAL, "an attempt that may be billed has no cost; the others were summed"),
    "no_usage": (CostQuality.UNKNOWN, "the provider reported no usage"),
    "malformed_usage": (CostQuality.UNKNOWN, "a token count is not a non-negative whole number"),
    "inconsistent_usage": (
        CostQuality.UNKNOWN,
        "the parts do not fit into their totals; only the totals were kept and no cost was made of them",
    ),
    "unknown_model": (CostQuality.UNKNOWN, "no price list names the model"),
    "unknown_provider": (CostQuality.UNKNOWN, "no price list names the provider"),
    "unknown_api": (CostQuality.UNKNOWN, "the wire format is not one of turnpike.pricing.APIS"),
    "no_token_rate": (CostQuality.UNKNOWN, "the model is not sold by tokens"),
    "pricing_failed": (CostQuality.UNKNOWN, "a fault inside the pricing, caught so that the paid answer survives"),
}
"""Every note that a price can carry, with the quality it allows and what it means."""

_ORDER: Final = {quality: rank for rank, quality in enumerate(CostQuality)}


def quality_of(notes: tuple[str, ...]) -> CostQuality:
    """The worst quality that any of the notes allows; ``exact`` when there is none."""
    worst = CostQuality.EXACT
    for note in notes:
        quality = NOTES[note.partition(":")[0]][0]
        if _ORDER[quality] > _ORDER[worst]:
            worst = quality
    return worst


class Price(msgspec.Struct, frozen=True):
    """The cost of one attempt and how it came about."""

    cost_usd: Decimal | None
    """USD, not rounded. None when it is not known."""
    cost_nano_usd: int | None
    """``cost_usd`` in billionths of a dollar, rounded half-even once: the figure to store and to sum."""
    quality: CostQuality
    notes: tuple[str, ...]
    """Keys of ``NOTES``, some followed by ':' and a name."""
    pricing_version: str
    """Which price data the figure rests on, e.g. ``genai-prices/0.2.3+5f4d8e175a91;supplement/2026-11-21``."""
    pricing_model_id: str | None
    """The price list's name for the model, None when no list was used."""
    source: CostSource
    usage: UsageVector | None
    """The provider's usage as counts; None when there was none or it was malformed."""
