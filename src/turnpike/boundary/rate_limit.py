"""Requests per window per principal, counted exactly over a sliding window, and the headers that announce it.

The limiter never waits, never reads a clock of its own and never counts a request that it refused. Callers pass it
authenticated identities only: what it remembers is bounded by the number of keys times their limits.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from turnpike.settings import RateLimit

__all__ = ["POLICY", "Decision", "MemoryRequestLimiter", "RequestLimiter", "rate_limit_headers"]

POLICY = "default"
"""Name of the one request policy in ``RateLimit`` fields and in ``violated-policies``."""

_SWEPT_PER_REQUEST = 2


@dataclass(frozen=True)
class Decision:
    """What a limiter says about one request.

    Attributes:
        allowed: whether the request may go on; it has been counted if so.
        remaining: further requests that would be allowed now.
        retry_after_s: whole seconds after which a refused request would be allowed; 0 when allowed.
        reset_s: whole seconds until more requests become available.
    """

    allowed: bool
    remaining: int
    retry_after_s: int
    reset_s: int


class RequestLimiter(Protocol):
    """Counts requests. One call checks and counts at once, so that concurrent requests cannot pass together."""

    def admit(self, key: str, limit: RateLimit, now: float) -> Decision:
        """Count a request of ``key`` at ``now`` (monotonic seconds) if ``limit`` allows it, and say so."""
        ...


class MemoryRequestLimiter:
    """Sliding window in this process's memory: at most ``limit.requests`` in any ``limit.window_s`` seconds.

    It keeps eight bytes for each request in a key's window and forgets keys whose windows have run empty. Safe to share
    between threads.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of keys that are remembered."""
        return len(self._windows)

    def admit(self, key: str, limit: RateLimit, now: float) -> Decision:
        """Count a request of ``key`` at ``now`` (monotonic seconds) if ``limit`` allows it, and say so."""
        with self._lock:
            self._sweep(now)
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window()
            return window.admit(limit, now)

    def _sweep(self, now: float) -> None:
        # A few keys on each request, in turn: every idle key is found, and no request pays for all of them.
        for _ in range(min(_SWEPT_PER_REQUEST, len(self._windows))):
            key = next(iter(self._windows))
            if self._windows[key].is_idle(now):
                del self._windows[key]
            else:
                self._windows.move_to_end(key)


class _Window:
    """The times at which one key's requests were allowed, oldest first."""

    __slots__ = ("_gone", "_times", "_window_s")

    def __init__(self) -> None:
        self._times = array("d")
        self._gone = 0
        self._window_s = 0

    def is_idle(self, now: float) -> bool:
        return not self._times or self._times[-1] + self._window_s <= now

    def admit(self, limit: RateLimit, now: float) -> Decision:
        self._window_s = limit.window_s
        if self._times:
            # Two threads may take the lock in the other order than they read the clock.
            now = max(now, self._times[-1])
        self._forget(now)
        counted = len(self._times) - self._gone
        if counted >= limit.requests:
            # Under a limit that was lowered, more than one request has to leave before the next may come.
            wait_s = self._leaves_in_s(counted - limit.requests, now)
            return Decision(False, 0, wait_s, wait_s)
        self._times.append(now)
        return Decision(True, limit.requests - counted - 1, 0, self._leaves_in_s(0, now))

    def _leaves_in_s(self, index: int, now: float) -> int:
        return max(1, math.ceil(self._times[self._gone + index] + self._window_s - now))

    def _forget(self, now: float) -> None:
        times, gone = self._times, self._gone
        while gone < len(times) and times[gone] + self._window_s <= now:
            gone += 1
        if gone * 2 > len(times):
            # Shifting only once half of the array is dead keeps the cost per request constant.
            del times[:gone]
            gone = 0
        self._gone = gone


def rate_limit_headers(limit: RateLimit, decision: Decision) -> dict[str, str]:
    """Render the fields of draft-ietf-httpapi-ratelimit-headers-10, without partition keys."""
    return {
        "RateLimit-Policy": f'"{POLICY}";q={limit.requests};w={limit.window_s}',
        "RateLimit": f'"{POLICY}";r={decision.remaining};t={decision.reset_s}',
    }
