"""Fees beside the tokens: server-side tools, and the surcharge for data residency. Unknown fees stay None."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from turnpike.pricing.rates import EXACT, Fees, RateTable

__all__ = ["fees_for", "region_factor"]

_WEB_SEARCH: Final = Decimal("0.01")
_WEB_SEARCH_PREVIEW: Final = Decimal("0.025")
_FILE_SEARCH: Final = Decimal("0.0025")
_US_ONLY: Final = Decimal("1.1")
_REASONING: Final = re.compile(r"^(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*-chat)")
_PLAIN_REGIONS: Final = frozenset({"", "global", "not_available"})


def fees_for(provider: str, api: str, model_id: str, table: RateTable) -> Fees:
    """USD per call of each server-side tool.

    Anthropic's and OpenAI's are flat (platform.claude.com and developers.openai.com pricing pages, autumn 2026: web
    search $10, OpenAI's preview tool $25 on models that do not reason, file search $2.50 per thousand); others come
    from the table.
    """
    if provider == "openai":
        preview = _WEB_SEARCH if _REASONING.match(model_id) else _WEB_SEARCH_PREVIEW
        return Fees(_WEB_SEARCH, preview, _FILE_SEARCH)
    if api == "anthropic-messages":
        return Fees(_WEB_SEARCH, None, None)
    return Fees(_per_call(table, "web_search"), None, _per_call(table, "file_search"))


def _per_call(table: RateTable, name: str) -> Decimal | None:
    return table[name].base.scaleb(-3, EXACT) if name in table else None


def region_factor(api: str, geo: str | None) -> tuple[Decimal, tuple[str, ...]]:
    """The factor on token rates for an inference region.

    Anthropic charges 1.1 for ``inference_geo: "us"`` (Claude 4.6 and later; platform.claude.com pricing page). The
    factor of any other named region is not known.
    """
    region = (geo or "").lower()
    if region in _PLAIN_REGIONS:
        return Decimal(1), ()
    if region == "us" and api == "anthropic-messages":
        return _US_ONLY, ()
    return Decimal(1), ("geo_rate_unknown",)
