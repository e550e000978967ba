"""A Redis server that fails, in every way there is: one clear error, soon, and none of it for long.

That it is soon is not asserted in milliseconds, which would depend on the machine: each of these would hang, or last for
seconds, without the bounds. benchmarks/quota_cost.py measures them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from turnpike.clock import Clock as AnyClock
from turnpike.control.outage import Outage
from turnpike.control.quota import Limit, Verdict
from turnpike.control.redis_quota import KEY_PREFIX, RedisQuota
from turnpike.errors import QuotaUnavailableError

from .conftest import Clock
from .failing_servers import Mute, Proxy, black_hole
from .redis_process import RedisProcess, free_port

pytest.importorskip("redis", reason="needs redis: install turnpike[redis]")

LIMITS = [Limit("acme", "default", 100, 3600)]


class Taker:
    """Takes from one quota, with the calls of threads or in an event loop of its own.

    Its quotas have one connection at most, so that none can be lost count of.
    """

    def __init__(self, *, is_async: bool) -> None:
        self._runner = asyncio.Runner() if is_async else None
        self._quotas: list[RedisQuota] = []

    def quota(self, url: str, clock: AnyClock | None = None, **options: Any) -> RedisQuota:
        quota = RedisQuota(url, clock=clock or Clock(), **{"timeout_s": 0.3, "max_connections": 1, **options})
        self._quotas.append(quota)
        return quota

    def take(self, quota: RedisQuota, limits: list[Limit] = LIMITS) -> Verdict:
        return quota.take(limits) if self._runner is None else self._runner.run(quota.take_async(limits))

    def remaining(self, quota: RedisQuota) -> int:
        return self.take(quota).standings[0].remaining

    def reason(self, quota: RedisQuota, limits: list[Limit] = LIMITS) -> str:
        """Why the quota is unavailable."""
        with pytest.raises(QuotaUnavailableError) as caught:
            self.take(quota, limits)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        return str(caught.value).removeprefix("The Redis server that counts requests failed").strip(" :.")

    def pass_time(self, done: Callable[[], bool]) -> None:
        """Let what goes on beside the takes go on, until ``done``."""
        while True:
            if self._runner is not None:
                self._runner.run(asyncio.sleep(0.001))
            if done():
                return
            time.sleep(0.001)

    def end(self) -> None:
        for quota in self._quotas:
            quota.close()
        if self._runner is not None:
            self._runner.close()
        for thread in threading.enumerate():
            if thread.name == "turnpike-redis":
                thread.join()


@pytest.fixture(params=["threads", "loop"])
def taker(request: pytest.FixtureRequest) -> Iterator[Taker]:
    taker = Taker(is_async=request.param == "loop")
    yield taker
    taker.end()


@pytest.fixture
def mute() -> Iterator[Mute]:
    mute = Mute()
    yield mute
    mute.end()


# ------------------------------------------------------------------------------------------------ unreachable


def test_nobody_listens(taker: Taker) -> None:
    assert taker.reason(taker.quota(f"redis://127.0.0.1:{free_port()}", timeout_s=30)) == "ConnectionRefusedError"


def test_nobody_answers(taker: Taker, mute: Mute) -> None:
    assert taker.reason(taker.quota(mute.url)) == "TimeoutError"


def test_nobody_answers_a_greeting_in_tls(mute: Mute, taker: Taker) -> None:
    assert taker.reason(taker.quota(mute.url.replace("redis:", "rediss:"))) == "TimeoutError"


def test_packets_are_lost(taker: Taker) -> None:
    with black_hole() as url:
        assert taker.reason(taker.quota(url)) == "TimeoutError"


def test_the_name_server_does_not_answer(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def looked_up(*_: Any) -> Any:
        answers.wait()
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    try:
        assert taker.reason(taker.quota("redis://redis.invalid")) == "TimeoutError"
    finally:
        answers.set()


def test_the_server_stops_and_goes_on(taker: Taker, frail_redis: RedisProcess, clock: Clock) -> None:
    quota = taker.quota(frail_redis.url, clock)
    assert taker.remaining(quota) == 99
    frail_redis.pause()
    assert taker.reason(quota) == "TimeoutError"
    frail_redis.resume()
    clock.ms += 1000
    assert taker.remaining(quota) in (98, 97), "the take whose answer was lost may have been charged, at most once"


def test_the_server_is_started_anew(taker: Taker, frail_redis: RedisProcess, tmp_path: Path) -> None:
    quota = taker.quota(frail_redis.url, timeout_s=30)
    assert taker.remaining(quota) == 99
    frail_redis.end()
    again = RedisProcess(tmp_path, port=frail_redis.port)
    try:
        taker.pass_time(lambda: True)
        assert taker.remaining(quota) == 99, "connections that have ended are not used"
    finally:
        frail_redis.admin.close()
        again.end()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_take_whose_answer_was_lost_is_not_sent_again(redis: RedisProcess, is_async: bool) -> None:
    taker, proxy, clock = Taker(is_async=is_async), Proxy(redis.port), Clock()
    quota = taker.quota(proxy.url, clock)
    assert taker.remaining(quota) == 99
    proxy.loses_replies = True
    assert taker.reason(quota) == "TimeoutError"
    proxy.loses_replies = False
    clock.ms += 1000
    assert taker.remaining(quota) == 97
    taker.end()
    proxy.end()


# ------------------------------------------------------------------------------------------------ error replies


def test_the_server_has_no_memory_left(taker: Taker, frail_redis: RedisProcess) -> None:
    quota = taker.quota(frail_redis.url, timeout_s=30)
    assert taker.remaining(quota) == 99
    frail_redis.admin.config_set("maxmemory", 1)
    assert taker.reason(quota) in ("OutOfMemoryError", "ResponseError")
    frail_redis.admin.config_set("maxmemory", 0)
    assert taker.remaining(quota) == 98, "a server that answers is asked again at once, and nothing was charged"


def test_the_server_has_become_a_replica(taker: Taker, frail_redis: RedisProcess, clock: Clock) -> None:
    quota = taker.quota(frail_redis.url, clock, timeout_s=30)
    assert taker.remaining(quota) == 99
    before = frail_redis.connections()
    frail_redis.admin.replicaof("127.0.0.1", free_port())
    assert taker.reason(quota) == "ReadOnlyError"
    frail_redis.admin.replicaof("no", "one")
    clock.ms += 1000
    assert taker.remaining(quota) == 98
    assert frail_redis.connections() > before, "the name may lead to another server by now"


def test_a_spoilt_value_concerns_nobody_else(taker: Taker, redis: RedisProcess) -> None:
    quota = taker.quota(redis.url, timeout_s=30)
    redis.admin.lpush(KEY_PREFIX + "acme", "a list")
    redis.admin.set(KEY_PREFIX + "beta", "no numbers")
    assert taker.reason(quota) == "ResponseError"
    assert taker.reason(quota, [Limit("beta", "default", 100, 3600)]) == "ResponseError"
    assert taker.take(quota, [Limit("gamma", "default", 100, 3600)]).allowed


def test_the_server_refuses_the_password(
    taker: Taker, frail_redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    frail_redis.admin.config_set("requirepass", "right")
    quota = taker.quota(frail_redis.url.replace("//", "//:s3cret@"), timeout_s=30)
    with caplog.at_level(logging.DEBUG):
        assert taker.reason(quota) == "AuthenticationError"
    assert "s3cret" not in caplog.text
    right = taker.quota(frail_redis.url.replace("//", "//:right@"), timeout_s=30)
    assert taker.remaining(right) == 99


def test_the_server_takes_no_more_connections(taker: Taker, frail_redis: RedisProcess, clock: Clock) -> None:
    frail_redis.admin.config_set("maxclients", 1)
    quota = taker.quota(frail_redis.url, clock, timeout_s=30)
    assert taker.reason(quota), "an error reply or a connection reset, whichever is read first"
    frail_redis.admin.config_set("maxclients", 100)
    clock.ms += 1000
    assert taker.remaining(quota) == 99


# -------------------------------------------------------------------------------------------- after a failure


def test_during_an_outage_the_server_is_asked_once_a_pause(taker: Taker, mute: Mute, clock: Clock) -> None:
    quota = taker.quota(mute.url, clock, pause_s=1.0)
    assert taker.reason(quota) == "TimeoutError"
    assert mute.connections() == 1
    for _ in range(20):
        assert taker.reason(quota) == "less than 1 s ago and is not asked yet"
    assert mute.connections() == 0
    for _ in range(3):
        clock.ms += 1000
        assert taker.reason(quota) != "less than 1 s ago and is not asked yet"
        assert taker.reason(quota) == "less than 1 s ago and is not asked yet"


def test_threads_do_not_gather_in_an_outage(mute: Mute, clock: Clock) -> None:
    quota = RedisQuota(mute.url, clock=clock, timeout_s=0.1)
    with ThreadPoolExecutor(16) as threads:

        def fails(_: int) -> bool:
            with pytest.raises(QuotaUnavailableError):
                quota.take(LIMITS)
            return True

        assert all(threads.map(fails, range(500)))
        clock.ms += 1000
        assert all(threads.map(fails, range(500)))
    opening = [thread for thread in threading.enumerate() if thread.name == "turnpike-redis"]
    assert len(opening) <= 4
    for thread in opening:
        thread.join()


def test_the_end_of_an_outage_is_noticed_by_a_connection_that_opens_late(
    taker: Taker, frail_redis: RedisProcess, clock: Clock
) -> None:
    quota = taker.quota(frail_redis.url, clock)
    frail_redis.pause()
    assert taker.reason(quota) == "TimeoutError"
    frail_redis.resume()
    outage = quota._process.threads.outage
    taker.pass_time(outage.may_ask)
    assert taker.take(quota).allowed


def test_an_outage_is_logged_when_it_begins_and_ends_with_each_reason_once(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    outage = Outage("The server", clock, pause_s=1.0)
    outage.answered()
    outage.explain("ConnectionError")
    for _ in range(3):
        outage.failed("TimeoutError")
        outage.explain("SSLCertVerificationError")
    outage.answered()
    outage.answered()
    outage.failed("TimeoutError")
    assert [record.getMessage() for record in caplog.records] == [
        "The server does not answer (TimeoutError); it is asked again every 1 s",
        "The server does not answer (SSLCertVerificationError); it is asked again every 1 s",
        "The server answers again",
        "The server does not answer (TimeoutError); it is asked again every 1 s",
    ]


def test_one_at_a_time_finds_out_whether_the_server_is_back(clock: Clock) -> None:
    outage = Outage("The server", clock, pause_s=1.0)
    assert [outage.may_ask() for _ in range(3)] == [True] * 3
    outage.failed("TimeoutError")
    assert not outage.may_ask()
    clock.ms += 1000
    assert [outage.may_ask() for _ in range(3)] == [True, False, False]
    outage.undecided()
    assert [outage.may_ask() for _ in range(3)] == [True, False, False]
    outage.failed("TimeoutError")
    clock.ms += 999
    assert not outage.may_ask()
    clock.ms += 1
    assert outage.may_ask()
    outage.answered()
    assert [outage.may_ask() for _ in range(3)] == [True] * 3


def test_who_is_cancelled_while_finding_out_leaves_that_to_the_next(mute: Mute, clock: Clock) -> None:
    async def main() -> list[str]:
        quota, reasons = RedisQuota(mute.url, clock=clock, timeout_s=0.1), []
        for is_cancelled in (False, True, False):
            clock.ms += 1000
            task = asyncio.create_task(quota.take_async(LIMITS))
            await asyncio.sleep(0)
            if is_cancelled:
                task.cancel()
            [outcome] = await asyncio.gather(task, return_exceptions=True)
            reasons.append(str(outcome))
        return reasons

    first, cancelled, last = asyncio.run(main())
    assert not cancelled
    assert "TimeoutError" in first
    assert last == first


def test_a_cancelled_take_leaves_the_way_free(frail_redis: RedisProcess, clock: Clock) -> None:
    async def main() -> list[int]:
        quota = RedisQuota(frail_redis.url, clock=clock, timeout_s=30, max_connections=1)
        remaining = [(await quota.take_async(LIMITS)).standings[0].remaining]
        frail_redis.pause()
        for steps in range(4):  # before it is sent, and while it waits
            task = asyncio.create_task(quota.take_async(LIMITS))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        frail_redis.resume()
        remaining.append((await quota.take_async(LIMITS)).standings[0].remaining)
        return remaining

    before, after = asyncio.run(main())
    assert before == 99
    assert 95 <= after <= 98


def test_a_loop_that_was_held_up_takes_the_answer_that_came_meanwhile(redis: RedisProcess, clock: Clock) -> None:
    async def main() -> list[bool]:
        quota = RedisQuota(redis.url, clock=clock, timeout_s=0.3)
        allowed = [(await quota.take_async(LIMITS)).allowed]
        for steps in range(1, 3):
            task = asyncio.create_task(quota.take_async(LIMITS))
            for _ in range(steps):
                await asyncio.sleep(0)
            held_up_until = time.monotonic() + 0.5
            while time.monotonic() < held_up_until:
                pass
            allowed.append((await task).allowed)
        return allowed

    assert asyncio.run(main()) == [True] * 3
