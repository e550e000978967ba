"""When a store may be asked again after it failed.

While a store is down, one request a pause finds out whether it is back and the others are told at once, so that an outage
neither slows the service down nor gathers threads that wait.
"""

from __future__ import annotations

import logging
import threading

from turnpike.clock import Clock

__all__ = ["Outage", "reason_of"]

_LOG = logging.getLogger(__name__)


class Outage:
    """Whether one store is down, as one process knows it. Safe to share between threads.

    Args:
        what: the store's name in the log.
        clock: source of monotonic time.
        pause_s: how long the store is left alone after a failure.
    """

    def __init__(self, what: str, clock: Clock, pause_s: float) -> None:
        self._what = what
        self._clock = clock
        self._pause_s = pause_s
        self._is_down = False
        self._ask_at = 0.0
        self._is_asked = False
        self._reasons: set[str] = set()
        self._lock = threading.Lock()

    def may_ask(self) -> bool:
        """Whether the store may be asked now. Whoever is let through says afterwards what came of it."""
        if not self._is_down:
            return True
        with self._lock:
            if self._is_down and (self._is_asked or self._clock.monotonic() < self._ask_at):
                return False
            self._is_asked = self._is_down
            return True

    def answered(self) -> None:
        """The store answered."""
        if not self._is_down:
            return
        with self._lock:
            was_down, self._is_down, self._is_asked = self._is_down, False, False
            self._reasons.clear()
        if was_down:
            _LOG.warning("%s answers again", self._what)

    def failed(self, reason: str) -> None:
        """The store did not answer, for ``reason``."""
        with self._lock:
            self._is_down, self._is_asked = True, False
            self._ask_at = self._clock.monotonic() + self._pause_s
        self.explain(reason)

    def explain(self, reason: str) -> None:
        """Log ``reason``, each once an outage: the one that says most may come last."""
        with self._lock:
            is_new = self._is_down and reason not in self._reasons
            self._reasons.add(reason)
        if is_new:
            _LOG.warning("%s does not answer (%s); it is asked again every %g s", self._what, reason, self._pause_s)

    def undecided(self) -> None:
        """Whoever asked the store went away before it answered."""
        with self._lock:
            self._is_asked = False


def reason_of(error: BaseException) -> str:
    """Name the kind of ``error``, or of the system's error behind it. Its text may hold addresses, so it is left out."""
    behind = error.__cause__ or error.__context__
    # A timeout says no more than the client's own name for it.
    is_telling = isinstance(behind, OSError) and not isinstance(behind, TimeoutError)
    return type(behind if is_telling else error).__name__
