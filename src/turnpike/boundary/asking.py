"""Asking a store that may have to wait: at once in synchronous code, without holding up the event loop elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar

__all__ = ["Question"]

AskedT = TypeVar("AskedT")
AnswerT = TypeVar("AnswerT")


class Question(Generic[AskedT, AnswerT]):
    """One method of a store, asked the way the caller can afford.

    Under an event loop, the store's ``<method>_async`` is awaited where it has one, and a store that says
    ``blocking = True`` is asked in a worker thread. Whatever else answers at once is simply called.
    """

    __slots__ = ("_now", "_waiting")

    def __init__(self, store: Any, method: str) -> None:
        self._now: Callable[[AskedT], AnswerT] = getattr(store, method)
        self._waiting: Callable[[AskedT], Awaitable[AnswerT]] | None = getattr(store, f"{method}_async", None)
        if self._waiting is None and getattr(store, "blocking", False):
            self._waiting = partial(asyncio.to_thread, self._now)

    async def ask(self, what: AskedT, *, may_wait: bool) -> AnswerT:
        """Return the answer. Without ``may_wait`` this never suspends."""
        if may_wait and self._waiting is not None:
            return await self._waiting(what)
        return self._now(what)
