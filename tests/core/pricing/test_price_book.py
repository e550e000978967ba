"""One attempt, one price: precedence, doubt, fees, iterations, and no exception for anything a provider sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnpike.envelope import CostQuality, CostSource
from turnpike.pricing import APIS, NOTES, Price, PriceBook
from turnpike.pricing import book as book_module
from turnpike.pricing.quality import quality_of
from turnpike.pricing.registered import RegisteredPrices
from turnpike.pricing.resolve import RateKey, Resolved, resolve
from turnpike.usage import UsageVector

AT = datetime(2026, 11, 10, 12, tzinfo=UTC)
CHAT = {"prompt_tokens": 1000, "completion_tokens": 100}
MILLION = {"input_tokens": 1_000_000, "output_tokens": 0}
TOP = {"input_tokens": 1000, "output_tokens": 100}
MAIN = {**TOP, "type": "message"}
ADVISOR = {"input_tokens": 2000, "output_tokens": 50, "type": "advisor_message", "model": "claude-fable-5"}


def chat(book: PriceBook, usage: object = CHAT, **more: Any) -> Price:
    request: dict[str, Any] = {"provider": "openai", "api": "openai-chat", "model": "gpt-4o", "at": AT}
    return book.price(usage, **(request | more))


def messages(book: PriceBook, usage: object, model: str = "claude-sonnet-5", **more: Any) -> Price:
    return book.price(usage, provider="anthropic", api="anthropic-messages", model=model, at=AT, **more)


def test_a_plain_price_says_all_about_itself(book: PriceBook) -> None:
    price = chat(book)
    assert price.cost_usd == Decimal("0.0035")
    assert price.cost_nano_usd == 3_500_000
    assert price.quality is CostQuality.EXACT
    assert price.notes == ()
    assert price.pricing_model_id == "gpt-4o"
    assert price.source is CostSource.ESTIMATED_LOCAL_SNAPSHOT
    assert price.usage == UsageVector(1000, 100)
    assert price.pricing_version.startswith("genai-prices/")


def test_the_moment_of_the_request_decides(book: PriceBook) -> None:
    before = chat(book, model="o3", at=datetime(2025, 6, 9, 23, 59, tzinfo=UTC))
    after = chat(book, model="o3", at=datetime(2025, 6, 10, tzinfo=UTC))
    assert (before.cost_usd, after.cost_usd) == (Decimal("0.014"), Decimal("0.0028"))


def test_moments_are_compared_in_utc(book: PriceBook) -> None:
    tokyo = timezone(timedelta(hours=9))
    assert chat(book, model="o3", at=datetime(2025, 6, 10, 8, tzinfo=tokyo)).cost_usd == Decimal("0.014")


def test_without_a_moment_the_book_s_clock_counts(book: PriceBook) -> None:
    assert chat(book, at=None) == chat(book, at=AT)


def test_a_moment_without_a_time_zone_is_misuse(book: PriceBook) -> None:
    with pytest.raises(ValueError, match="time zone"):
        chat(book, at=datetime(2026, 1, 1))  # noqa: DTZ001 - the misuse itself


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"model": "gpt-9-ultra"}, "unknown_model"),
        ({"model": None}, "unknown_model"),
        ({"model": "whisper-1"}, "no_token_rate"),
        ({"provider": "ollama"}, "unknown_provider"),
        ({"api": "smoke-signals"}, "unknown_api"),
        ({"usage": None}, "no_usage"),
        ({"usage": {}}, "no_usage"),
        ({"usage": {"prompt_tokens": "many"}}, "malformed_usage"),
        ({"usage": CHAT | {"prompt_tokens_details": {"cached_tokens": 5000}}}, "inconsistent_usage"),
    ],
)
def test_what_is_not_known_has_no_figure(book: PriceBook, more: dict[str, Any], note: str) -> None:
    price = chat(book, **more)
    assert (price.cost_usd, price.cost_nano_usd, price.quality) == (None, None, CostQuality.UNKNOWN)
    assert note in price.notes
    assert price.source is CostSource.DEGRADED_UNKNOWN


def test_the_tokens_survive_an_unknown_price(book: PriceBook) -> None:
    assert chat(book, model="gpt-9-ultra").usage == UsageVector(1000, 100)


def test_zero_usage_costs_zero(book: PriceBook) -> None:
    price = chat(book, {"prompt_tokens": 0, "completion_tokens": 0})
    assert (price.cost_usd, price.cost_nano_usd, price.quality) == (Decimal(0), 0, CostQuality.EXACT)


def test_a_model_that_is_free_by_name_costs_zero(book: PriceBook) -> None:
    usage = CHAT | {"prompt_tokens_details": {"cached_tokens": 10}}
    price = chat(book, usage, provider="openrouter", model="google/gemini-2.0-flash-exp:free")
    assert (price.cost_nano_usd, price.quality) == (0, CostQuality.EXACT)


def test_the_model_that_answered_is_priced(book: PriceBook) -> None:
    price = chat(book, model="gpt-4o-2024-05-13", requested_model="gpt-4o")
    assert (price.cost_usd, price.notes) == (Decimal("0.0065"), ())


@pytest.mark.parametrize("model", [None, "", "gpt-9-ultra"])
def test_the_requested_model_is_second_best(book: PriceBook, model: str | None) -> None:
    price = chat(book, model=model, requested_model="gpt-4o")
    assert (price.cost_usd, price.notes) == (Decimal("0.0035"), ("priced_requested_model",))
    assert price.quality is CostQuality.APPROXIMATE


@pytest.mark.parametrize("model", ["gpt-5-nano-2099-01-01", "gpt-5-nano-next"])
def test_a_loosely_matched_name_is_approximate(book: PriceBook, model: str) -> None:
    assert chat(book, model=model).notes == ("loose_model_match",)


def test_missing_output_makes_a_lower_bound(book: PriceBook) -> None:
    price = chat(book, {"prompt_tokens": 1000})
    assert (price.cost_usd, price.quality) == (Decimal("0.0025"), CostQuality.PARTIAL)


def test_a_cut_stream_makes_a_lower_bound(book: PriceBook) -> None:
    price = messages(book, {"input_tokens": 2000, "output_tokens": 1}, is_partial=True)
    assert (price.cost_usd, price.quality, price.notes) == (Decimal("0.00401"), CostQuality.PARTIAL, ("stream_cut",))


def test_a_dimension_without_a_rate_is_approximate(book: PriceBook) -> None:
    price = chat(book, CHAT | {"prompt_tokens_details": {"audio_tokens": 10}})
    assert price.notes == ("dimension_without_rate:audio_in",)
    assert price.quality is CostQuality.APPROXIMATE


class TestReportedCost:
    def openrouter(self, book: PriceBook, **usage: Any) -> Price:
        return chat(book, CHAT | usage, provider="openrouter", model="openai/gpt-4o")

    def test_the_provider_s_own_cost_wins(self, book: PriceBook) -> None:
        price = self.openrouter(book, cost=0.066407)
        assert (price.cost_usd, price.cost_nano_usd) == (Decimal("0.066407"), 66_407_000)
        assert (price.quality, price.source) == (CostQuality.EXACT, CostSource.ESTIMATED_PROVIDER_API)
        assert price.notes == ("provider_reported",)

    def test_it_goes_before_a_registered_price(self, book: PriceBook) -> None:
        book.register("openai/gpt-4o", 99, 99)
        assert self.openrouter(book, cost=0.5).cost_usd == Decimal("0.5")

    def test_a_reported_zero_is_a_price(self, book: PriceBook) -> None:
        assert self.openrouter(book, cost=0).cost_nano_usd == 0

    def test_with_the_customer_s_own_key_the_upstream_cost_counts(self, book: PriceBook) -> None:
        price = self.openrouter(book, cost=0, is_byok=True, cost_details={"upstream_inference_cost": 0.25})
        assert price.cost_usd == Decimal("0.25")
        unsaid = self.openrouter(book, cost=0, is_byok=True, cost_details={"upstream_inference_cost": None})
        assert (unsaid.cost_usd, unsaid.source) == (Decimal("0.0035"), CostSource.ESTIMATED_LOCAL_SNAPSHOT)

    @pytest.mark.parametrize("cost", [-1, "0.1", float("nan"), True, [1]])
    def test_a_cost_that_is_no_amount_is_named_and_not_used(self, book: PriceBook, cost: object) -> None:
        price = self.openrouter(book, cost=cost)
        assert (price.cost_usd, price.notes) == (Decimal("0.0035"), ("reported_cost_invalid",))

    def test_perplexity_reports_a_total(self, book: PriceBook) -> None:
        usage = CHAT | {"cost": {"total_cost": 0.0123}}
        assert chat(book, usage, provider="perplexity", model="sonar").cost_usd == Decimal("0.0123")

    def test_xai_reports_ticks(self, book: PriceBook) -> None:
        usage = {"input_tokens": 1, "output_tokens": 1, "cost_in_usd_ticks": 6_543_500}
        price = chat(book, usage, provider="xai", api="openai-responses", model="grok-4")
        assert price.cost_usd == Decimal("0.00065435")

    def test_fields_of_one_provider_mean_nothing_at_another(self, book: PriceBook) -> None:
        usage = CHAT | {"cost": 9.9, "cost_in_usd_ticks": 0}
        assert chat(book, usage, provider="azure").cost_usd == Decimal("0.0035")

    def test_it_holds_for_a_model_that_no_list_names(self, book: PriceBook) -> None:
        assert chat(book, CHAT | {"cost": 1}, provider="openrouter", model="new/model").cost_usd == 1

    def test_inconsistent_tokens_do_not_spoil_it(self, book: PriceBook) -> None:
        price = self.openrouter(book, cost=1, prompt_tokens_details={"cached_tokens": 5000})
        assert (price.cost_usd, price.notes) == (Decimal(1), ("provider_reported", "inconsistent_usage"))


class TestFees:
    def responses(self, book: PriceBook, model: str, **tools: int) -> Price:
        usage = {"input_tokens": 0, "output_tokens": 0}
        return chat(book, usage, api="openai-responses", model=model, tool_counts=tools)

    def test_openai_tools(self, book: PriceBook) -> None:
        price = self.responses(book, "gpt-4.1", web_search_requests=2, file_search_requests=1)
        assert (price.cost_usd, price.quality) == (Decimal("0.0225"), CostQuality.EXACT)

    @pytest.mark.parametrize(("model", "usd"), [("gpt-4o", "0.025"), ("gpt-5", "0.01"), ("o3", "0.01")])
    def test_the_preview_tool_costs_more_on_models_that_do_not_reason(
        self, book: PriceBook, model: str, usd: str
    ) -> None:
        assert self.responses(book, model, web_search_preview_call=1).cost_usd == Decimal(usd)

    def test_a_fee_that_is_not_known_is_named(self, book: PriceBook) -> None:
        price = self.responses(book, "gpt-4.1", code_interpreter_calls=1, image_generation_call=2)
        assert price.notes == ("tool_fee_unknown:image_generation_call", "tool_fee_unknown:code_interpreter")
        assert price.quality is CostQuality.APPROXIMATE

    def test_anthropic_searches_are_charged_once(self, book: PriceBook) -> None:
        usage = {"input_tokens": 0, "output_tokens": 0, "server_tool_use": {"web_search_requests": 3}}
        assert messages(book, usage).cost_usd == Decimal("0.03")

    def test_another_provider_s_fee_comes_from_its_price_list(self, book: PriceBook) -> None:
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        counts = {"web_search_requests": 1}
        assert chat(book, usage, provider="google", model="gemini-2.5-flash", tool_counts=counts).cost_usd == Decimal(
            "0.035"
        )
        unknown = chat(book, usage, provider="mistral", model="mistral-large-latest", tool_counts=counts)
        assert unknown.notes == ("tool_fee_unknown:web_search",)


class TestRegion:
    @pytest.mark.parametrize(
        ("geo", "usd", "notes"),
        [
            ("us", "2.2", ()),
            ("global", "2", ()),
            ("not_available", "2", ()),
            ("mars", "2", ("geo_rate_unknown",)),
        ],
    )
    def test_the_region_of_the_usage_counts(self, book: PriceBook, geo: str, usd: str, notes: tuple[str, ...]) -> None:
        price = messages(book, MILLION | {"inference_geo": geo})
        assert (price.cost_usd, price.notes) == (Decimal(usd), notes)

    def test_it_stacks_with_a_batch_and_spares_the_fees(self, book: PriceBook) -> None:
        usage = MILLION | {"service_tier": "batch", "server_tool_use": {"web_search_requests": 1}}
        assert messages(book, usage, geo="us").cost_usd == Decimal("1.11")

    def test_it_is_not_known_for_openai(self, book: PriceBook) -> None:
        assert chat(book, geo="eu").notes == ("geo_rate_unknown",)


class TestIterations:
    def test_every_entry_is_priced_at_its_own_model(self, book: PriceBook) -> None:
        price = messages(book, TOP | {"iterations": [MAIN, ADVISOR]})
        assert price.cost_usd == Decimal("0.003") + Decimal("0.0225")
        assert price.cost_nano_usd == 25_500_000
        assert (price.quality, price.notes) == (CostQuality.EXACT, ("iterations_priced",))

    def test_the_tokens_are_those_of_the_top_level(self, book: PriceBook) -> None:
        price = messages(book, TOP | {"iterations": [MAIN, ADVISOR]})
        assert price.usage == UsageVector(1000, 100)

    def test_fees_region_and_batch_hold_for_all_of_them(self, book: PriceBook) -> None:
        usage = TOP | {
            "iterations": [MAIN, ADVISOR],
            "inference_geo": "us",
            "service_tier": "batch",
            "server_tool_use": {"web_search_requests": 1},
        }
        assert messages(book, usage).cost_usd == Decimal("0.0255") / 2 * Decimal("1.1") + Decimal("0.01")

    def test_an_entry_without_a_price_makes_a_lower_bound(self, book: PriceBook) -> None:
        usage = TOP | {"iterations": [MAIN, ADVISOR | {"model": "claude-omega-9"}]}
        price = messages(book, usage)
        assert (price.cost_usd, price.quality) == (Decimal("0.003"), CostQuality.PARTIAL)
        assert price.notes == ("iterations_priced", "iteration_unpriced")

    def test_an_unknown_main_model_stays_unknown(self, book: PriceBook) -> None:
        price = messages(book, TOP | {"iterations": [MAIN]}, model="claude-omega-9")
        assert (price.cost_usd, price.notes) == (None, ("unknown_model",))

    @pytest.mark.parametrize("entries", ["text", {"a": 1}, [1, "x"], [{}]])
    def test_malformed_entries_have_no_figure(self, book: PriceBook, entries: object) -> None:
        price = messages(book, TOP | {"iterations": entries})
        assert (price.cost_usd, price.quality) == (None, CostQuality.UNKNOWN)

    def test_an_empty_list_is_no_list(self, book: PriceBook) -> None:
        assert messages(book, TOP | {"iterations": []}).notes == ()

    def test_other_formats_have_none(self, book: PriceBook) -> None:
        assert chat(book, CHAT | {"iterations": [MAIN]}).cost_usd == Decimal("0.0035")


class TestEstimate:
    @pytest.mark.parametrize(
        ("model", "usd"),
        [
            ("gpt-4o-mini", "0.75"),
            ("claude-sonnet-4-20250514", "18"),
            ("claude-haiku-3-5-20241022", "4.8"),
            ("gemini-2.5-flash", "2.8"),
        ],
    )
    def test_the_provider_is_found_by_the_name(self, book: PriceBook, model: str, usd: str) -> None:
        # Gemini 2.5 Flash has no long-context step, so a million tokens cost a million times one.
        assert book.estimate(model, 1_000_000, 1_000_000) == Decimal(usd)

    def test_registered_models_are_found_whatever_their_provider(self, book: PriceBook) -> None:
        book.register("house-model", 1, 1, provider="our-cluster")
        assert book.estimate("house-model", 1_000_000, 0) == 1
        assert book.estimate("house-model", 1_000_000, 0, provider="our-cluster") == 1

    @pytest.mark.parametrize("model", ["gpt-9-ultra", "claude-sonnet-4-55", "gpt-5-nano-next", ""])
    def test_no_name_is_matched_loosely(self, book: PriceBook, model: str) -> None:
        with pytest.raises(ValueError, match="Unknown model"):
            book.estimate(model, 1, 1)

    def test_negative_counts_are_refused(self, book: PriceBook) -> None:
        with pytest.raises(ValueError, match="non-negative"):
            book.estimate("gpt-4o", -1, 1)


def test_rates_are_resolved_once_a_minute(book: PriceBook, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[RateKey] = []

    def counting(key: RateKey, prices: RegisteredPrices) -> Resolved:
        resolved.append(key)
        return resolve(key, prices)

    monkeypatch.setattr(book_module, "resolve", counting)
    for second in (0, 1, 59, 60):
        chat(book, at=AT + timedelta(seconds=second))
    assert len(resolved) == 2


def test_the_memory_of_rates_is_bounded(book: PriceBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "_CACHED_RATES", 20)
    for minute in range(50):
        chat(book, at=AT + timedelta(minutes=minute))
    assert len(book._rates) <= 20
    assert chat(book).cost_usd == Decimal("0.0035")


def test_a_fault_inside_the_pricing_does_not_reach_the_caller(
    book: PriceBook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(book_module, "resolve", broken)
    price = chat(book)
    assert (price.cost_usd, price.notes) == (None, ("pricing_failed",))
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_every_note_has_a_meaning_and_the_worst_one_decides() -> None:
    assert all(meaning for _, meaning in NOTES.values())
    assert quality_of(()) is CostQuality.EXACT
    assert quality_of(("tier_rate_projected_back", "stream_cut", "loose_model_match")) is CostQuality.PARTIAL
    assert quality_of(("dimension_without_rate:audio_in",)) is CostQuality.APPROXIMATE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "iterations", "service_tier", "speed",
     "cost", "inference_geo", "cache_creation", "server_tool_use", "prompt_tokens_details", "is_byok", "cost_details"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    usage=st.dictionaries(KEYS, JSON) | JSON,
    provider=st.sampled_from(["openai", "anthropic", "openrouter", "perplexity", "x-ai", "nobody"]),
    api=st.sampled_from(sorted(APIS)),
    model=st.sampled_from(["gpt-4o", "claude-sonnet-5", "sonar", ""]) | st.none() | st.text(max_size=20),
    tool_counts=st.none() | st.dictionaries(st.sampled_from(["web_search_call", "shell_call"]), JSON),
)
def test_nothing_a_provider_sends_raises_or_makes_a_figure_of_nothing(
    book: PriceBook, usage: object, provider: str, api: str, model: str | None, tool_counts: Any
) -> None:
    price = book.price(usage, provider=provider, api=api, model=model, at=AT, tool_counts=tool_counts)
    assert "pricing_failed" not in price.notes
    assert (price.cost_usd is None) == (price.quality is CostQuality.UNKNOWN) == (price.cost_nano_usd is None)
    assert price.cost_usd is None or price.cost_usd >= 0
    if not usage:
        assert price.cost_usd is None
