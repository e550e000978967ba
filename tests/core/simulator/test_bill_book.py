"""The bill book's arithmetic, by examples worked out by hand, and its order."""

import pytest

from turnpike.testing.simulator.bill_book import PRICES, Bill, BillBook, Usage, cost_nano_usd, fingerprint


@pytest.mark.parametrize(
    ("model", "usage", "nano_usd"),
    [
        # 1000 x $0.15 + 500 x $0.60 per million = $0.00015 + $0.0003
        ("gpt-4o-mini", Usage(input=1000, output=500), 450_000),
        # 1000 x 0.15 + 2048 x 0.075 + 10 x 0.60 = 150 + 153.6 + 6 micro-dollars
        ("gpt-4o-mini-2024-07-18", Usage(input=1000, cache_read=2048, output=10), 309_600),
        # 100 x 2.50 + 1024 x 1.25 + 50 x 10 = 250 + 1280 + 500
        ("gpt-4o-2024-08-06", Usage(input=100, cache_read=1024, output=50), 2_030_000),
        # The launch snapshot of gpt-4o kept its own price and has no cache discount: 100 x 5 + 100 x 5 + 50 x 15
        ("gpt-4o-2024-05-13", Usage(input=100, cache_read=100, output=50), 1_750_000),
        # Reasoning is part of the output: 10 x 1.10 + 300 x 4.40 = 11 + 1320
        ("o4-mini", Usage(input=10, output=300, reasoning=256), 1_331_000),
        # 10 x 1 + 3000 x 0.10 + 2000 x 1.25 + 1000 x 2 + 100 x 5 = 10 + 300 + 2500 + 2000 + 500
        ("claude-haiku-4-5-20251001", Usage(10, 3000, 2000, 1000, 100), 5_310_000),
        # 7 x 3 + 13 x 15 = 21 + 195
        ("claude-sonnet-4-5", Usage(input=7, output=13), 216_000),
        # One cached token of gpt-4.1-nano is 25 nano-dollars, of gpt-5-nano 5.
        ("gpt-4.1-nano", Usage(cache_read=1), 25),
        ("gpt-5-nano", Usage(cache_read=1), 5),
        ("gpt-4o", Usage(), 0),
    ],
)
def test_costs_worked_out_by_hand(model: str, usage: Usage, nano_usd: int) -> None:
    assert cost_nano_usd(model, usage) == nano_usd


@pytest.mark.parametrize(("tokens", "nano_usd"), [(1, 2), (3, 8), (5, 12), (7, 18), (2, 5)])
def test_a_half_is_rounded_to_even_once(monkeypatch: pytest.MonkeyPatch, tokens: int, nano_usd: int) -> None:
    # At 2.5 nano-dollars a token: 2.5 -> 2, 7.5 -> 8, 12.5 -> 12, 17.5 -> 18.
    monkeypatch.setitem(PRICES, "half", PRICES["gpt-4o"]._replace(input=2500))

    assert cost_nano_usd("half", Usage(input=tokens)) == nano_usd


@pytest.mark.parametrize(("extra", "nano_usd"), [(400, 2), (499, 2), (501, 3), (600, 3)])
def test_other_fractions_are_rounded_to_the_nearest(monkeypatch: pytest.MonkeyPatch, extra: int, nano_usd: int) -> None:
    monkeypatch.setitem(PRICES, "odd", PRICES["gpt-4o"]._replace(input=2000 + extra))

    assert cost_nano_usd("odd", Usage(input=1)) == nano_usd


def test_a_model_without_a_price_costs_nothing_known() -> None:
    assert cost_nano_usd("gpt-9-imaginary", Usage(input=1)) is None


def test_a_long_prompt_has_its_own_price_or_none() -> None:
    assert cost_nano_usd("gpt-6-sol", Usage(input=272_000)) == 272_000 * 2000
    assert cost_nano_usd("gpt-6-sol", Usage(input=272_000, cache_read=1)) == 272_000 * 4000 + 400
    assert cost_nano_usd("gpt-5.4", Usage(input=272_001)) is None


def test_a_fingerprint_names_a_key_without_showing_it() -> None:
    assert fingerprint("sk-one") == fingerprint("sk-one") != fingerprint("sk-two")
    assert len(fingerprint("sk-one")) == 12
    assert fingerprint("") == ""


def a_bill(sequence: int) -> Bill:
    usage = Usage(input=10, output=100, reasoning=40)
    names = ("id", "openai-chat", "gpt-4o", "gpt-4o", True, "key", 200, True)
    return Bill(sequence, *names, usage=usage, cost_nano_usd=cost_nano_usd("gpt-4o", usage))


def test_a_bill_is_settled_with_what_was_sent_only_when_generation_stops() -> None:
    book = BillBook()
    for sequence in range(3):
        book.add(a_bill(sequence))
    for bill, stops in zip(book.since(), (False, True), strict=False):
        book.close(bill, sent_output_tokens=30, delivered_usage=False, aborted=True, stops=stops)

    goes_on, stopped, still_open = book.since()
    assert (goes_on.usage.output, goes_on.sent_output_tokens, goes_on.cost_nano_usd) == (100, 30, 1_025_000)
    assert (stopped.usage.output, stopped.usage.reasoning, stopped.cost_nano_usd) == (30, 30, 325_000)
    assert (goes_on.finished, still_open.finished) == (True, False)
    assert [bill.sequence for bill in book.since(1)] == [1, 2]


def test_the_book_has_no_gaps_and_forgets_bills_of_an_earlier_one() -> None:
    book = BillBook()
    bill = a_bill(0)
    book.add(bill)
    with pytest.raises(ValueError, match="does not follow"):
        book.add(a_bill(2))
    book.clear()
    book.add(a_bill(0)._replace(response_id="new"))
    book.close(bill, sent_output_tokens=1, delivered_usage=True, aborted=False, stops=True)

    assert [(bill.response_id, bill.finished) for bill in book.since()] == [("new", False)]
