"""The two clocks a gateway reads, as one injectable object.

Durations come from a monotonic clock and stamps from UTC; nothing in the gateway calls ``time`` or ``datetime``
itself, so a test can hold, jump or replay time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock", "utc_stamp"]


class Clock(Protocol):
    """What a gateway asks of time."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never run backwards."""
        ...

    def time(self) -> float:
        """Seconds since the Unix epoch, UTC."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never run backwards."""
        return time.perf_counter()

    def time(self) -> float:
        """Seconds since the Unix epoch, UTC."""
        return time.time()


SYSTEM_CLOCK: Clock = SystemClock()
"""The clock used wherever none is injected."""


def utc_stamp(epoch_s: float) -> str:
    """Format ``epoch_s`` (seconds since the epoch) as ISO 8601 in UTC with microseconds, for ledger lines."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="microseconds")
