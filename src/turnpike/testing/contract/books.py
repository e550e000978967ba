"""The ledger of a case: a sink that keeps lines in memory, reads them back as envelopes and can be waited for."""

from __future__ import annotations

import json

from turnpike.envelope import LLMRequestEnvelope
from turnpike.testing.waiting import TIMEOUT_S, Happenings

__all__ = ["Books"]


class Books:
    """A ``LineSink`` in memory."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._happenings = Happenings()
        self._envelopes: list[LLMRequestEnvelope] = []
        self._timeout_s = timeout_s

    def check(self) -> None:
        """Do nothing: there is always room in memory."""

    def append(self, line: bytes) -> bool:
        """Keep a line."""
        envelope = LLMRequestEnvelope.from_dict(json.loads(line))
        with self._happenings.lock:
            self._envelopes.append(envelope)
        self._happenings.changed()
        return True

    def clear(self) -> None:
        """Begin anew."""
        with self._happenings.lock:
            self._envelopes.clear()

    @property
    def envelopes(self) -> tuple[LLMRequestEnvelope, ...]:
        """The envelopes so far, oldest first."""
        with self._happenings.lock:
            return tuple(self._envelopes)

    def wait_for(self, number: int = 1, timeout_s: float | None = None) -> tuple[LLMRequestEnvelope, ...]:
        """Block until as many envelopes are written, and return all that are.

        Raises:
            TimeoutError: after ``timeout_s`` seconds.
        """
        self._happenings.wait(
            lambda: len(self._envelopes) >= number,
            lambda: f"{len(self._envelopes)} of {number} envelopes are written",
            self._timeout_s if timeout_s is None else timeout_s,
        )
        return self.envelopes
