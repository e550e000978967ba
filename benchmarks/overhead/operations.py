"""What a subject can be asked to do, and what it must show for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What an application reads from an answer. All of it must be there, or the call does not count."""

    pieces: int
    """Pieces of text that a stream came in; 1 for a call."""
    characters: int
    tokens_in: int | None
    tokens_out: int | None

    def is_whole(self, chunks: int) -> bool:
        """Whether the text and the usage came, in the expected number of pieces."""
        return self.pieces == chunks and self.characters > 0 and bool(self.tokens_in) and bool(self.tokens_out)


@dataclass
class Operations:
    """A subject's four ways of calling; ``None`` for what it does not have. Each takes the number of messages."""

    call: Callable[[int], Awaitable[Answer]] | None = None
    stream: Callable[[int], Awaitable[Answer]] | None = None
    call_sync: Callable[[int], Answer] | None = None
    stream_sync: Callable[[int], Answer] | None = None
    drain: Callable[[int], Coroutine[Any, Any, None]] | None = None
    """Wait until background work for so many calls is done: its CPU belongs to the calls."""


@dataclass(frozen=True)
class Setting:
    """Where a subject finds the server and may write."""

    server: str
    """Address of the simulator, without a path."""
    ledger: str
    """A file of the subject's own."""
    provider: str
    transport: str = "default"
    api: str = "chat"

    @property
    def openai_base_url(self) -> str:
        return f"{self.server}/v1"
