"""Server-sent events before they are put on the wire, and the running count of output tokens behind them."""

from __future__ import annotations

from typing import NamedTuple

from turnpike.testing.simulator.generation import BYTES_PER_TOKEN, tool_call_tokens


class Event(NamedTuple):
    """One SSE event as bytes, its blank line included.

    `output_tokens` is how much had been generated when it was written; `carries_usage` marks the final usage.
    """

    data: bytes
    output_tokens: int
    carries_usage: bool = False


class TokenCount:
    """Output tokens generated so far; a text's pieces add up to the tokens of the whole text."""

    def __init__(self, start: int = 0) -> None:
        self._done = start
        self._bytes = 0

    @property
    def total(self) -> int:
        """Tokens so far."""
        return self._done + (self._bytes + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN

    def text(self, chunk: str) -> int:
        """Add a piece of the running text; returns the total."""
        self._bytes += len(chunk) if chunk.isascii() else len(chunk.encode())
        return self.total

    def end_text(self) -> None:
        """The running text is over; the next one is rounded up by itself."""
        self._done, self._bytes = self.total, 0

    def tool_call(self, call: tuple[str, str, str]) -> int:
        """Add a whole tool call; returns the total."""
        self._done += tool_call_tokens(call)
        return self.total
