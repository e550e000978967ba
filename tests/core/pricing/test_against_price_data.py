"""Our arithmetic and genai-prices' own agree to the last digit wherever nothing had to be assumed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from turnpike.envelope import CostQuality
from turnpike.pricing import PriceBook

THEIRS = DataSnapshot(providers=providers, from_auto_update=False)
OURS = PriceBook()

COUNT = st.integers(0, 400_000)
MOMENT = st.datetimes(datetime(2025, 6, 10), datetime(2026, 11, 30), timezones=st.just(UTC))  # noqa: DTZ001 - given a zone
LISTED = datetime(2026, 10, 15, tzinfo=UTC)
"""From here on the data has tier and batch rates."""

OPENAI = st.sampled_from(
    ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3", "o1-mini", "gpt-5", "gpt-5.5", "gpt-5.6-sol", "gpt-5.6-luna",
     "gpt-6-sol", "gpt-6.1-sol", "gpt-5-pro"]
)  # fmt: skip
ANTHROPIC = st.sampled_from(
    ["claude-3-haiku-20240307", "claude-sonnet-4-20250514", "claude-opus-4-6", "claude-sonnet-4-6", "claude-sonnet-5",
     "claude-haiku-5-5", "claude-fable-5-1", "claude-opus-4-8"]
)  # fmt: skip


@st.composite
def inclusive(draw: st.DrawFn, *, audio: bool = False) -> tuple[int, int, int, int, int, int, int]:
    """Input, cached, written, audio in, output, audio out and reasoning tokens, each part inside its total."""
    cached, written, heard, plain = draw(COUNT), draw(COUNT), draw(COUNT) if audio else 0, draw(COUNT)
    spoken = draw(COUNT) if audio else 0
    reasoning = 0 if audio else draw(COUNT)
    out = spoken + reasoning + draw(COUNT)
    return cached + written + heard + plain, cached, written, heard, out, spoken, reasoning


def theirs(
    usage: dict[str, Any], provider: str, flavor: str, model: str, at: datetime, context: dict[str, str] | None = None
) -> Decimal:
    extracted = THEIRS.extract_usage({"model": model, "usage": usage}, provider_id=provider, api_flavor=flavor)
    return extracted.calc_price(genai_request_timestamp=at, price_context=context).total_price


@settings(max_examples=100)
@given(counts=inclusive(), model=OPENAI, at=MOMENT)
def test_openai_chat(counts: tuple[int, ...], model: str, at: datetime) -> None:
    tokens_in, cached, written, _, out, _, reasoning = counts
    usage = {
        "prompt_tokens": tokens_in,
        "completion_tokens": out,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    price = OURS.price(usage, provider="openai", api="openai-chat", model=model, at=at)
    assert price.cost_usd == theirs(usage, "openai", "chat", model, at)


@settings(max_examples=50)
@given(counts=inclusive(audio=True), model=st.sampled_from(["gpt-audio", "gpt-audio-mini"]), at=MOMENT)
def test_openai_audio(counts: tuple[int, ...], model: str, at: datetime) -> None:
    tokens_in, cached, written, heard, out, spoken, _ = counts
    usage = {
        "prompt_tokens": tokens_in,
        "completion_tokens": out,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": heard},
        "completion_tokens_details": {"audio_tokens": spoken},
    }
    price = OURS.price(usage, provider="openai", api="openai-chat", model=model, at=at)
    assert price.cost_usd == theirs(usage, "openai", "chat", model, at)


@settings(max_examples=50)
@given(
    counts=inclusive(),
    model=OPENAI,
    context=st.sampled_from([{"service_tier": "flex"}, {"service_tier": "priority"}, {"processing": "batch"}]),
)
def test_openai_responses_in_a_tier(counts: tuple[int, ...], model: str, context: dict[str, str]) -> None:
    tokens_in, cached, written, _, out, _, reasoning = counts
    usage = {
        "input_tokens": tokens_in,
        "output_tokens": out,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens_details": {"reasoning_tokens": reasoning},
    }
    price = OURS.price(
        usage,
        provider="openai",
        api="openai-responses",
        model=model,
        at=LISTED,
        service_tier=context.get("service_tier"),
        batch="processing" in context,
    )
    assert price.cost_usd == theirs(usage, "openai", "responses", model, LISTED, context)


@settings(max_examples=100)
@given(
    fresh=COUNT, read=COUNT, short=COUNT, long=COUNT, out=COUNT, searches=st.integers(0, 5), model=ANTHROPIC, at=MOMENT
)
def test_anthropic_messages(
    fresh: int, read: int, short: int, long: int, out: int, searches: int, model: str, at: datetime
) -> None:
    usage = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": out,
        "server_tool_use": {"web_search_requests": searches},
    }
    # Claude 3 Haiku has no search fee in the price data.
    assume(not searches or not model.startswith("claude-3-haiku"))
    price = OURS.price(usage, provider="anthropic", api="anthropic-messages", model=model, at=at)
    assert price.cost_usd == theirs(usage, "anthropic", "default", model, at)


@settings(max_examples=50)
@given(fresh=COUNT, read=COUNT, written=COUNT, out=COUNT, at=MOMENT)
def test_bedrock_converse(fresh: int, read: int, written: int, out: int, at: datetime) -> None:
    model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    usage = {
        "inputTokens": fresh,
        "outputTokens": out,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": written,
    }
    price = OURS.price(usage, provider="aws", api="bedrock-converse", model=model, at=at)
    assert price.cost_usd == theirs(usage, "aws", "default", model, at)


@settings(max_examples=50)
@given(tokens=COUNT, at=MOMENT, model=st.sampled_from(["deepseek-chat", "deepseek-reasoner"]))
def test_prices_that_change_within_the_day(tokens: int, at: datetime, model: str) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens}
    price = OURS.price(usage, provider="deepseek", api="openai-chat", model=model, at=at)
    assert price.cost_usd == theirs(usage, "deepseek", "chat", model, at)


@settings(max_examples=50)
@given(tokens=COUNT, at=MOMENT)
def test_a_fee_per_request_and_a_rate_for_reasoning(tokens: int, at: datetime) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens}
    price = OURS.price(usage, provider="perplexity", api="openai-chat", model="sonar-pro", at=at)
    assert price.cost_usd == theirs(usage, "perplexity", "default", "sonar-pro", at)
    assert price.quality is CostQuality.EXACT
