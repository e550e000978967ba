"""Counting in this process: between threads, after forks, and without remembering keys for ever."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

from turnpike.control.memory_quota import MemoryQuota
from turnpike.control.quota import Limit

from .conftest import Clock


def limit(key: str, cap: int = 2, window_s: int = 10) -> Limit:
    return Limit(key, "default", cap, window_s)


def test_threads_together_get_exactly_the_cap(clock: Clock) -> None:
    quota, limits = MemoryQuota(clock), [limit("a", 100), limit("b", 150)]
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            allowed = list(threads.map(lambda _: quota.take(limits).allowed, range(400)))
    finally:
        sys.setswitchinterval(switch_interval)
    assert sum(allowed) == 100
    assert quota.take([limit("b", 150)]).standings[0].remaining == 49


def test_keys_that_have_been_idle_for_their_window_are_forgotten(clock: Clock) -> None:
    quota = MemoryQuota(clock)
    for number in range(1000):
        quota.take([limit(f"key-{number}"), limit(f"tenant-{number}")])
    clock.ms += 10_000
    for _ in range(1100):
        quota.take([limit("busy")])
    assert len(quota) == 1


def test_keys_are_forgotten_faster_than_they_come(clock: Clock) -> None:
    quota = MemoryQuota(clock)
    for number in range(5000):
        clock.ms += 125
        quota.take([limit(f"key-{number}")])
    assert len(quota) <= 2 * 10 * 8


def test_keys_within_their_window_are_not_forgotten_for_others(clock: Clock) -> None:
    quota, hourly = MemoryQuota(clock), limit("slow", 1, 3600)
    quota.take([hourly])
    for number in range(500):
        clock.ms += 1000
        quota.take([limit(f"key-{number}")])
    assert not quota.take([hourly]).allowed


def test_a_child_of_a_fork_counts_for_itself_although_a_thread_of_its_parent_held_the_lock() -> None:
    code = """
        import os
        from turnpike.control.memory_quota import MemoryQuota
        from turnpike.control.quota import Limit

        quota, limits = MemoryQuota(), [Limit("acme", "default", 2, 60)]
        quota.take(limits)
        with quota._lock:
            child = os.fork()
            if child == 0:
                remaining = [quota.take(limits).standings[0].remaining for _ in range(2)]
                os._exit(0 if remaining == [1, 0] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert quota.take(limits).standings[0].remaining == 0
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], check=True, timeout=60)
