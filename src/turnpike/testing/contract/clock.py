"""A clock that stands still until a case moves it, so that windows pass without waiting."""

from __future__ import annotations

__all__ = ["HandClock"]


class HandClock:
    """A clock that only the case moves."""

    def __init__(self) -> None:
        self.now_s: float = 1_000.0

    def monotonic(self) -> float:
        """Seconds that only ``advance`` adds to."""
        return self.now_s

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return 1_700_000_000.0 + self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
