"""The books of one call: what its attempts cost, and the envelope that says so.

Everything here reads plans, attempts and answers; nothing is sent, awaited or written. Missing is never zero: a request
that no provider accepted cost a known nothing, an accepted one without usage cost something that is not known.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from turnpike.envelope import ENVELOPE_SCHEMA_VERSION, AttemptRecord, CostQuality, CostSource, EnvelopeStatus
from turnpike.errors import CallCancelledError, MissingAPIKeyError, ProviderError, TurnpikeError
from turnpike.frozen import FrozenDict, freeze
from turnpike.gateway.attempt import Attempt, CallPlan
from turnpike.gateway.services import Services
from turnpike.gateway.wire import WireAnswer
from turnpike.pricing import Price
from turnpike.usage import UsageVector

__all__ = ["envelope_values", "price_attempt", "safe_envelope_values"]

_log = logging.getLogger("turnpike.gateway")

_CATEGORIES = frozenset(("auth_error", "rate_limit", "timeout", "transient_error", "invalid_request", "unknown"))
_NO_LIST_PRICE = frozenset(("unknown_model", "unknown_provider", "no_token_rate"))
"""Notes of a price for which the operator can do something."""


# --------------------------------------------------------------------------------------------------------- price


def price_attempt(plan: CallPlan, attempt: Attempt, services: Services, opened_at: float) -> Price | None:
    """Price what an attempt used, at the call's own time; ``None`` if no provider accepted it. Never raises."""
    if not attempt.accepted:
        return None
    try:
        price = _price(plan, attempt, services, datetime.fromtimestamp(opened_at, UTC))
    except Exception as failure:  # noqa: BLE001 - bookkeeping must neither fail a paid call nor hide how it ended
        _log.error("pricing call %s failed (%s); its cost is unknown", plan.request_id, type(failure).__name__)
        return None
    if price.usage is not None and price.cost_nano_usd is None and not _NO_LIST_PRICE.isdisjoint(price.notes):
        services.warn_of_unpriced(attempt.answer.response_model or attempt.model, price.notes)
    return price


def _price(plan: CallPlan, attempt: Attempt, services: Services, at: datetime) -> Price:
    answer, provider = attempt.answer, plan.provider
    if plan.api is None:
        return services.prices.price_counts(
            answer.usage, models=(answer.response_model, attempt.model), at=at, is_partial=not answer.complete
        )
    return services.prices.price(
        answer.usage,
        provider=provider.pricing_provider,
        api=plan.api,
        model=answer.response_model or attempt.model,
        requested_model=attempt.model,
        at=at,
        service_tier=answer.service_tier,
        tool_counts=_tool_counts(plan, answer),
        is_partial=not answer.complete,
    )


def _tool_counts(plan: CallPlan, answer: WireAnswer) -> Mapping[str, int] | None:
    """Return the provider-side tool runs, as the price of each kind is named."""
    counts = answer.tool_counts
    if answer.tool_usage:
        searches = answer.tool_usage.get("web_search")
        number = searches.get("num_requests") if isinstance(searches, dict) else None
        if type(number) is int and number >= 0:
            counts = {**counts, "web_search_requests": number}
    searched = counts.get("web_search_requests") if counts else None
    if searched and _offers_preview_search(plan):
        # The answer's items are the same for both search tools; only the request tells which fee is due.
        counts = {**counts, "web_search_preview_requests": searched}
        del counts["web_search_requests"]
    return counts or None


def _offers_preview_search(plan: CallPlan) -> bool:
    tools = plan.request.options.get("tools") or ()
    return any(str(tool.get("type", "")).startswith("web_search_preview") for tool in tools)


# ------------------------------------------------------------------------------------------------------ envelope


def safe_envelope_values(
    plan: CallPlan, attempts: Sequence[Attempt], error: BaseException | None, finish_reason: str | None
) -> dict[str, Any]:
    """Return the fields of a call's envelope, or what is sure of them if a provider's figures defy all arithmetic."""
    try:
        return envelope_values(plan, attempts, error, finish_reason)
    except Exception as failure:  # noqa: BLE001 - bookkeeping must neither fail a paid call nor hide how it ended
        _log.error("the books of call %s failed (%s)", plan.request_id, type(failure).__name__)
        for attempt in attempts:
            attempt.price = None
            attempt.answer.usage = None
        return envelope_values(plan, attempts, error, finish_reason)


