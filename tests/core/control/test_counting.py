"""How much passes, what is left and how long to wait: the same answers at the same times from every store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnpike.control.memory_quota import MemoryQuota
from turnpike.control.quota import Limit, Quota, Standing, Verdict
from turnpike.control.redis_quota import KEY_PREFIX, RedisQuota

from .conftest import Clock
from .redis_process import RedisProcess

MINUTE = Limit("acme", "default", 3, 60)
SLOT_MS = 1000
"""A sixtieth of a minute."""


class Store(Protocol):
    def empty(self, clock: Clock) -> Quota:
        """A quota that has counted nothing, by ``clock``."""
        ...

    def size(self, key: str) -> int:
        """How many segments are kept for one key."""
        ...


class InMemory:
    def empty(self, clock: Clock) -> Quota:
        self.quota = MemoryQuota(clock)
        return self.quota

    def size(self, key: str) -> int:
        return len(self.quota._windows[key])


class InRedis:
    def __init__(self, server: RedisProcess) -> None:
        self.server = server
        self.clock = Clock()
        # The tests are about counting: however slow the machine is, the server is not to be given up.
        self.quota = RedisQuota(server.url, timeout_s=30, now_ms=lambda: self.clock.ms)

    def empty(self, clock: Clock) -> Quota:
        self.server.admin.flushdb()
        self.clock = clock
        return self.quota

    def size(self, key: str) -> int:
        # The time of writing, and three numbers for each segment.
        return len(msgspec.msgpack.decode(self.server.admin.get(KEY_PREFIX + key))) // 3


@pytest.fixture(scope="module", params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield InMemory()
        return
    in_redis = InRedis(request.getfixturevalue("shared_redis"))
    yield in_redis
    in_redis.quota.close()


class Definition:
    """What segments are, worked out anew from everything that ever passed."""

    def __init__(self) -> None:
        self.passed: dict[str, list[tuple[int, int]]] = {}

    def count(self, limit: Limit, ms: int) -> int:
        """What is in the limit's window at ``ms``, with a segment in it until its youngest part has left."""
        slot_ms, segments = -(-limit.window_s * 1000 // 60), []
        for at, amount in self.passed.get(limit.key, []):
            if segments and at - segments[-1][0] < slot_ms:
                segments[-1][1:] = [at, segments[-1][2] + amount]
            else:
                segments.append([at, at, amount])
        return sum(amount for _, last, amount in segments if last + limit.window_s * 1000 > ms)

    def take(self, limits: list[Limit], ms: int) -> Verdict:
        allowed = all(self.count(limit, ms) + limit.amount <= limit.cap for limit in limits)
        waits = [0 if allowed else self.wait_s(limit, ms) for limit in limits]
        if allowed:
            for limit in limits:
                self.passed.setdefault(limit.key, []).append((ms, limit.amount))
        return Verdict(
            allowed, tuple(self.standing(limit, ms, wait) for limit, wait in zip(limits, waits, strict=True))
        )

    def wait_s(self, limit: Limit, ms: int) -> int:
        if limit.amount > limit.cap:
            return limit.window_s
        return next(
            s for s in range(limit.window_s + 1) if self.count(limit, ms + s * 1000) + limit.amount <= limit.cap
        )

    def standing(self, limit: Limit, ms: int, wait_s: int) -> Standing:
        def left(s: int) -> int:
            return max(0, limit.cap - self.count(limit, ms + s * 1000))

        later = (s for s in range(1, limit.window_s + 1) if left(s) > left(0))
        return Standing(limit, left(0), next(later, 0), wait_s)


WINDOWS_S = {"a": 30, "b": 60, "c": 77}
AMOUNTS = st.integers(1, 5)


def limits_of(caps: st.SearchStrategy[int], amounts: st.SearchStrategy[int]) -> st.SearchStrategy[list[Limit]]:
    one = st.builds(
        lambda key, cap, amount: Limit(key, f"limit-{key}", cap, WINDOWS_S[key], amount=amount),
        st.sampled_from(sorted(WINDOWS_S)),
        caps,
        amounts,
    )
    return st.lists(one, max_size=3, unique_by=lambda limit: limit.key)


# From within a slot to most of a window.
PAUSES_MS = st.one_of(st.integers(0, 7), st.integers(0, 40), st.integers(0, 400)).map(lambda eighths: eighths * 125)
EXAMPLES = settings(max_examples=60, deadline=None)


@EXAMPLES
@given(steps=st.lists(st.tuples(PAUSES_MS, limits_of(st.integers(1, 12), AMOUNTS)), max_size=40))
def test_every_store_answers_by_the_definition(store: Store, steps: list[tuple[int, list[Limit]]]) -> None:
    clock, definition = Clock(), Definition()
    quota = store.empty(clock)
    for pause_ms, limits in steps:
        clock.ms += pause_ms
        assert quota.take(limits) == definition.take(limits, clock.ms)


@EXAMPLES
@given(
    cap=st.integers(1, 20),
    window_s=st.integers(20, 90),  # an example takes less: Redis forgets a key after as much of real time
    steps=st.lists(st.tuples(PAUSES_MS, AMOUNTS), max_size=60),
)
def test_no_window_ever_has_more_than_the_cap_and_nothing_leaves_more_than_a_sixtieth_late(
    store: Store, cap: int, window_s: int, steps: list[tuple[int, int]]
) -> None:
    clock, limit = Clock(), Limit("acme", "default", cap, window_s)
    quota, passed = store.empty(clock), []
    for pause_ms, amount in steps:
        clock.ms += pause_ms
        verdict = quota.take([replace(limit, amount=amount)])
        if verdict.allowed:
            passed.append((clock.ms, amount))
            assert sum(of for at, of in passed if at > clock.ms - window_s * 1000) <= cap
        else:
            late_ms = window_s * 1000 / 60
            assert sum(of for at, of in passed if at > clock.ms - window_s * 1000 - late_ms) + amount > cap


@EXAMPLES
@given(cap=st.integers(1, 20), pauses_ms=st.lists(PAUSES_MS.map(lambda ms: ms + SLOT_MS), max_size=60))
def test_requests_more_than_a_sixtieth_apart_are_counted_exactly(store: Store, cap: int, pauses_ms: list[int]) -> None:
    clock = Clock()
    quota, passed = store.empty(clock), []
    for pause_ms in pauses_ms:
        clock.ms += pause_ms
        in_window = [at for at in passed if at > clock.ms - 60_000]
        verdict = quota.take([replace(MINUTE, cap=cap)])
        assert verdict.allowed == (len(in_window) < cap)
        if verdict.allowed:
            passed.append(clock.ms)


@EXAMPLES
@given(steps=st.lists(st.tuples(PAUSES_MS, st.integers(1, 12), AMOUNTS), max_size=40))
def test_waiting_as_long_as_it_says_is_enough_and_a_second_less_is_not(
    store: Store, steps: list[tuple[int, int, int]]
) -> None:
    clock = Clock()
    quota = store.empty(clock)
    for pause_ms, cap, amount in steps:
        clock.ms += pause_ms
        limit = replace(MINUTE, cap=cap, amount=min(amount, cap))
        verdict = quota.take([limit])
        if not verdict.allowed:
            wait_s = verdict.standings[0].wait_s
            assert wait_s >= 1
            clock.ms += (wait_s - 1) * 1000
            assert not quota.take([limit]).allowed
            clock.ms += 1000
            assert quota.take([limit]).allowed


@EXAMPLES
@given(
    steps=st.lists(
        st.tuples(PAUSES_MS, st.one_of(st.just(0), st.integers(0, 4 * 3600).map(lambda s: s * 1000))), max_size=60
    )
)
def test_a_clock_that_is_set_back_lets_nothing_pass_early_and_locks_nobody_out(
    store: Store, steps: list[tuple[int, int]]
) -> None:
    clock, passed, truly_ms = Clock(10**9), [], 0
    quota = store.empty(clock)
    for pause_ms, back_ms in steps:
        truly_ms += pause_ms
        clock.ms += pause_ms - back_ms
        verdict = quota.take([MINUTE])
        if verdict.allowed:
            passed.append(truly_ms)
            assert len([at for at in passed if at > truly_ms - 60_000]) <= MINUTE.cap
        else:
            assert 1 <= verdict.standings[0].wait_s <= 60
    clock.ms += 60_000
    assert quota.take([MINUTE]).allowed


def test_a_burst_is_let_go_of_exactly_a_window_later(store: Store, clock: Clock) -> None:
    quota = store.empty(clock)
    for remaining in (2, 1, 0):
        assert quota.take([MINUTE]) == Verdict(True, (Standing(MINUTE, remaining, 60, 0),))
    assert quota.take([MINUTE]) == Verdict(False, (Standing(MINUTE, 0, 60, 60),))
    clock.ms += 59_875
    assert quota.take([MINUTE]) == Verdict(False, (Standing(MINUTE, 0, 1, 1),))
    clock.ms += 125
    assert quota.take([MINUTE]).allowed


def test_a_refused_request_is_charged_to_none_of_its_limits(store: Store, clock: Clock) -> None:
    quota, narrow = store.empty(clock), Limit("acme/chat", "chat", 1, 60)
    assert quota.take([MINUTE, narrow]).allowed
    refused = Verdict(False, (Standing(MINUTE, 2, 60, 0), Standing(narrow, 0, 60, 60)))
    assert [quota.take([MINUTE, narrow]) for _ in range(3)] == [refused] * 3
    assert quota.take([MINUTE]).standings[0].remaining == 1


def test_an_amount_that_does_not_fit_leaves_room_for_one_that_does(store: Store, clock: Clock) -> None:
    quota, budget = store.empty(clock), Limit("acme", "budget", 1000, 60, amount=900)
    verdicts = [quota.take([replace(budget, amount=amount)]) for amount in (900, 900, 50)]
    assert [verdict.allowed for verdict in verdicts] == [True, False, True]
    assert verdicts[1].standings[0].remaining == 100


def test_an_amount_above_the_cap_never_passes_and_is_told_to_wait_for_the_window(store: Store, clock: Clock) -> None:
    quota, much = store.empty(clock), replace(MINUTE, amount=4)
    assert quota.take([much]) == Verdict(False, (Standing(much, 3, 0, 60),))


def test_under_a_lowered_cap_the_wait_lasts_until_enough_has_left(store: Store, clock: Clock) -> None:
    quota, lowered = store.empty(clock), replace(MINUTE, cap=2)
    for _ in range(3):
        quota.take([MINUTE])
        clock.ms += 10_000
    assert quota.take([lowered]) == Verdict(False, (Standing(lowered, 0, 40, 40),))
    clock.ms += 40_000
    assert quota.take([lowered]).allowed


def test_the_largest_figures_are_counted_to_the_unit(store: Store, clock: Clock) -> None:
    quota, all_but_one = store.empty(clock), Limit("acme", "nano-usd", 2**52, 60, amount=2**52 - 1)
    assert quota.take([all_but_one]).standings[0].remaining == 1
    assert not quota.take([replace(all_but_one, amount=2)]).allowed
    assert quota.take([replace(all_but_one, amount=1)]).standings[0].remaining == 0


def test_what_is_kept_does_not_grow_with_the_cap(store: Store, clock: Clock) -> None:
    quota, sizes = store.empty(clock), []
    for step in range(300):
        clock.ms += (875, 125)[step % 2]
        quota.take([replace(MINUTE, cap=10**6)])
        sizes.append(store.size("acme"))
    assert max(sizes) == 61


def test_keys_may_have_any_characters(store: Store, clock: Clock) -> None:
    quota = store.empty(clock)
    for key in ("ü/\N{GRINNING FACE}", "a b\r\nc", "\x00", "\ud800", "{tag}"):
        limit = replace(MINUTE, key=key, cap=1)
        assert [quota.take([limit]).allowed for _ in range(2)] == [True, False]


def test_limits_with_one_key_are_refused_before_anything_is_charged(store: Store, clock: Clock) -> None:
    quota = store.empty(clock)
    with pytest.raises(ValueError, match="same key"):
        quota.take([MINUTE, replace(MINUTE, name="tenant")])
    assert quota.take([MINUTE]).standings[0].remaining == 2


def test_a_request_without_limits_passes(store: Store, clock: Clock) -> None:
    assert store.empty(clock).take([]) == Verdict(True, ())
