"""What counting a request costs, and what it costs while Redis is down.

    python benchmarks/quota_cost.py [--takes 3000] [--outage-s 4]

Needs redis-server on the path and `turnpike[redis]`. The first table is the cost of a take where all is well; the second
the time that takes add to requests through an outage of each kind, with its end of the line: the slowest of all. Outages
begin with open connections (stopped) or with none (the others), and requests come every two milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from turnpike.control.memory_quota import MemoryQuota
from turnpike.control.quota import Limit, Quota
from turnpike.control.redis_quota import RedisQuota
from turnpike.errors import QuotaUnavailableError

CAP = 10**9
ONE = [Limit("key/acme", "default", CAP, 60)]
THREE = [*ONE, Limit("tenant/acme", "tenant", CAP, 60), Limit("chat/acme", "chat", CAP, 3600)]
_PAUSE_S = 0.002


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[str, int]]:
    """A server's address and process id."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("needs redis-server: install Debian's redis-server package")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--save", "", "--dir", folder, "--logfile", ""]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        next(line for line in process.stdout if "Ready to accept connections" in line)
        try:
            yield f"redis://127.0.0.1:{port}/0", process.pid
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@contextlib.contextmanager
def stopped() -> Iterator[tuple[str, Callable[[], None]]]:
    with redis_server() as (url, pid):
        yield url, lambda: os.kill(pid, signal.SIGSTOP)


@contextlib.contextmanager
def refused() -> Iterator[tuple[str, Callable[[], None]]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"redis://127.0.0.1:{port}/0", lambda: None


@contextlib.contextmanager
def mute() -> Iterator[tuple[str, Callable[[], None]]]:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", lambda: None


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, Callable[[], None]]]:
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", lambda: None


OUTAGES = {
    "stopped (SIGSTOP)": stopped,
    "refused": refused,
    "accepted, never answered": mute,
    "packets dropped": black_hole,
}


def timed(quota: Quota, limits: list[Limit], times: list[float], *, fails: bool = False) -> None:
    began = time.perf_counter()
    with contextlib.suppress(QuotaUnavailableError) if fails else contextlib.nullcontext():
        quota.take(limits)
    times.append(time.perf_counter() - began)


async def timed_async(quota: RedisQuota, limits: list[Limit], times: list[float], *, fails: bool = False) -> None:
    began = time.perf_counter()
    with contextlib.suppress(QuotaUnavailableError) if fails else contextlib.nullcontext():
        await quota.take_async(limits)
    times.append(time.perf_counter() - began)


def run_async(quota: RedisQuota, limits: list[Limit], takes: int) -> list[float]:
    async def main() -> list[float]:
        times: list[float] = []
        for _ in range(takes):
            await timed_async(quota, limits, times)
        return times

    return asyncio.run(main())


def print_costs(takes: int) -> None:
    print("| a take, in µs | median | least |\n|---|--:|--:|")

    def row(label: str, times: list[float]) -> None:
        print(f"| {label} | {statistics.median(times) * 1e6:.1f} | {min(times) * 1e6:.1f} |")

    for label, limits in (("1 limit", ONE), ("3 limits", THREE)):
        memory, times = MemoryQuota(), []
        for _ in range(takes * 10):
            timed(memory, limits, times)
        row(f"memory, {label}", times)
    with redis_server() as (url, _):
        quota = RedisQuota(url, timeout_s=5)  # a busy machine is no outage here
        times = []
        import redis

        client = redis.Redis.from_url(url, protocol=2)
        for _ in range(takes):
            began = time.perf_counter()
            client.get("nothing")
            times.append(time.perf_counter() - began)
        client.close()
        row("redis-py's own client, one GET, for comparison", times)
        for label, limits in (("1 limit", ONE), ("3 limits", THREE)):
            times = []
            for _ in range(takes):
                timed(quota, limits, times)
            row(f"Redis, {label}, threads", times)
            row(f"Redis, {label}, event loop", run_async(quota, limits, takes))
        quota.close()


def outage_of_threads(quota: RedisQuota, fail: Callable[[], None], lasts_s: float) -> list[float]:
    times: list[float] = []
    timed(quota, ONE, [], fails=True)
    fail()
    ends = time.monotonic() + lasts_s
    while time.monotonic() < ends:
        timed(quota, ONE, times, fails=True)
        time.sleep(_PAUSE_S)
    quota.close()
    return times


def outage_of_loop(quota: RedisQuota, fail: Callable[[], None], lasts_s: float) -> list[float]:
    async def main() -> list[float]:
        times: list[float] = []
        await timed_async(quota, ONE, [], fails=True)
        fail()
        ends, requests = time.monotonic() + lasts_s, set()
        while time.monotonic() < ends:
            requests.add(asyncio.create_task(timed_async(quota, ONE, times, fails=True)))
            await asyncio.sleep(_PAUSE_S)
        await asyncio.gather(*requests)
        return times

    return asyncio.run(main())


def print_outages(lasts_s: float) -> None:
    print("\n| the server is, for a client in | takes | over 1 ms | median µs | slowest ms |\n|---|--:|--:|--:|--:|")
    for label, begin in OUTAGES.items():
        for where, measure in (("threads", outage_of_threads), ("an event loop", outage_of_loop)):
            with begin() as (url, fail):
                times = measure(RedisQuota(url), fail, lasts_s)
            slow = sum(seconds > 0.001 for seconds in times)
            median, slowest = statistics.median(times) * 1e6, max(times) * 1e3
            print(f"| {label}, {where} | {len(times)} | {slow} | {median:.1f} | {slowest:.1f} |")
    print(
        f"\nA wait of 50 ms for nothing at all took up to {longest_wait_ms(lasts_s):.1f} ms on this machine meanwhile."
    )


def longest_wait_ms(lasts_s: float) -> float:
    """The machine's own share in the slowest takes: how late it wakes who waits as long as a take does."""
    longest, nothing = 0.0, threading.Event()
    for _ in range(int(lasts_s / 0.05) * len(OUTAGES)):
        began = time.perf_counter()
        nothing.wait(0.05)
        longest = max(longest, time.perf_counter() - began)
    return longest * 1e3


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--takes", type=int, default=3000)
    parser.add_argument("--outage-s", type=float, default=4.0)
    arguments = parser.parse_args()
    print_costs(arguments.takes)
    print_outages(arguments.outage_s)


if __name__ == "__main__":
    main()
