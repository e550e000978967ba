"""The price data: a private snapshot of genai-prices, loaded on first use, past its process-global functions.

The package's module-level ``calc_price`` reads a snapshot that other libraries may replace at run time; here the
bundled data is held in an object of our own. Importing this module loads nothing. Prices are read for explicit
moments only.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any, Final

from turnpike.pricing.matching import is_named, stripped
from turnpike.pricing.rates import Rate, RateTable

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

__all__ = ["ListedModel", "Snapshot", "canonical_provider", "day_start", "load_snapshot"]

_DIMENSIONS: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_in",
    "cache_audio_read_mtok": "cache_audio_read",
    "output_audio_mtok": "audio_out",
    "input_image_mtok": "image_in",
    "output_reasoning_mtok": "reasoning",
    "requests_kcount": "requests",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
}
_PROVIDER_ALIASES: Final = {
    "azure-openai": "azure",
    "azure_openai": "azure",
    "bedrock": "aws",
    "gemini": "google",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "vertex": "google",
    "vertex_ai": "google",
    "xai": "x-ai",
}
_FREE: Final = {name: Rate(Decimal(0)) for name in _DIMENSIONS.values()}
"""An empty list means free only where the name says so; elsewhere it means that tokens are not what is sold."""
_MAX_LOOKUPS: Final = 2048


def canonical_provider(provider: str) -> str:
    """The price data's id for a provider name. Its own matching is by substring, so it is never asked."""
    name = provider.strip().lower()
    return _PROVIDER_ALIASES.get(name, name)


class ListedModel:
    """One entry of the price data, as found for one model name."""

    __slots__ = ("_info", "_variants", "is_exact", "model_id", "owner")

    def __init__(self, info: ModelInfo, owner: str, *, is_own: bool, is_exact: bool) -> None:
        self._info = info
        # The price data applies tiers only to a provider's own models, not to those it borrows from another one.
        self._variants = tuple(info.price_variants or ()) if is_own else ()
        self.model_id: str = info.id
        self.owner: str = owner
        self.is_exact: bool = is_exact

    def standard(self, at: datetime) -> RateTable:
        """The standard rates at the moment ``at``."""
        table = _table(self._info.get_prices(at))
        return table if table or not self.model_id.endswith(":free") else _FREE

    def in_context(self, at: datetime, context: Mapping[str, str]) -> RateTable:
        """The rates at the moment ``at`` for a tier, batch or speed."""
        return _table(self._info.get_prices(at, dict(context)))

    def modelled_since(self, context: Mapping[str, str]) -> date | None:
        """The first day with rates for exactly this context; ``date.min`` for always, None for never."""
        days = []
        for variant in self._variants:
            if variant.when == dict(context):
                constraint = variant.constraint
                days.append(date.min if constraint is None else getattr(constraint, "start_date", date.max))
        return min((day for day in days if day != date.max), default=None)


class Snapshot:
    """The bundled price data, with lookups by provider and model name."""

    def __init__(self) -> None:
        from genai_prices.data import providers
        from genai_prices.data_snapshot import DataSnapshot

        self._data = DataSnapshot(providers=providers, from_auto_update=False)
        self._ids = frozenset(provider.id for provider in providers)
        self._found: dict[tuple[str, str], ListedModel | None] = {}
        self.version: str = _version()
        """The package's version and the first 12 hex digits of its data module's SHA-256."""

    def has_provider(self, provider: str) -> bool:
        """Whether the data lists the provider under this canonical id."""
        return provider in self._ids

    def find(self, provider: str, model: str) -> ListedModel | None:
        """The entry for a model name at a provider (a canonical id), or None."""
        key = (provider, model)
        try:
            return self._found[key]
        except KeyError:
            pass
        found = self._find(provider, model.lower()) if provider in self._ids else None
        if len(self._found) >= _MAX_LOOKUPS:
            self._found.clear()
        self._found[key] = found
        return found

    def _find(self, provider_id: str, model: str) -> ListedModel | None:
        provider = self._data.find_provider(None, provider_id, None)
        spellings = (model,) if provider_id == "openrouter" else (model, stripped(model))
        for spelling in spellings:
            info = provider.find_model(spelling, all_providers=self._data.providers)
            if info is not None:
                owner = self._owner(provider, info)
                exact = is_named(spelling, info.id, info.match) or is_named(stripped(spelling), info.id, info.match)
                return ListedModel(info, owner.id, is_own=owner is provider, is_exact=exact)
        return None

    def _owner(self, provider: Provider, info: ModelInfo) -> Provider:
        lenders = [each for each in self._data.providers if each.id in (provider.fallback_model_providers or ())]
        for each in (provider, *lenders):
            if any(model is info for model in each.models):
                return each
        return provider


_lock = threading.Lock()
_snapshot = functools.cache(Snapshot)


def load_snapshot() -> Snapshot:
    """The snapshot, loaded once per process. The first call takes some hundred milliseconds; call it in a thread."""
    with _lock:
        return _snapshot()


def _version() -> str:
    data = resources.files("genai_prices").joinpath("data.py").read_bytes()
    return f"genai-prices/{metadata.version('genai-prices')}+{hashlib.sha256(data).hexdigest()[:12]}"


def _table(price: ModelPrice) -> dict[str, Rate]:
    table = {}
    for key, value in price.__dict__.items():
        dimension = _DIMENSIONS.get(key)
        if dimension is not None and value is not None:
            table[dimension] = _rate(value)
    return table


def _rate(value: Any) -> Rate:
    tiers = getattr(value, "tiers", None)
    if tiers is None:
        return Rate(value)
    return Rate(value.base, tuple((tier.start, tier.price) for tier in tiers))


def day_start(day: date) -> datetime:
    """Midnight UTC at the beginning of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
