"""The supplement mends dated gaps of the price data, each from a named source."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from turnpike.envelope import CostQuality
from turnpike.pricing import PriceBook
from turnpike.pricing.supplement import load_supplement

CHAT = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}


def moment(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def test_every_row_names_its_source_and_changes_something() -> None:
    supplement = load_supplement()
    datetime.fromisoformat(supplement.date)
    for row in supplement.rows:
        assert row.source.startswith("https://"), row.id
        assert row.rates or row.drop_tiers, row.id
        assert row.models or row.prefixes, row.id
        assert row.since < row.until, row.id
        assert all(rate >= 0 for rate in row.rates.values()), row.id
    assert len({row.id for row in supplement.rows}) == len(supplement.rows)


@pytest.mark.parametrize(
    ("provider", "model", "day", "usd"),
    [
        ("openai", "o1-mini-2024-09-12", "2025-01-30", "15"),
        ("openai", "o1-mini-2024-09-12", "2025-01-31", "5.5"),
        ("azure", "o1-mini", "2025-01-30", "15"),
        ("openai", "gpt-3.5-turbo", "2023-06-12", "4"),
        ("openai", "gpt-3.5-turbo", "2023-06-13", "3.5"),
        ("openai", "gpt-3.5-turbo", "2024-02-16", "2"),
        ("openai", "gpt-3.5-turbo-0125", "2024-02-01", "2"),
        ("anthropic", "claude-3-5-haiku-20241022", "2024-12-02", "6"),
        ("anthropic", "claude-3-5-haiku-20241022", "2024-12-03", "4.8"),
        ("openai", "ft:gpt-4.1-2025-04-14:acme::x", "2026-11-10", "15"),
        ("openai", "ft:gpt-4.1-mini-2025-04-14:acme::x", "2026-11-10", "4"),
        ("openai", "ft:gpt-4.1-nano-2025-04-14:acme::x", "2026-11-10", "1"),
    ],
)
def test_prices_by_day(book: PriceBook, provider: str, model: str, day: str, usd: str) -> None:
    price = book.price(CHAT, provider=provider, api="openai-chat", model=model, at=moment(day))
    assert price.cost_usd == Decimal(usd)


def test_a_price_names_the_supplement_only_when_it_used_it(book: PriceBook) -> None:
    mended = book.price(CHAT, provider="openai", api="openai-chat", model="o1-mini", at=moment("2024-12-01"))
    listed = book.price(CHAT, provider="openai", api="openai-chat", model="o1-mini", at=moment("2025-12-01"))
    assert mended.pricing_version == f"{listed.pricing_version};supplement/{load_supplement().date}"


@pytest.mark.parametrize(
    ("model", "cached_usd"), [("ft:gpt-4o-2024-08-06:a::b", "1.875"), ("ft:gpt-4o-mini-2024-07-18:a::b", "0.15")]
)
def test_fine_tuned_models_have_a_cached_rate(book: PriceBook, model: str, cached_usd: str) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 1_000_000}}
    price = book.price(usage, provider="openai", api="openai-chat", model=model)
    assert (price.cost_usd, price.quality) == (Decimal(cached_usd), CostQuality.EXACT)


@pytest.mark.parametrize(
    ("model", "day", "usd"),
    [
        ("gpt-4o-audio-preview-2025-06-03", "2026-02-04", "120"),
        ("gpt-4o-audio-preview-2024-10-01", "2026-02-04", "300"),
        ("gpt-4o-audio-preview", "2024-12-16", "300"),
        ("gpt-4o-audio-preview", "2024-12-17", "120"),
        ("gpt-4o-mini-audio-preview", "2026-02-04", "30"),
    ],
)
def test_audio_models_have_audio_rates(book: PriceBook, model: str, day: str, usd: str) -> None:
    million = 1_000_000
    usage = {
        "prompt_tokens": million,
        "completion_tokens": million,
        "prompt_tokens_details": {"audio_tokens": million},
        "completion_tokens_details": {"audio_tokens": million},
    }
    price = book.price(usage, provider="openai", api="openai-chat", model=model, at=moment(day))
    assert (price.cost_usd, price.quality) == (Decimal(usd), CostQuality.EXACT)


@pytest.mark.parametrize(("day", "usd"), [("2026-04-29", "1.8"), ("2026-04-30", "0.9")])
def test_the_long_context_step_of_sonnet_4_5_ends(book: PriceBook, day: str, usd: str) -> None:
    usage = {"input_tokens": 300_000, "output_tokens": 0}
    price = book.price(usage, provider="anthropic", api="anthropic-messages", model="claude-sonnet-4-5", at=moment(day))
    assert price.cost_usd == Decimal(usd)


def test_the_step_ends_in_a_batch_too(book: PriceBook) -> None:
    usage = {"input_tokens": 300_000, "output_tokens": 0, "service_tier": "batch"}
    price = book.price(usage, provider="anthropic", api="anthropic-messages", model="claude-sonnet-4-5")
    assert (price.cost_usd, price.quality) == (Decimal("0.45"), CostQuality.EXACT)


def test_embeddings_have_a_batch_rate(book: PriceBook) -> None:
    usage = {"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}
    for model, usd in (("3-small", "0.01"), ("3-large", "0.065"), ("ada-002", "0.05")):
        price = book.price(
            usage, provider="openai", api="openai-embeddings", model=f"text-embedding-{model}", batch=True
        )
        assert (price.cost_usd, price.quality) == (Decimal(usd), CostQuality.EXACT)


def test_rows_hold_for_their_provider_only(book: PriceBook) -> None:
    price = book.price(CHAT, provider="openrouter", api="openai-chat", model="openai/o1-mini", at=moment("2024-12-01"))
    assert "supplement" not in price.pricing_version
