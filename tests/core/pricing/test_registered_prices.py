"""What the operator registers goes before every list, by exact name and from its day on."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Thread

import pytest

from turnpike.envelope import CostQuality
from turnpike.pricing import Price, PriceBook

USAGE = {
    "prompt_tokens": 1_000_000,
    "completion_tokens": 1_000_000,
    "prompt_tokens_details": {"cached_tokens": 400_000, "cache_write_tokens": 100_000},
}
PLAIN = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}


def priced(book: PriceBook, usage: object = PLAIN, **names: object) -> Price:
    names = {"provider": "openai", "model": "gpt-4o"} | names
    return book.price(usage, api="openai-chat", **names)  # type: ignore[arg-type]


def test_a_registered_price_goes_before_the_list(book: PriceBook) -> None:
    book.register("gpt-4o", 1, 2)
    price = priced(book)
    assert (price.cost_usd, price.quality, price.notes) == (Decimal(3), CostQuality.EXACT, ("registered_price",))
    assert price.pricing_model_id == "gpt-4o"


def test_a_self_hosted_model_gets_a_price(book: PriceBook) -> None:
    assert priced(book, provider="ollama", model="qwen3").cost_usd is None
    book.register("qwen3", 0.1, 0.2)
    assert priced(book, provider="ollama", model="qwen3").cost_usd == Decimal("0.3")


def test_the_requested_name_counts_when_the_answer_names_another(book: PriceBook) -> None:
    book.register("my-deployment", 1, 1)
    assert priced(book, model="gpt-4o-2024-08-06", requested_model="my-deployment").cost_usd == Decimal(2)


def test_all_rates_can_be_registered(book: PriceBook) -> None:
    book.register("gpt-4o", 2, 4, cached_input_per_1m=0.5, cache_write_per_1m=3, cache_write_1h_per_1m=5)
    price = priced(book, USAGE)
    assert price.cost_usd == Decimal("0.5") * 2 + Decimal("0.4") * Decimal("0.5") + Decimal("0.1") * 3 + 4
    usage = {"input_tokens": 0, "cache_creation": {"ephemeral_1h_input_tokens": 1_000_000}, "output_tokens": 0}
    hour = book.price(usage, provider="anthropic", api="anthropic-messages", model="gpt-4o")
    assert hour.cost_usd == Decimal(5)


def test_a_rate_that_was_not_registered_is_named(book: PriceBook) -> None:
    book.register("gpt-4o", 2, 4)
    price = priced(book, USAGE)
    assert price.cost_usd == Decimal(6)
    assert price.notes == (
        "registered_price",
        "dimension_without_rate:cache_read",
        "dimension_without_rate:cache_write_5m",
    )
    assert price.quality is CostQuality.APPROXIMATE


def test_a_tier_of_a_registered_model_is_not_known(book: PriceBook) -> None:
    book.register("gpt-4o", 1, 2)
    assert priced(book, batch=True).notes == ("registered_price", "tier_rate_unknown")


def test_a_price_for_one_provider_holds_there_and_goes_before_one_for_all(book: PriceBook) -> None:
    book.register("gpt-4o", 1, 1)
    book.register("gpt-4o", 5, 5, provider="azure")
    assert priced(book, provider="azure").cost_usd == Decimal(10)
    assert priced(book, provider="openai").cost_usd == Decimal(2)


def test_prices_take_effect_on_their_day(book: PriceBook) -> None:
    start = datetime(2026, 6, 1, tzinfo=UTC)
    book.register("gpt-4o", 9, 9, effective_from=date(2026, 6, 1))
    book.register("gpt-4o", 1, 1, effective_from=datetime(2026, 7, 1, tzinfo=UTC))
    at_list = priced(book, at=start - timedelta(minutes=1))
    assert (at_list.cost_usd, at_list.notes) == (Decimal("12.5"), ())
    assert priced(book, at=start).cost_usd == Decimal(18)
    assert priced(book, at=start + timedelta(days=30)).cost_usd == Decimal(2)


def test_registering_again_replaces(book: PriceBook) -> None:
    book.register("gpt-4o", 1, 1)
    assert priced(book).cost_usd == Decimal(2)
    book.register("gpt-4o", 4, 4)
    assert priced(book).cost_usd == Decimal(8)
    assert book.registered() == {"gpt-4o": {"input_per_1m": 4.0, "output_per_1m": 4.0}}


def test_the_version_names_the_registered_table_by_its_content(book: PriceBook) -> None:
    other = PriceBook()
    plain = book.version()
    for each, order in ((book, ("a", "b")), (other, ("b", "a"))):
        for model in order:
            each.register(model, 1, 2)
    assert book.version() == other.version()
    assert book.version().startswith(f"{plain};overrides/")
    assert priced(book, model="a").pricing_version.split(";")[-1] == book.version().split(";")[-1]
    other.register("a", 1, 3)
    assert book.version() != other.version()


def test_two_books_share_nothing(book: PriceBook) -> None:
    book.register("gpt-4o", 0, 0)
    assert priced(PriceBook()).cost_usd == Decimal("12.5")


@pytest.mark.parametrize("bad", [-1, -0.01, float("nan"), float("inf"), Decimal("NaN"), True])
@pytest.mark.parametrize("field", ["input_per_1m", "output_per_1m", "cached_input_per_1m", "cache_write_1h_per_1m"])
def test_prices_that_are_no_prices_are_refused(book: PriceBook, field: str, bad: object) -> None:
    arguments = {"input_per_1m": 1, "output_per_1m": 1} | {field: bad}
    with pytest.raises(ValueError, match="non-negative"):
        book.register("gpt-4o", **arguments)  # type: ignore[arg-type]
    assert book.registered() == {}


def test_a_start_without_a_time_zone_and_an_empty_name_are_refused(book: PriceBook) -> None:
    with pytest.raises(ValueError, match="time zone"):
        book.register("gpt-4o", 1, 1, effective_from=datetime(2026, 1, 1))  # noqa: DTZ001 - the misuse itself
    with pytest.raises(ValueError, match="must not be empty"):
        book.register(" ", 1, 1)


def test_threads_may_register_and_price_at_once(book: PriceBook) -> None:
    def work(number: int) -> None:
        for round_ in range(50):
            book.register(f"model-{number}", number, round_)
            assert priced(book, model=f"model-{number}").cost_usd == Decimal(number + round_)

    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=guarded, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(book.registered()) == 6