def envelope_values(
    plan: CallPlan, attempts: Sequence[Attempt], error: BaseException | None, finish_reason: str | None
) -> dict[str, Any]:
    """Return the fields of a call's envelope, all but its times and trace ids.

    Args:
        plan: what was asked for.
        attempts: the attempts, ended and priced.
        error: what ended the call, ``None`` for an answer.
        finish_reason: how a call ended that was closed from outside.
    """
    context = plan.context
    values: dict[str, Any] = {
        "schema_version": ENVELOPE_SCHEMA_VERSION,
        "request_id": plan.request_id,
        "tenant_id": plan.tenant_id,
        "route": plan.route,
        "caller_id": context.caller_id,
        "use_case": context.use_case,
        "session_id": context.session_id,
        "task_id": context.task_id,
        "provider_requested": plan.provider_name,
        "model_requested": plan.request.model,
        "provider_selected": plan.provider_name,
        "model_selected": plan.request.model,
        "model_tier": plan.tier,
        "routing_decision": plan.routing_decision,
        "status": _status_of(error, attempts[-1].answer if attempts else None),
        "error_type": _error_type(plan, error),
        "retry_count": max(0, len(attempts) - 1),
        "streaming": plan.request.stream,
        "cache_hit": False,
        "audit_tags": FrozenDict(context.to_audit_tags()),
        "attributed": plan.attributed,
        "provider_api": plan.api,
        "pricing_provider": plan.provider.pricing_provider if plan.api is not None else None,
        "finish_reason": finish_reason,
    }
    if attempts:
        _add_answer(values, plan, attempts[-1].answer, finish_reason)
    _add_economics(values, attempts)
    values["attempts"] = tuple([_attempt_record(plan, attempt) for attempt in attempts])
    return values


def _add_answer(values: dict[str, Any], plan: CallPlan, answer: WireAnswer, finish_reason: str | None) -> None:
    values["finish_reason"] = finish_reason or answer.finish_reason
    values["provider_finish_reason"] = answer.provider_finish_reason
    values["response_model"] = answer.response_model
    values["response_id"] = answer.response_id
    values["service_tier"] = answer.service_tier
    if answer.usage is not None:
        values["provider_usage"] = freeze(answer.usage)
    if counts := _tool_counts(plan, answer):
        values["tool_counts"] = freeze(counts)


def _add_economics(values: dict[str, Any], attempts: Sequence[Attempt]) -> None:
    """Add the sums of the attempts."""
    if len(attempts) == 1 and (price := attempts[0].price) is not None:
        _add_price(values, price, price.cost_nano_usd, price.quality, price.notes)
        _add_tokens(values, price.usage)
    elif all(attempt.accepted is False for attempt in attempts):
        values.update(tokens_in=0, tokens_out=0, tokens_total=0, cost_nano_usd=0, estimated_cost_usd=0.0)
        values.update(cost_source=CostSource.ESTIMATED_LOCAL_SNAPSHOT, cost_quality=CostQuality.EXACT)
    else:
        _add_sums(values, attempts)


def _add_sums(values: dict[str, Any], attempts: Sequence[Attempt]) -> None:
    prices = [attempt.price for attempt in attempts if attempt.price is not None]
    costs = [price.cost_nano_usd for price in prices if price.cost_nano_usd is not None]
    is_lower_bound = len(costs) < sum(attempt.accepted is not False for attempt in attempts)
    notes = tuple(dict.fromkeys(note for price in prices for note in price.notes))
    if is_lower_bound:
        notes = (*notes, "attempt_without_cost")
    if costs:
        quality = CostQuality.PARTIAL if is_lower_bound else _worst(prices)
        _add_price(values, prices[-1], sum(costs), quality, notes)
    else:
        values.update(cost_source=CostSource.DEGRADED_UNKNOWN, cost_quality=CostQuality.UNKNOWN, cost_notes=notes)
    vectors = [price.usage for price in prices if price.usage is not None]
    if vectors:
        _add_tokens(values, vectors[0] if len(vectors) == 1 else UsageVector.total(vectors))


