"""A limit's figures are whole and within what every store counts exactly."""

from __future__ import annotations

from typing import Any

import pytest

from turnpike.control.quota import MAX_AMOUNT, Limit, Unit, check_keys, standing


def test_a_limit_counts_single_requests_unless_it_says_otherwise() -> None:
    limit = Limit("default/acme", "default", 60, 60)
    assert (limit.unit, limit.amount) == (Unit.REQUESTS, 1)
    assert Unit.REQUESTS == "requests"


@pytest.mark.parametrize("field", ["cap", "window_s", "amount"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, 2**53])
def test_figures_that_stores_would_count_differently_are_refused(field: str, value: Any) -> None:
    figures = {"cap": 60, "window_s": 60, "amount": 1, field: value}
    with pytest.raises(ValueError, match=f"{field} of limit 'chat' must be an integer from 1 to"):
        Limit("chat/acme", "chat", **figures)


@pytest.mark.parametrize("key", ["", "k" * 1025])
def test_a_key_has_a_bounded_length(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 1024 characters"):
        Limit(key, "chat", 1, 1)


def test_sums_of_the_largest_figures_are_exact_in_a_double() -> None:
    assert float(MAX_AMOUNT + MAX_AMOUNT - 1) == MAX_AMOUNT + MAX_AMOUNT - 1


def test_two_limits_may_not_be_charged_to_one_count() -> None:
    twice = [Limit("acme", "default", 1, 1), Limit("acme", "tenant", 2, 2)]
    with pytest.raises(ValueError, match="'default', 'tenant' have the same key"):
        check_keys(twice)
    check_keys(twice[:1])


def test_times_are_rounded_up_to_whole_seconds() -> None:
    limit = Limit("acme", "default", 1, 1)
    assert [(standing(limit, 0, ms, ms).reset_s) for ms in (0, 1, 999, 1000, 1001)] == [0, 1, 1, 1, 2]
