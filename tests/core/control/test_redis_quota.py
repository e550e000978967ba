"""Counting in Redis: one count for all threads, processes and event loops, and no connection that is shared over a fork."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import json
import os
import subprocess
import sys
import textwrap
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from turnpike.control.loop_connections import LoopConnections
from turnpike.control.quota import Limit
from turnpike.control.redis_quota import KEY_PREFIX, RedisQuota
from turnpike.errors import ConfigurationError, MissingExtraError, SettingsError
from turnpike.secret import Secret

from .redis_process import RedisProcess

pytest.importorskip("redis", reason="needs redis: install turnpike[redis]")

HUNDRED = [Limit("acme", "default", 100, 3600)]
LONG_S = 30.0
"""A timeout for tests that are about counting, on machines however slow."""


def run(code: str, *arguments: str) -> list[Any]:
    """Run ``code`` in an interpreter of its own, and return the JSON lines that it prints."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    # Not in development mode, where asyncio reports every step that a busy machine holds up.
    environment = {**os.environ, "PYTHONDEVMODE": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_threads_together_get_exactly_the_cap(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=LONG_S, max_connections=4)
    with ThreadPoolExecutor(16) as threads:
        allowed = list(threads.map(lambda _: quota.take(HUNDRED).allowed, range(300)))
    quota.close()
    assert sum(allowed) == 100


def test_tasks_together_get_exactly_the_cap(redis: RedisProcess) -> None:
    async def main() -> int:
        quota = RedisQuota(redis.url, timeout_s=LONG_S, max_connections=4)
        verdicts = await asyncio.gather(*[quota.take_async(HUNDRED) for _ in range(300)])
        return sum(verdict.allowed for verdict in verdicts)

    assert asyncio.run(main()) == 100


def test_a_burst_is_counted_to_the_last_request_although_it_takes_longer_than_the_timeout(
    redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = LoopConnections.ask

    async def slowly(self: LoopConnections, *arguments: Any) -> Any:
        await asyncio.sleep(0.01)
        return await at_once(self, *arguments)

    async def main() -> tuple[list[bool], float]:
        quota = RedisQuota(redis.url, timeout_s=0.5, max_connections=1)
        began_s = time.monotonic()
        verdicts = await asyncio.gather(*[quota.take_async(HUNDRED) for _ in range(120)])
        return [verdict.allowed for verdict in verdicts], time.monotonic() - began_s

    monkeypatch.setattr(LoopConnections, "ask", slowly)
    allowed, took_s = asyncio.run(main())
    assert took_s > 2 * 0.5
    assert (len(allowed), sum(allowed)) == (120, 100)


def test_processes_together_get_exactly_the_cap(redis: RedisProcess) -> None:
    code = f"""
        import asyncio, json, os, sys, warnings
        from turnpike.control.quota import Limit
        from turnpike.control.redis_quota import RedisQuota

        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        quota, limits = RedisQuota(sys.argv[1], timeout_s={LONG_S}), [Limit("acme", "default", 400, 3600)]
        quota.take(limits)
        begin, go = os.pipe()
        pipes, children = [], []
        for number in range(6):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(go)
                os.read(begin, 1)  # all at once: end of file when the parent closes its end
                async def tasks():
                    return [(await quota.take_async(limits)).allowed for _ in range(100)]
                allowed = asyncio.run(tasks()) if number % 2 else [quota.take(limits).allowed for _ in range(100)]
                os.write(writer, json.dumps(sum(allowed)).encode())
                os._exit(0)
            os.close(writer)
            pipes.append(reader)
            children.append(child)
        os.close(go)
        for reader, child in zip(pipes, children):
            with os.fdopen(reader) as pipe:
                print(pipe.read())
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    counts = run(code, redis.url)
    assert len(counts) == 6
    assert 1 + sum(counts) == 400


def test_a_fork_leaves_the_parents_connections_as_they_are(redis: RedisProcess) -> None:
    before = redis.connections()
    code = f"""
        import asyncio, gc, json, os, sys, warnings
        from turnpike.control.quota import Limit
        from turnpike.control.redis_quota import RedisQuota

        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        quota, limits = RedisQuota(sys.argv[1], timeout_s={LONG_S}), [Limit("acme", "default", 100, 3600)]

        async def main():
            remaining = [quota.take(limits).standings[0].remaining]
            remaining.append((await quota.take_async(limits)).standings[0].remaining)
            child = os.fork()
            if child == 0:
                async def in_child():
                    quota.take(limits)
                    await quota.take_async(limits)
                    gc.collect()  # in a running loop, where redis-py's finalizer closes what it finds
                asyncio.run(in_child())
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            remaining.append((await quota.take_async(limits)).standings[0].remaining)
            remaining.append(quota.take(limits).standings[0].remaining)
            await quota.aclose()
            return remaining

        print(json.dumps(asyncio.run(main())))
    """
    assert run(code, redis.url) == [[99, 98, 95, 94]]
    assert redis.connections() - before == 4, "two of the parent, used before and after the fork, and two of the child"


def test_a_second_event_loop_has_connections_of_its_own_and_the_first_leaves_none_behind(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=LONG_S)

    async def remaining() -> tuple[int, weakref.ref[Any]]:
        verdict = await quota.take_async(HUNDRED)
        return verdict.standings[0].remaining, weakref.ref(asyncio.get_running_loop())

    found = [asyncio.run(remaining()) for _ in range(3)]
    gc.collect()
    assert [count for count, _ in found] == [99, 98, 97]
    assert [loop() for _, loop in found] == [None] * 3
    assert len(redis.admin.client_list()) == 1, "only the tests' own"


def test_loops_in_several_threads_share_one_quota(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=LONG_S)

    async def tasks() -> int:
        verdicts = await asyncio.gather(*[quota.take_async(HUNDRED) for _ in range(50)])
        return sum(verdict.allowed for verdict in verdicts)

    with ThreadPoolExecutor(4) as threads:
        allowed = list(threads.map(lambda _: asyncio.run(tasks()), range(4)))
    assert sum(allowed) == 100


def test_threads_and_loops_open_no_more_connections_than_they_may(redis: RedisProcess) -> None:
    quota, before = RedisQuota(redis.url, timeout_s=LONG_S, max_connections=3), redis.connections()

    async def tasks() -> None:
        await asyncio.gather(*[quota.take_async(HUNDRED) for _ in range(100)])

    asyncio.run(tasks())
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda _: quota.take(HUNDRED), range(100)))
    quota.close()
    assert redis.connections() - before <= 6


def test_connections_are_opened_outside_of_the_requests_context(redis: RedisProcess) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    quota = RedisQuota(redis.url, timeout_s=LONG_S)
    seen: list[str] = []

    async def main() -> None:
        tenant.set("acme")
        connect = quota._server.loop_connection

        def spied() -> Any:
            seen.append(tenant.get())
            return connect()

        quota._server.loop_connection = spied  # type: ignore[method-assign]
        await quota.take_async(HUNDRED)

    asyncio.run(main())
    assert seen == ["nobody"]


def test_a_take_is_one_command_on_one_connection(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=LONG_S)
    quota.take(HUNDRED)
    redis.admin.config_resetstat()
    connections = redis.connections()
    for _ in range(5):
        quota.take([*HUNDRED, Limit("acme/chat", "chat", 10, 60)])
    stats = redis.admin.info("commandstats")
    quota.close()
    assert stats["cmdstat_evalsha"]["calls"] == 5
    assert not {"cmdstat_eval", "cmdstat_script|load", "cmdstat_ping"} & set(stats)
    assert redis.connections() == connections


def test_the_time_is_the_servers_own(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=LONG_S)
    before = redis.admin.time()
    quota.take(HUNDRED)
    after = redis.admin.time()
    quota.close()
    written_ms = msgspec.msgpack.decode(redis.admin.get(KEY_PREFIX + "acme"))[0]
    assert before[0] * 1000 + before[1] // 1000 <= written_ms <= after[0] * 1000 + after[1] // 1000


def test_keys_are_forgotten_by_the_server_after_their_window(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=LONG_S)
    quota.take([*HUNDRED, Limit("acme/chat", "chat", 10, 60)])
    quota.close()
    assert sorted(redis.admin.keys()) == [b"turnpike:quota:acme", b"turnpike:quota:acme/chat"]
    assert 3500_000 < redis.admin.pttl("turnpike:quota:acme") <= 3600_000
    assert 50_000 < redis.admin.pttl("turnpike:quota:acme/chat") <= 60_000


def test_the_script_is_loaded_again_where_the_server_has_lost_it(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=LONG_S)
    remaining = [quota.take(HUNDRED).standings[0].remaining]
    redis.admin.script_flush()
    remaining += [quota.take(HUNDRED).standings[0].remaining for _ in range(2)]
    redis.admin.script_flush()

    async def main() -> int:
        return (await quota.take_async(HUNDRED)).standings[0].remaining

    remaining.append(asyncio.run(main()))
    quota.close()
    assert remaining == [99, 98, 97, 96]


def test_a_take_shortens_the_timeout_of_its_connection(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=0.9)
    quota.take(HUNDRED)
    [connection] = quota._process.threads._take_all_idle()
    assert 0 < connection._sock.gettimeout() <= 0.9, "redis-py still keeps the socket there"
    connection.disconnect()


def test_closed_connections_are_opened_again_when_needed(redis: RedisProcess) -> None:
    quota = RedisQuota(redis.url, timeout_s=LONG_S)
    quota.take(HUNDRED)
    quota.close()
    assert len(redis.admin.client_list()) == 1
    assert quota.take(HUNDRED).standings[0].remaining == 98
    quota.close()


def test_a_quota_without_a_connection_is_closed_without_opening_one(redis: RedisProcess) -> None:
    before = redis.connections()
    asyncio.run(RedisQuota(redis.url).aclose())
    RedisQuota(redis.url).close()
    assert redis.connections() == before


# ----------------------------------------------------------------------------------------------------- set-up


def test_without_redis_py_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("redis", "redis.asyncio", "redis.asyncio.connection", "redis.connection", "redis.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"Counting requests in Redis .* pip install 'turnpike\[redis\]'"):
        RedisQuota("redis://localhost")


def test_redis_py_is_imported_only_when_a_quota_is_made() -> None:
    code = "import sys, turnpike.control.redis_quota; print('redis' in sys.modules or 'null')"
    assert run(code) == [None]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://s3cret@localhost",
        "redis://:s3cret@localhost:port",
        "redis://:s3cret@localhost?no_such_option=1",
        "redis://:s3cret@localhost?db=first",
        "rediss://:s3cret@localhost?ssl_cert_reqs=s3cret",
    ],
)
def test_a_wrong_address_is_an_error_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(SettingsError, match="write redis_url as redis://") as caught:
        RedisQuota(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"timeout_s": 0}, {"timeout_s": float("inf")}, {"pause_s": -1}, {"max_connections": 0}]
)
def test_wrong_figures_are_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="timeout_s above 0"):
        RedisQuota("redis://localhost", **wrong)


@pytest.mark.parametrize("url", ["redis://who:s3cret@localhost:1/0", Secret("redis://who:s3cret@localhost:1/0")])
def test_the_password_shows_nowhere(url: str | Secret) -> None:
    quota = RedisQuota(url)
    for shown in (repr(quota), repr(vars(quota)), repr(vars(quota._server)), repr(vars(quota._process))):
        assert "s3cret" not in shown
    with pytest.raises(TypeError):
        copy.deepcopy(quota)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_options_in_the_address_do_not_undo_the_bounds(scheme: str) -> None:
    address = (
        f"{scheme}://localhost/3?socket_timeout=60&socket_connect_timeout=60&retry_on_timeout=yes&retry_on_error=x"
    )
    server = RedisQuota(address + "&health_check_interval=9&protocol=3&max_connections=7&timeout=20")._server
    for connection, timeout_s in ((server.thread_connection(), 1.0), (server.loop_connection(), None)):
        assert connection.socket_timeout == timeout_s
        assert connection.socket_connect_timeout == 1.0
        assert connection.retry._retries == 0
        assert connection.health_check_interval == 0
        assert int(connection.protocol) == 2
        assert connection.db == 3


def test_connections_of_event_loops_share_what_takes_long_to_set_up_for_tls() -> None:
    server = RedisQuota("rediss://localhost")._server
    first, second = server.loop_connection(), server.loop_connection()
    assert first is not second
    assert first.ssl_context.get() is second.ssl_context.get()
