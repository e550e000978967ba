"""``PriceBook``: the price of one attempt.

This is the hot path: after the first resolution of a minute a price is a few multiplications. A book owns the prices
registered with it; the price data beneath is shared and immutable. ``price`` never raises for anything that a
provider sent: a paid answer must not be lost to its bookkeeping.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.envelope import CostQuality, CostSource
from turnpike.fork import reset_in_child
from turnpike.pricing.quality import Price, quality_of
from turnpike.pricing.rates import EXACT, nano_of, nano_usd
from turnpike.pricing.registered import Number, RegisteredPrices
from turnpike.pricing.reported import reported_cost
from turnpike.pricing.resolve import RateKey, Resolved, resolve
from turnpike.pricing.snapshot import load_snapshot
from turnpike.pricing.supplement import load_supplement
from turnpike.pricing.usage import read_usage
from turnpike.usage import UsageVector

__all__ = ["PriceBook"]

_log = logging.getLogger(__name__)
_ESTIMATE_PROVIDERS: Final = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "x-ai",
    "deepseek",
    "cohere",
    "groq",
    "perplexity",
    "aws",
    "openrouter",
)
_CACHED_RATES: Final = 2048


class PriceBook:
    """Registered prices over the shared price data, with memoised rates. Safe to use from several threads.

    Args:
        clock: Tells the time of requests whose start is not given.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._registered = RegisteredPrices()
        self._lock = threading.Lock()
        reset_in_child(self)
        self._rates: dict[tuple[Any, ...], Resolved] = {}

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def price(
        self,
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
        """Price one attempt. Raises for nothing that a provider could have sent.

        Args:
            usage: The provider's usage object, verbatim, or None.
            provider: Provider id, e.g. openai, anthropic, azure, aws, google, openrouter, x-ai, perplexity.
            api: Wire format, one of ``turnpike.pricing.APIS``.
            model: The model that the response names.
            requested_model: The model that was asked for; priced, with a note, only when ``model`` has no price.
            at: When the request started, with a time zone; None is now.
            service_tier: The response's tier. None takes the usage's own; so for ``speed`` and ``geo``.
            batch: The request ran in a batch; OpenAI's bodies do not say so.
            speed: ``fast`` for Anthropic's fast mode.
            geo: Inference region.
            tool_counts: Server-side tool calls seen in the answer, see ``read_usage``.
            is_partial: The answer was cut off before its final usage, so the figure is a lower bound.

        Raises:
            ValueError: ``at`` has no time zone.
        """
        minute = self._minute(at)
        try:
            if type(usage) is dict or isinstance(usage, Mapping):
                service_tier = service_tier if service_tier is not None else _text(usage, "service_tier")
                speed = speed if speed is not None else _text(usage, "speed")
                geo = geo if geo is not None else _text(usage, "inference_geo")
            key = (provider, api, model, requested_model, service_tier, batch, speed, geo, minute)
            resolved = self._rates.get(key) or self._resolve(key)
            vector, notes = read_usage(usage, api, tool_counts)
            if is_partial:
                notes += ("stream_cut",)
            if resolved.provider:
                stated, stated_notes = reported_cost(resolved.provider, usage)
                if stated is not None:
                    return _stated(stated, vector, notes, resolved)
                notes += stated_notes
            if api == "anthropic-messages" and vector is not None and usage.get("iterations"):  # type: ignore[attr-defined]
                return self._iterations(usage["iterations"], vector, notes, key)  # type: ignore[index]
            return _charged(resolved, vector, notes, _previews(tool_counts) if tool_counts else 0)
        except Exception as error:  # noqa: BLE001
            _log.warning("pricing failed for provider %r: %s", provider, type(error).__name__)
            return _unknown(("pricing_failed",), None, "", None)

    def register(
        self,
        model: str,
        input_per_1m: Number,
        output_per_1m: Number,
        *,
        provider: str | None = None,
        cached_input_per_1m: Number | None = None,
        cache_write_per_1m: Number | None = None,
        cache_write_1h_per_1m: Number | None = None,
        effective_from: date | datetime | None = None,
    ) -> None:
        """Register a model's price in USD per million tokens. It goes before every price list.

        Args:
            model: The exact name, as the provider reports it or as it is requested.
            input_per_1m: Uncached input.
            output_per_1m: Output, reasoning included.
            provider: Hold for this provider only; None for all.
            cached_input_per_1m: Cache reads. None charges them as ordinary input, with a note; so for the next two.
            cache_write_per_1m: Cache writes of the ordinary lifetime.
            cache_write_1h_per_1m: Cache writes for one hour.
            effective_from: The first moment it holds; requests before it use the earlier registered or listed price.

        Raises:
            ValueError: A price is negative or not finite, the model is empty, or ``effective_from`` has no time zone.
        """
        rates: dict[str, Number | None] = {
            "input": input_per_1m,
            "output": output_per_1m,
            "cache_read": cached_input_per_1m,
            "cache_write": cache_write_per_1m,
            "cache_write_1h": cache_write_1h_per_1m,
        }
        self._registered.register(model, rates, provider=provider, effective_from=effective_from)
        # A resolution under way keeps the old dict, so a stale result cannot land in the new one.
        self._rates = {}

    def estimate(
        self, model: str, tokens_in: int, tokens_out: int, *, provider: str | None = None, at: datetime | None = None
    ) -> Decimal:
        """The cost in USD of plain input and output tokens, without a provider's answer.

        Without a provider the name is looked up at the well-known ones, by exact name only.

        Raises:
            ValueError: No price is known for the model, a count is negative, or ``at`` has no time zone.
        """
        if tokens_in < 0 or tokens_out < 0:
            msg = f"token counts must be non-negative, not {tokens_in} and {tokens_out}"
            raise ValueError(msg)
        minute = self._minute(at)
        registered_for = [name or "" for name in self._registered.providers_of(model)]
        candidates = (provider,) if provider else (*registered_for, *_ESTIMATE_PROVIDERS)
        for candidate in candidates:
            key = (candidate, "", model, None, None, False, None, None, minute)
            resolved = self._rates.get(key) or self._resolve(key)
            if resolved.card is not None and "loose_model_match" not in resolved.notes:
                charge = resolved.card.charge(UsageVector(tokens_in, tokens_out))
                return Decimal(charge.units).scaleb(-resolved.card.scale, EXACT)
        msg = f"Unknown model {model!r}: it has no price; call register_pricing({model!r}, input_per_1m, output_per_1m)"
        raise ValueError(msg)

    def price_counts(
        self, usage: Mapping[str, Any] | None, *, models: Iterable[str | None], at: datetime, is_partial: bool = False
    ) -> Price:
        """Price plain token counts of a provider whose price list is not known.

        The first of ``models`` that has a price, registered or listed under its exact name, is taken.

        Args:
            usage: ``prompt_tokens`` and ``completion_tokens``, or None.
            models: Model names, the most specific first.
            at: When the request started, with a time zone.
            is_partial: The answer was cut off, so the figure is a lower bound.
        """
        vector, notes = read_usage(usage, "openai-chat")
        if is_partial:
            notes += ("stream_cut",)
        if vector is None:
            return _unknown(notes, None, "", None)
        for model in dict.fromkeys(name for name in models if name):
            try:
                cost = self.estimate(model, vector.tokens_in or 0, vector.tokens_out or 0, at=at)
            except ValueError:
                continue
            return _known(cost, nano_of(cost), notes, self.version(), model, vector)
        return _unknown((*notes, "unknown_model"), vector, self.version(), None)

    def registered(self) -> dict[str, dict[str, float]]:
        """The registered prices in force now: model to ``input_per_1m``, ``output_per_1m`` and those given besides."""
        at = datetime.fromtimestamp(self._clock.time(), UTC)
        return {
            model: {_PUBLISHED_KEYS[name]: float(rate.base) for name, rate in rates.items()}
            for model, rates in self._registered.current(at).items()
        }

    def version(self) -> str:
        """The price data this book rests on: data, supplement and, when something is registered, its digest.

        A single price names only the parts that it used.
        """
        version = f"{load_snapshot().version};supplement/{load_supplement().date}"
        return f"{version};overrides/{self._registered.digest}" if self._registered.digest else version

    def _minute(self, at: datetime | None) -> int:
        if at is None:
            return int(self._clock.time() // 60)
        if at.utcoffset() is None:
            msg = f"at={at!r} has no time zone; write e.g. datetime.now(UTC)"
            raise ValueError(msg)
        return int(at.timestamp() // 60)

    def _resolve(self, key: tuple[Any, ...]) -> Resolved:
        rates = self._rates
        resolved = resolve(RateKey(*key), self._registered)
        with self._lock:
            if len(rates) >= _CACHED_RATES:
                # Keys carry their minute, so the oldest are those that will not be asked for again.
                for stale in list(rates)[: _CACHED_RATES // 4]:
                    del rates[stale]
            rates[key] = resolved
        return resolved

    def _iterations(self, entries: Any, vector: UsageVector, notes: tuple[str, ...], key: tuple[Any, ...]) -> Price:
        """Price every entry of an Anthropic ``usage.iterations`` at its own model; fees are the top level's."""
        main = self._rates.get(key) or self._resolve(key)
        if not isinstance(entries, (list, tuple)):
            notes += ("malformed_usage",)
        if quality_of(notes) is CostQuality.UNKNOWN:
            return _unknown(notes, vector, main.version, main.model_id)
        notes += ("iterations_priced",)
        total = Decimal(0)
        versions = [main.version]
        priced = 0
        for entry in entries:
            model = _text(entry, "model") if isinstance(entry, Mapping) else None
            own_key = key if model is None else (*key[:2], model, None, *key[4:])
            resolved = self._rates.get(own_key) or self._resolve(own_key)
            part = _charged(resolved, *read_usage(entry, key[1]))
            versions.append(part.pricing_version)
            if part.cost_usd is None:
                notes += ("iteration_unpriced",)
                continue
            priced += 1
            total = EXACT.add(total, part.cost_usd)
            notes += part.notes
        if not priced or main.card is None:
            return _unknown(main.notes or (*notes, "malformed_usage"), vector, main.version, main.model_id)
        tools = UsageVector(
            0,
            0,
            web_search_requests=vector.web_search_requests,
            file_search_requests=vector.file_search_requests,
            code_interpreter_calls=vector.code_interpreter_calls,
        )
        fees = main.card.charge(tools)
        total = EXACT.add(total, Decimal(fees.units).scaleb(-main.card.scale, EXACT))
        notes = tuple(dict.fromkeys(notes + fees.notes))
        return _known(total, nano_of(total), notes, max(versions, key=len), main.model_id, vector)


_PUBLISHED_KEYS: Final = {
    "input": "input_per_1m",
    "output": "output_per_1m",
    "cache_read": "cached_input_per_1m",
    "cache_write": "cache_write_per_1m",
    "cache_write_1h": "cache_write_1h_per_1m",
}


def _text(fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    return value if type(value) is str else None


def _previews(tool_counts: Mapping[str, int]) -> int:
    return (tool_counts.get("web_search_preview_call") or 0) + (tool_counts.get("web_search_preview_requests") or 0)


def _charged(resolved: Resolved, vector: UsageVector | None, notes: tuple[str, ...], previews: int = 0) -> Price:
    card = resolved.card
    if vector is None or card is None or (notes and quality_of(notes) is CostQuality.UNKNOWN):
        return _unknown((*notes, *resolved.notes), vector, resolved.version, resolved.model_id)
    charge = card.charge(vector, previews)
    notes = notes + resolved.notes + charge.notes
    cost = Decimal(charge.units).scaleb(-card.scale, EXACT)
    return _known(cost, nano_usd(charge.units, card.scale), notes, resolved.version, resolved.model_id, vector)


def _known(
    cost: Decimal, nano: int, notes: tuple[str, ...], version: str, model_id: str | None, vector: UsageVector
) -> Price:
    quality = quality_of(notes) if notes else CostQuality.EXACT
    return Price(cost, nano, quality, notes, version, model_id, CostSource.ESTIMATED_LOCAL_SNAPSHOT, vector)


def _stated(cost: Decimal, vector: UsageVector | None, notes: tuple[str, ...], resolved: Resolved) -> Price:
    notes = ("provider_reported", *notes)
    return Price(
        cost,
        nano_of(cost),
        CostQuality.EXACT,
        notes,
        resolved.version,
        None,
        CostSource.ESTIMATED_PROVIDER_API,
        vector,
    )


def _unknown(notes: tuple[str, ...], vector: UsageVector | None, version: str, model_id: str | None) -> Price:
    return Price(None, None, CostQuality.UNKNOWN, notes, version, model_id, CostSource.DEGRADED_UNKNOWN, vector)
