"""Counts in this process's memory: every process for itself, nothing after a restart.

One lock is held for the few microseconds of a take, and no take pays for all keys: each looks at a few that may have gone
idle, so that all idle keys are forgotten in time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.control.quota import Limit, Verdict, check_keys
from turnpike.control.sliding_window import SlidingWindow
from turnpike.fork import reset_in_child

__all__ = ["MemoryQuota"]

_SWEPT_PER_LIMIT = 2
"""Keys that are looked at for each that a take may add, so that more are forgotten than come."""


class MemoryQuota:
    """A ``Quota`` within one process, safe to share between threads; the child of a fork begins with no counts.

    Args:
        clock: source of monotonic time.
    """

    blocking: ClassVar[bool] = False

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, SlidingWindow] = OrderedDict()
        self._lock = threading.Lock()
        reset_in_child(self)

    def __len__(self) -> int:
        """Number of keys that are remembered."""
        return len(self._windows)

    def take(self, limits: Sequence[Limit]) -> Verdict:
        """Charge all ``limits`` or none; see ``Quota.take``.

        Raises:
            ValueError: if two limits have the same key.
        """
        check_keys(limits)
        with self._lock:
            now_ms = int(self._clock.monotonic() * 1000)
            self._sweep(_SWEPT_PER_LIMIT * len(limits), now_ms)
            counts = [(self._window(limit.key), limit) for limit in limits]
            allowed = True
            for window, limit in counts:
                # All are asked, not only up to the first refusal: each standing is that of now.
                allowed = window.fits(limit, now_ms) and allowed
            if allowed:
                for window, limit in counts:
                    window.charge(limit, now_ms)
            return Verdict(allowed, tuple([window.standing(limit, now_ms, allowed) for window, limit in counts]))

    def after_fork_in_child(self) -> None:
        """Begin anew: another thread of the parent may have held the lock, with a window half changed."""
        self._lock = threading.Lock()
        self._windows = OrderedDict()

    def _window(self, key: str) -> SlidingWindow:
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = SlidingWindow()
        return window

    def _sweep(self, number: int, now_ms: int) -> None:
        for _ in range(min(number, len(self._windows))):
            key = next(iter(self._windows))
            if self._windows[key].is_idle(now_ms):
                del self._windows[key]
            else:
                self._windows.move_to_end(key)
