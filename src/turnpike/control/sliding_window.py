"""What one limit has let pass within its window, in a few numbers whatever the cap.

What passes within a sixtieth of the window is kept as one segment, and a segment leaves when its youngest part does. So
there is never more than the cap in any window, at most 61 segments are kept, and a part of the count leaves late, by less
than a sixtieth of the window; what passes further apart than that is counted exactly. ``redis_quota.lua`` is the same in
Lua.
"""

from __future__ import annotations

from collections import deque

from turnpike.control.quota import Limit, Standing, standing

__all__ = ["SEGMENTS_PER_WINDOW", "SlidingWindow"]

SEGMENTS_PER_WINDOW = 60

_START, _LAST, _AMOUNT = 0, 1, 2


class SlidingWindow:
    """The count of one limit. Not safe between threads."""

    __slots__ = ("_count", "_segments", "_window_ms")

    def __init__(self) -> None:
        self._segments: deque[list[int]] = deque()
        self._count = 0
        self._window_ms = 0

    def __len__(self) -> int:
        """Number of segments that are kept."""
        return len(self._segments)

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing is left in the window, by the limit that was looked at last."""
        return not self._segments or self._segments[-1][_LAST] + self._window_ms <= now_ms

    def fits(self, limit: Limit, now_ms: int) -> bool:
        """Let go of what has left the window by ``now_ms``, and say whether the limit's amount would pass."""
        self._window_ms = limit.window_s * 1000
        self._turn_back(now_ms)
        segments, gone_ms = self._segments, now_ms - self._window_ms
        while segments and segments[0][_LAST] <= gone_ms:
            self._count -= segments.popleft()[_AMOUNT]
        return self._count + limit.amount <= limit.cap

    def charge(self, limit: Limit, now_ms: int) -> None:
        """Count the limit's amount at ``now_ms``, for which ``fits`` has been asked."""
        slot_ms = -(-self._window_ms // SEGMENTS_PER_WINDOW)
        self._count += limit.amount
        if self._segments and now_ms - self._segments[-1][_START] < slot_ms:
            newest = self._segments[-1]
            newest[_LAST] = now_ms
            newest[_AMOUNT] += limit.amount
        else:
            self._segments.append([now_ms, now_ms, limit.amount])

    def standing(self, limit: Limit, now_ms: int, allowed: bool) -> Standing:
        """Say how the limit stands at ``now_ms``, after a decision over all limits."""
        left = limit.cap - self._count
        wait_ms = 0
        if not allowed and limit.amount > left:
            wait_ms = self._window_ms if limit.amount > limit.cap else self._freed_in_ms(limit.amount - left, now_ms)
        # Under a cap that was lowered, more than one segment may have to leave before anything becomes available.
        reset_ms = self._freed_in_ms(max(1, 1 - left), now_ms) if self._count else 0
        return standing(limit, max(0, left), reset_ms, wait_ms)

    def _freed_in_ms(self, wanted: int, now_ms: int) -> int:
        leaves_ms = now_ms
        for segment in self._segments:
            wanted -= segment[_AMOUNT]
            leaves_ms = segment[_LAST] + self._window_ms
            if wanted <= 0:
                break
        return leaves_ms - now_ms

    def _turn_back(self, now_ms: int) -> None:
        """Where the clock went back, go back with it: nothing leaves early, and nothing waits for the clock to catch up."""
        if self._segments and now_ms < self._segments[-1][_LAST]:
            back_ms = self._segments[-1][_LAST] - now_ms
            for segment in self._segments:
                segment[_START] -= back_ms
                segment[_LAST] -= back_ms
