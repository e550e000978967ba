"""The sliding window: exact, honest about the wait, and small."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from turnpike.boundary.rate_limit import Decision, MemoryRequestLimiter, rate_limit_headers
from turnpike.settings import RateLimit

TWO_IN_TEN = RateLimit(2, 10)


class NaiveWindow:
    """The definition: a request may pass if fewer than the limit passed within the window before it."""

    def __init__(self) -> None:
        self.passed: dict[str, list[float]] = {}

    def live(self, key: str, limit: RateLimit, now: float) -> list[float]:
        return [time for time in self.passed.get(key, []) if now - limit.window_s < time]

    def admit(self, key: str, limit: RateLimit, now: float) -> bool:
        allowed = len(self.live(key, limit, now)) < limit.requests
        if allowed:
            self.passed.setdefault(key, []).append(now)
        return allowed


# Eighths of a second are exact in binary, so that both sides compute the same times.
STEPS = st.lists(st.tuples(st.integers(0, 60).map(lambda n: n / 8), st.sampled_from("ab")), max_size=60)
LIMITS = st.builds(RateLimit, st.integers(1, 5), st.integers(1, 8))


@given(STEPS, st.fixed_dictionaries({"a": LIMITS, "b": LIMITS}))
def test_it_agrees_with_the_definition_of_a_sliding_window(
    steps: list[tuple[float, str]], limits: dict[str, RateLimit]
) -> None:
    limiter, oracle, now = MemoryRequestLimiter(), NaiveWindow(), 1000.0
    for pause_s, key in steps:
        now += pause_s
        limit = limits[key]
        decision = limiter.admit(key, limit, now)
        assert decision.allowed == oracle.admit(key, limit, now)
        live = oracle.live(key, limit, now)
        assert decision.remaining == limit.requests - len(live)
        assert decision.reset_s - 1 < live[0] + limit.window_s - now <= decision.reset_s


@given(STEPS, LIMITS)
def test_waiting_as_long_as_it_says_is_enough_and_a_second_less_is_not(
    steps: list[tuple[float, str]], limit: RateLimit
) -> None:
    limiter, now = MemoryRequestLimiter(), 0.0
    for pause_s, key in steps:
        now += pause_s
        decision = limiter.admit(key, limit, now)
        if not decision.allowed:
            assert decision.retry_after_s >= 1
            assert not limiter.admit(key, limit, now + decision.retry_after_s - 1).allowed
            now += decision.retry_after_s
            assert limiter.admit(key, limit, now).allowed


def test_a_refused_request_is_not_counted() -> None:
    limiter = MemoryRequestLimiter()
    assert [limiter.admit("a", TWO_IN_TEN, now).allowed for now in (0, 1, 2, 3, 9)] == [True, True, False, False, False]
    assert limiter.admit("a", TWO_IN_TEN, 10) == Decision(True, 0, 0, 1)


def test_a_lowered_limit_makes_a_key_wait_until_enough_requests_have_left() -> None:
    limiter = MemoryRequestLimiter()
    for now in (0, 2, 4):
        limiter.admit("a", RateLimit(5, 10), now)
    assert limiter.admit("a", TWO_IN_TEN, 5) == Decision(False, 0, 7, 7)
    assert limiter.admit("a", TWO_IN_TEN, 12).allowed


def test_a_clock_read_before_another_threads_does_not_shorten_the_window() -> None:
    limiter = MemoryRequestLimiter()
    for now in (5.0, 4.0):
        limiter.admit("a", TWO_IN_TEN, now)
    assert not limiter.admit("a", TWO_IN_TEN, 14.5).allowed


def test_threads_together_get_exactly_the_limit() -> None:
    limiter, limit = MemoryRequestLimiter(), RateLimit(100, 60)
    allowed: list[bool] = []

    def work() -> None:
        allowed.extend(limiter.admit("a", limit, 0.0).allowed for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 100


def test_keys_that_have_been_idle_for_their_window_are_forgotten() -> None:
    limiter = MemoryRequestLimiter()
    for number in range(1000):
        limiter.admit(f"key-{number}", TWO_IN_TEN, 0.0)
    for now in range(20, 1020):
        limiter.admit("busy", TWO_IN_TEN, now)
    assert len(limiter) == 1


def test_keys_within_their_window_are_not_forgotten_for_others() -> None:
    limiter, hourly = MemoryRequestLimiter(), RateLimit(1, 3600)
    limiter.admit("slow", hourly, 0.0)
    for now in range(1, 500):
        limiter.admit(f"key-{now}", TWO_IN_TEN, now)
    assert not limiter.admit("slow", hourly, 500.0).allowed


def test_a_busy_key_keeps_no_more_than_its_window() -> None:
    limiter, limit = MemoryRequestLimiter(), RateLimit(1000, 1)
    for number in range(20_000):
        limiter.admit("a", limit, number / 128)
    assert len(limiter._windows["a"]._times) <= 2 * 128 + 2


def test_the_headers_have_the_form_of_draft_10() -> None:
    assert rate_limit_headers(RateLimit(60, 60), Decision(True, 12, 0, 37)) == {
        "RateLimit-Policy": '"default";q=60;w=60',
        "RateLimit": '"default";r=12;t=37',
    }
