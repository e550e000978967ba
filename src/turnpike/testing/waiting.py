"""Waiting for what another thread or task does, without sleeping: conditions are looked at whenever something changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

__all__ = ["TIMEOUT_S", "Happenings", "Hold"]

T = TypeVar("T")

TIMEOUT_S = 10.0
"""How long a test waits for something to happen before it fails, in seconds."""


class Happenings:
    """A lock, and those who wait for something that changes under it."""

    def __init__(self) -> None:
        self.lock: AbstractContextManager[bool] = threading.RLock()
        self._waiting: list[tuple[Callable[[], bool], Future[None]]] = []

    def changed(self) -> None:
        """Wake those whose condition holds now. Call it after every change, with or without the lock."""
        with self.lock:
            still_waiting = []
            for condition, future in self._waiting:
                if condition():
                    if future.set_running_or_notify_cancel():
                        future.set_result(None)
                elif not future.cancelled():
                    still_waiting.append((condition, future))
            self._waiting = still_waiting

    def wait(self, condition: Callable[[], bool], what: Callable[[], str], timeout_s: float) -> None:
        """Block until ``condition`` holds.

        Args:
            condition: called under the lock, whenever something has changed.
            what: describes the state for the error.
            timeout_s: how long to wait at most, in seconds.

        Raises:
            TimeoutError: if it still does not hold then.
        """
        future = self._watch(condition)
        try:
            future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"waited {timeout_s:g} s in vain: {what()}") from None

    async def wait_async(self, condition: Callable[[], bool], what: Callable[[], str], timeout_s: float) -> None:
        """Do what ``wait`` does without holding up the event loop."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wrap_future(self._watch(condition))
        except TimeoutError:
            raise TimeoutError(f"waited {timeout_s:g} s in vain: {what()}") from None

    def _watch(self, condition: Callable[[], bool]) -> Future[None]:
        future: Future[None] = Future()
        with self.lock:
            self._waiting.append((condition, future))
            self.changed()
        return future


class Hold(Generic[T]):
    """Lets requests go on step by step, when the test says so: ``with provider.hold() as held``.

    An answer that is not streamed is one step, and so is each chunk of a stream. Leaving the block lets everything go on.
    """

    def __init__(self, happenings: Happenings, timeout_s: float) -> None:
        self._happenings = happenings
        self._timeout_s = timeout_s
        self._held: list[tuple[T, Future[None]]] = []
        self._released: list[Callable[[T], bool]] = []
        self._is_open = False

    @property
    def waiting(self) -> int:
        """How many requests are held just now."""
        with self._happenings.lock:
            return sum(not step.cancelled() for _, step in self._held)

    def wait_for(self, requests: int = 1, timeout_s: float | None = None) -> None:
        """Block until as many requests are held.

        Raises:
            TimeoutError: after ``timeout_s`` seconds.
        """
        self._happenings.wait(*self._reached(requests), self._timeout_s if timeout_s is None else timeout_s)

    async def wait_for_async(self, requests: int = 1, timeout_s: float | None = None) -> None:
        """Do what ``wait_for`` does, in the event loop that the requests need to get there."""
        await self._happenings.wait_async(*self._reached(requests), self._timeout_s if timeout_s is None else timeout_s)

    def _reached(self, requests: int) -> tuple[Callable[[], bool], Callable[[], str]]:
        return lambda: self.waiting >= requests, lambda: f"{self.waiting} of {requests} requests are held"

    def release(self, steps: int = 1, *, of: Callable[[T], bool] | None = None) -> None:
        """Let as many steps happen: of the requests that have waited longest, and then of those to come.

        Args:
            steps: how many.
            of: says of which requests; by default of any.
        """
        with self._happenings.lock:
            self._released += [of or _any] * steps
            self._let_go()

    def open(self) -> None:
        """Hold nothing any more."""
        with self._happenings.lock:
            self._is_open = True
            self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, []
        for request, step in held:
            if not self._may_go(request):
                self._held.append((request, step))
            elif step.set_running_or_notify_cancel():
                self._take(request)
                step.set_result(None)
        self._happenings.changed()

    def _may_go(self, request: T) -> bool:
        return self._is_open or any(allows(request) for allows in self._released)

    def _take(self, request: T) -> None:
        allowing = next((allows for allows in self._released if allows(request)), None)
        if allowing is not None:
            self._released.remove(allowing)

    def _enter(self, request: T) -> Future[None]:
        step: Future[None] = Future()
        with self._happenings.lock:
            self._held.append((request, step))
            self._let_go()
        return step

    def step(self, request: T) -> None:
        """Wait for the next step of ``request``, in a thread."""
        step = self._enter(request)
        try:
            step.result(self._timeout_s)
        except TimeoutError:
            step.cancel()
            raise self._forgotten() from None

    async def step_async(self, request: T) -> None:
        """Wait for the next step of ``request``, in a task."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.wrap_future(self._enter(request))
        except TimeoutError:
            raise self._forgotten() from None

    def _forgotten(self) -> AssertionError:
        return AssertionError(f"a request was held for {self._timeout_s:g} s; the test has not released it")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()


def _any(_request: object) -> bool:
    return True
