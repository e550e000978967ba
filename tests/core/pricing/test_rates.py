"""A compiled card charges exactly what the rates say, to the last digit."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.pricing.rates import Fees, Rate, compile_card, nano_of, nano_usd
from turnpike.usage import UsageVector


def table(**rates: str) -> dict[str, Rate]:
    return {name: Rate(Decimal(rate)) for name, rate in rates.items()}


NO_FEES = Fees()


def usd(
    rates: dict[str, Rate], vector: UsageVector, fees: Fees = NO_FEES, factor: str = "1", previews: int = 0
) -> Decimal:
    card = compile_card(rates, fees, Decimal(factor))
    return Decimal(card.charge(vector, previews).units).scaleb(-card.scale)


ALL = table(
    input="3", output="15", cache_read="0.3", cache_write="3.75", cache_write_1h="6", audio_in="40", audio_out="80",
    cache_audio_read="2.5", image_in="5", reasoning="20",
)  # fmt: skip


def test_every_class_is_charged_at_its_own_rate() -> None:
    vector = UsageVector(
        1_000_000,
        100_000,
        cache_read=300_000,
        cache_write_5m=100_000,
        cache_write_1h=50_000,
        audio_in=120_000,
        cache_audio_read=20_000,
        image_in=30_000,
        audio_out=10_000,
        reasoning=40_000,
    )
    plain_in = 1_000_000 - 300_000 - 100_000 - 50_000 - (120_000 - 20_000) - 30_000
    expected = (
        plain_in * Decimal(3)
        + 280_000 * Decimal("0.3")
        + 20_000 * Decimal("2.5")
        + 100_000 * Decimal("3.75")
        + 50_000 * Decimal(6)
        + 100_000 * Decimal(40)
        + 30_000 * Decimal(5)
        + 50_000 * Decimal(15)
        + 10_000 * Decimal(80)
        + 40_000 * Decimal(20)
    ) / 1_000_000
    assert usd(ALL, vector) == expected


@pytest.mark.parametrize(
    ("part", "total"),
    [
        ({"cache_read": 10}, 10),
        ({"cache_write_5m": 10}, 10),
        ({"cache_write_1h": 10}, 10),
        ({"audio_in": 10}, 10),
        ({"audio_out": 10}, 10),
    ],
)
def test_a_dimension_without_a_rate_is_charged_plainly_and_named(part: dict[str, int], total: int) -> None:
    card = compile_card(table(input="1", output="1"), Fees())
    charge = card.charge(UsageVector(total, total, **part))
    assert charge.units == 2 * total * 10 ** (card.scale - 6)
    assert charge.notes == tuple(f"dimension_without_rate:{name}" for name in part)


def test_hour_long_writes_fall_back_to_the_ordinary_write_rate() -> None:
    card = compile_card(table(input="1", output="1", cache_write="2"), Fees())
    charge = card.charge(UsageVector(10, 0, cache_write_1h=10))
    assert charge.units == 20 * 10 ** (card.scale - 6)
    assert charge.notes == ("dimension_without_rate:cache_write_1h",)


def test_image_and_reasoning_tokens_are_ordinary_tokens_without_a_note() -> None:
    card = compile_card(table(input="1", output="2", cache_read="1"), Fees())
    assert card.charge(UsageVector(10, 10, image_in=4, reasoning=9)).notes == ()


def test_a_missing_plain_rate_is_named() -> None:
    card = compile_card(table(input="1"), Fees())
    assert card.charge(UsageVector(10, 5)).notes == ("dimension_without_rate:tokens_out",)
    assert card.charge(UsageVector(10, 0)).notes == ()


@pytest.mark.parametrize(("tokens_in", "rate"), [(200, 1), (201, 3), (400, 3), (401, 7)])
def test_above_a_threshold_the_whole_request_is_rated_anew(tokens_in: int, rate: int) -> None:
    steps = {"input": Rate(Decimal(1), ((200, Decimal(3)), (400, Decimal(7)))), "output": Rate(Decimal(1))}
    assert usd(steps, UsageVector(tokens_in, 0)) * 1_000_000 == tokens_in * rate


def test_the_threshold_counts_cached_input_too() -> None:
    steps = {
        "input": Rate(Decimal(1), ((100, Decimal(2)),)),
        "output": Rate(Decimal(10), ((100, Decimal(20)),)),
        "cache_read": Rate(Decimal(0)),
    }
    assert usd(steps, UsageVector(101, 1, cache_read=101)) * 1_000_000 == 20


def test_a_threshold_on_a_usage_summed_over_searches_is_named() -> None:
    steps = {"input": Rate(Decimal(1), ((100, Decimal(2)),)), "output": Rate(Decimal(1))}
    card = compile_card(steps, Fees(web_search=Decimal("0.01")))
    assert card.charge(UsageVector(101, 0, web_search_requests=1)).notes == ("threshold_on_summed_usage",)
    assert card.charge(UsageVector(100, 0, web_search_requests=1)).notes == ()


def test_fees_are_charged_per_call_and_not_multiplied_by_the_factor() -> None:
    fees = Fees(Decimal("0.01"), Decimal("0.025"), Decimal("0.0025"))
    vector = UsageVector(1_000_000, 0, web_search_requests=3, file_search_requests=2)
    rates = table(input="1", output="1")
    assert usd(rates, vector, fees, factor="1.1", previews=1) == Decimal("1.1") + Decimal("0.05")


def test_unknown_fees_are_named_and_not_charged() -> None:
    card = compile_card(table(input="1", output="1"), Fees())
    charge = card.charge(UsageVector(0, 0, web_search_requests=1, file_search_requests=1, code_interpreter_calls=1))
    assert charge.units == 0
    assert charge.notes == tuple(
        f"tool_fee_unknown:{name}" for name in ("web_search", "file_search", "code_interpreter")
    )


def test_a_fee_per_request_is_charged_once() -> None:
    assert usd(table(input="1", output="1", requests="12"), UsageVector(0, 0)) == Decimal("0.012")


def test_tokens_that_must_be_cached_and_audio_are_charged_as_audio() -> None:
    rates = table(input="1", output="1", cache_read="0.5", audio_in="40")
    card = compile_card(rates, Fees())
    charge = card.charge(UsageVector(100, 0, cache_read=80, audio_in=50))
    assert Decimal(charge.units).scaleb(6 - card.scale) == 50 * 40 + 50 * Decimal("0.5")
    assert charge.notes == ("overlap_not_reported",)


@pytest.mark.parametrize(
    ("units", "nano"),
    [(0, 0), (14, 1), (15, 2), (16, 2), (25, 2), (35, 4), (24, 2), (26, 3)],
)
def test_amounts_are_rounded_half_even_to_billionths(units: int, nano: int) -> None:
    assert nano_usd(units, 10) == nano
    assert nano_of(Decimal(units).scaleb(-10)) == nano


@given(units=st.integers(0, 10**30), scale=st.integers(0, 25))
def test_both_roundings_agree(units: int, scale: int) -> None:
    assert nano_usd(units, scale) == nano_of(Decimal(f"{units}e-{scale}"))


def test_the_thread_s_decimal_context_does_not_matter() -> None:
    with localcontext(prec=3):
        card = compile_card(table(input="0.123456789", output="1"), Fees(), Decimal("1.1"))
        units = card.charge(UsageVector(123_456_789, 0)).units
    assert Decimal(f"{units}e-{card.scale}") == Decimal("0.1358024679") * 123_456_789 / 1_000_000
