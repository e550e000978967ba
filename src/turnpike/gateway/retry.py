"""When to try a failed request again, and how long to wait first. Pure functions: time and chance are passed in."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["MAX_BACKOFF_S", "next_delay_s", "parse_retry_after"]

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0
"""Longest wait of our own choosing; a provider's ``Retry-After`` may ask for more, within the deadline."""


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that ``retry-after-ms`` or ``Retry-After`` ask for, or ``None`` if they say nothing usable.

    Both forms of RFC 9110 are read: seconds and an HTTP date. NaN, infinities, negative numbers and nonsense are ``None``.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def next_delay_s(failures: int, retry_after_s: float | None, remaining_s: float, rng: random.Random) -> float | None:
    """Return how long to wait before the next attempt, or ``None`` if there is no time for one.

    Without a word from the provider the wait doubles from half a second, capped, of which a random half is
    left out so that callers that failed together do not come back together. A ``Retry-After`` is honoured to the letter.

    Args:
        failures: attempts that have failed so far, at least 1.
        retry_after_s: what the provider asked for.
        remaining_s: time left of the call's deadline.
        rng: source of the jitter.
    """
    if retry_after_s is not None:
        delay = retry_after_s
    else:
        ceiling = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 1, 10))
        delay = ceiling * (0.5 + 0.5 * rng.random())
    return delay if delay < remaining_s else None
