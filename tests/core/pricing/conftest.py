"""A book with a clock that stands still, so that no test depends on the day it runs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from turnpike.pricing import PriceBook

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)


class StoppedClock:
    def monotonic(self) -> float:
        return 0.0

    def time(self) -> float:
        return NOW.timestamp()


@pytest.fixture
def book() -> PriceBook:
    return PriceBook(clock=StoppedClock())
