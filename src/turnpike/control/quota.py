"""What a limit is and what a quota answers: how much of each limit is left, and how long to wait.

Every store gives the same answers at the same times. Keys name authenticated identities only, for a store remembers each
key for a window: whoever could make keys up could fill its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

__all__ = ["MAX_AMOUNT", "Limit", "Quota", "Standing", "Unit", "Verdict", "check_keys", "standing"]

MAX_AMOUNT = 2**52
"""Largest cap and amount. Sums of two of them are exact in the doubles that Lua in Redis counts with."""

MAX_WINDOW_S = 366 * 86_400
MAX_KEY_LENGTH = 1024


class Unit(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``cap`` in any ``window_s`` seconds, and how much of it is asked for now.

    Attributes:
        key: what is counted together, such as the requests of one API key; it is the same in every process.
        name: what clients see in ``RateLimit`` fields.
        cap: how much may pass in a window.
        window_s: length of the window in seconds.
        unit: what is counted.
        amount: how much is asked for.

    Raises:
        ValueError: if a figure is not an integer, is below 1 or is too large.
    """

    key: str
    name: str
    cap: int
    window_s: int
    unit: Unit = Unit.REQUESTS
    amount: int = 1

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= MAX_KEY_LENGTH:
            raise ValueError(f"the key of limit '{self.name}' must have 1 to {MAX_KEY_LENGTH} characters")
        _check_range(self, "cap", self.cap, MAX_AMOUNT)
        _check_range(self, "window_s", self.window_s, MAX_WINDOW_S)
        _check_range(self, "amount", self.amount, MAX_AMOUNT)


def _check_range(limit: Limit, field: str, value: int, greatest: int) -> None:
    # A float or a bool would be counted differently by each store.
    if type(value) is not int or not 1 <= value <= greatest:
        raise ValueError(f"{field} of limit '{limit.name}' must be an integer from 1 to {greatest}; got {value!r}")


@dataclass(frozen=True, slots=True)
class Standing:
    """How one limit stands after the decision.

    Attributes:
        limit: the limit.
        remaining: how much more would pass now.
        reset_s: whole seconds, rounded up, until more becomes available; 0 if nothing is counted.
        wait_s: whole seconds, rounded up, until this limit lets the same amount pass if nothing else comes before; 0 if it
            does so now. An amount above the cap never passes, and its wait is the window.
    """

    limit: Limit
    remaining: int
    reset_s: int
    wait_s: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision over all limits of a request.

    Attributes:
        allowed: whether every limit lets the request pass. If so, all of them are charged, otherwise none.
        standings: how the limits stand now, in the order in which they were given.
    """

    allowed: bool
    standings: tuple[Standing, ...]


class Quota(Protocol):
    """Counts against limits.

    A quota that does I/O says so with an attribute ``blocking = True`` and may offer ``async def take_async(limits)``,
    which is then used under an event loop; without it ``take`` runs in a thread there.
    """

    def take(self, limits: Sequence[Limit]) -> Verdict:
        """Charge all ``limits`` if each lets its amount pass, and none otherwise, in one step.

        Args:
            limits: what to charge; no two of them with the same key.

        Raises:
            QuotaUnavailableError: if the store does not answer.
            ValueError: if two limits have the same key.
        """
        ...


def check_keys(limits: Sequence[Limit]) -> None:
    """Refuse limits that would be charged to one count twice.

    Raises:
        ValueError: if two of them have the same key.
    """
    if len(limits) > 1 and len({limit.key for limit in limits}) != len(limits):
        names = ", ".join(f"'{limit.name}'" for limit in limits)
        raise ValueError(f"two of the limits {names} have the same key: give each a key of its own")


def standing(limit: Limit, remaining: int, reset_ms: int, wait_ms: int) -> Standing:
    """Make a ``Standing`` of a store's figures, in milliseconds."""
    return Standing(limit, remaining, -(-reset_ms // 1000), -(-wait_ms // 1000))
