"""Tiers, batches and fast mode are priced at their own rates, or it is said that they are not."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from turnpike.envelope import CostQuality
from turnpike.pricing import Price, PriceBook
from turnpike.pricing.tiers import build_context

MILLION = {"prompt_tokens": 1_000_000, "completion_tokens": 0}


def chat(book: PriceBook, model: str, day: str = "2026-11-10", **context: Any) -> Price:
    at = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return book.price(MILLION, provider="openai", api="openai-chat", model=model, at=at, **context)


@pytest.mark.parametrize(
    ("batch", "tier", "speed", "context", "notes"),
    [
        (False, None, None, {}, ()),
        (False, "default", "standard", {}, ()),
        (False, "standard", None, {}, ()),
        (False, "Flex", None, {"service_tier": "flex"}, ()),
        (False, "priority", "fast", {"service_tier": "priority", "speed": "fast"}, ()),
        (True, "default", None, {"processing": "batch"}, ()),
        (True, "priority", None, {"processing": "batch"}, ()),
        (False, "batch", None, {"processing": "batch"}, ()),
        (False, "auto", None, {}, ("tier_not_resolved",)),
        (False, "flexx", None, {}, ("tier_rate_unknown",)),
        (False, None, "ludicrous", {}, ("tier_rate_unknown",)),
    ],
)
def test_what_a_request_was_sold_as(
    batch: bool, tier: str | None, speed: str | None, context: dict[str, str], notes: tuple[str, ...]
) -> None:
    assert build_context(batch=batch, service_tier=tier, speed=speed) == (context, notes)


def test_a_listed_tier_is_exact(book: PriceBook) -> None:
    price = chat(book, "o3", service_tier="flex")
    assert (price.cost_usd, price.quality) == (Decimal(1), CostQuality.EXACT)


def test_a_tier_before_its_first_listed_day_is_carried_back(book: PriceBook) -> None:
    price = chat(book, "o3", "2026-03-01", service_tier="flex")
    assert (price.cost_usd, price.quality) == (Decimal(1), CostQuality.PROJECTED)
    assert price.notes == ("tier_rate_projected_back",)


def test_the_ratio_is_carried_back_and_not_the_rate(book: PriceBook) -> None:
    # o3 cost five times as much before June 2025; flex is half of standard.
    assert chat(book, "o3", "2025-05-01", service_tier="flex").cost_usd == Decimal(5)


def test_the_ratio_holds_above_a_step_that_ended_before_the_rate_was_listed(book: PriceBook) -> None:
    usage = {"input_tokens": 300_000, "output_tokens": 0, "service_tier": "batch"}
    at = datetime(2026, 3, 1, tzinfo=UTC)
    price = book.price(usage, provider="anthropic", api="anthropic-messages", model="claude-opus-4-6", at=at)
    assert (price.cost_usd, price.quality) == (Decimal("1.5"), CostQuality.PROJECTED)


def test_a_tier_that_is_listed_without_the_step_has_none(book: PriceBook) -> None:
    # gpt-5.5 is $5 up to 272K tokens and $10 above; its priority rate is $12.50 throughout, then as before.
    assert chat(book, "gpt-5.5", service_tier="priority").cost_usd == Decimal("12.5")
    assert chat(book, "gpt-5.5", "2026-06-01", service_tier="priority").cost_usd == Decimal("12.5")


def test_priority_and_fast_are_one_tier(book: PriceBook) -> None:
    price = chat(book, "gpt-5.5", service_tier="fast")
    assert (price.cost_usd, price.quality) == (Decimal("12.5"), CostQuality.EXACT)


@pytest.mark.parametrize("context", [{"service_tier": "flexx"}, {"service_tier": "priority"}, {"batch": True}])
def test_an_unknown_rate_is_standard_and_approximate(book: PriceBook, context: dict[str, Any]) -> None:
    price = chat(book, "gpt-3.5-turbo-0613", **context)
    assert (price.cost_usd, price.quality) == (Decimal("1.5"), CostQuality.APPROXIMATE)
    assert price.notes == ("tier_rate_unknown",)


def test_an_unresolved_tier_is_approximate(book: PriceBook) -> None:
    assert chat(book, "o3", service_tier="auto").notes == ("tier_not_resolved",)


def test_a_batch_equal_to_standard_by_list_is_exact(book: PriceBook) -> None:
    price = chat(book, "gpt-3.5-turbo-1106", batch=True)
    assert (price.cost_usd, price.quality) == (Decimal(1), CostQuality.EXACT)


def test_fast_mode_in_a_batch_has_no_rate(book: PriceBook) -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "service_tier": "batch", "speed": "fast"}
    price = book.price(usage, provider="anthropic", api="anthropic-messages", model="claude-opus-4-8")
    assert price.notes == ("tier_rate_unknown",)


def test_the_usage_s_own_tier_and_speed_count_unless_the_caller_says_otherwise(book: PriceBook) -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "service_tier": "standard", "speed": "fast"}
    fast = book.price(usage, provider="anthropic", api="anthropic-messages", model="claude-opus-4-8")
    plain = book.price(usage, provider="anthropic", api="anthropic-messages", model="claude-opus-4-8", speed="standard")
    assert (fast.cost_usd, plain.cost_usd) == (Decimal(10), Decimal(5))


def test_models_borrowed_from_another_provider_have_no_tier_rates(book: PriceBook) -> None:
    price = book.price(MILLION, provider="azure", api="openai-chat", model="gpt-5", service_tier="priority")
    assert price.notes == ("tier_rate_unknown",)