def _add_price(
    values: dict[str, Any], price: Price, nano: int | None, quality: CostQuality, notes: tuple[str, ...]
) -> None:
    values["pricing_version"] = price.pricing_version or None
    values["pricing_model_id"] = price.pricing_model_id
    values["cost_source"] = price.source
    values["cost_quality"] = quality
    values["cost_notes"] = notes
    if nano is not None:
        values["cost_nano_usd"] = nano
        values["estimated_cost_usd"] = nano / 1e9


def _add_tokens(values: dict[str, Any], vector: UsageVector | None) -> None:
    if vector is None:
        return
    tokens_in, tokens_out = vector.tokens_in, vector.tokens_out
    values["usage"] = vector
    values["tokens_in"] = tokens_in
    values["tokens_out"] = tokens_out
    values["tokens_method"] = "provider"
    if tokens_in is not None and tokens_out is not None:
        values["tokens_total"] = tokens_in + tokens_out


_QUALITY_ORDER = {quality: rank for rank, quality in enumerate(CostQuality)}


def _worst(prices: Sequence[Price]) -> CostQuality:
    return max((price.quality for price in prices), key=_QUALITY_ORDER.__getitem__)


def _attempt_record(plan: CallPlan, attempt: Attempt) -> AttemptRecord:
    answer, price, failure = attempt.answer, attempt.price, attempt.error
    vector = price.usage if price is not None else None
    cost = 0 if attempt.accepted is False else price.cost_nano_usd if price is not None else None
    return AttemptRecord.from_trusted(
        {
            "number": attempt.number,
            "provider": attempt.provider_name,
            "model": attempt.model,
            "status": _status_of(failure, answer),
            "error_type": _error_type(plan, failure),
            "http_status": attempt.http_status,
            "accepted": attempt.accepted,
            "response_model": answer.response_model,
            "response_id": answer.response_id,
            "finish_reason": answer.finish_reason,
            "tokens_in": vector.tokens_in if vector is not None else None,
            "tokens_out": vector.tokens_out if vector is not None else None,
            "cost_nano_usd": cost,
            "duration_ms": round((attempt.duration_s or 0.0) * 1e3, 3),
            "retry_after_s": failure.retry_after_s if isinstance(failure, ProviderError) else None,
        }
    )


# --------------------------------------------------------------------------------------------------------- ending


def _is_cancellation(error: BaseException) -> bool:
    """Whether the caller ended the call: CancelledError, GeneratorExit and KeyboardInterrupt are no Exceptions."""
    return isinstance(error, CallCancelledError) or not isinstance(error, Exception)


def _status_of(error: BaseException | None, answer: WireAnswer | None) -> EnvelopeStatus:
    if error is None:
        # Part of a streamed answer that could not be read is missing from the text, though all of it was paid for.
        unreadable = answer is not None and answer.malformed_events > 0
        return EnvelopeStatus.DEGRADED if unreadable else EnvelopeStatus.OK
    return EnvelopeStatus.CANCELLED if _is_cancellation(error) else EnvelopeStatus.ERROR


def _error_type(plan: CallPlan, error: BaseException | None) -> str | None:
    """Return the kind of ``error`` from the bounded list. A provider's own categorisation cannot fail the call."""
    if error is None:
        return None
    if _is_cancellation(error):
        return "cancelled"
    if isinstance(error, ProviderError):
        return error.category
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, TurnpikeError):
        return "auth_error" if isinstance(error, MissingAPIKeyError) else "invalid_request"
    try:
        category = plan.provider.categorize_error(error)
    except Exception as failure:  # noqa: BLE001 - bookkeeping must neither fail a paid call nor hide how it ended
        # Only the type is logged: the text, and that of the error behind it, may hold a prompt.
        _log.warning("categorize_error of provider %s failed (%s)", plan.provider_name, type(failure).__name__)
        return "unknown"
    return category if isinstance(category, str) and category in _CATEGORIES else "unknown"
