"""A background event loop for providers that can only await, so that synchronous code can use them.

There is one loop for each process, started on first use. A child of a fork starts its own: the parent's thread does not
exist there. Providers with synchronous clients never come here.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

__all__ = ["iterate_in_background", "run_in_background"]


class _LoopThread:
    """The loop of this process and the thread that runs it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop what was inherited over a fork; neither the lock nor the loop of the parent may be touched."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                started = threading.Event()
                loop = asyncio.new_event_loop()
                loop.call_soon(started.set)
                threading.Thread(target=loop.run_forever, name="turnpike-loop", daemon=True).start()
                if not started.wait(10):
                    raise RuntimeError(
                        "The background event loop did not start. Under gevent or a server without threads, give the "
                        "provider complete_sync() and stream_sync()."
                    )
                self._loop = loop
            return self._loop


_thread = _LoopThread()
os.register_at_fork(after_in_child=_thread.forget)


def run_in_background(coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
    """Run ``coroutine`` on the background loop, in a copy of this context, and wait for its result.

    If the waiting thread is interrupted or the time is up, the coroutine is cancelled: an abandoned call would go on
    spending.

    Raises:
        TimeoutError: after ``timeout_s`` seconds.
    """
    loop = _thread.loop()
    context = contextvars.copy_context()

    async def start() -> T:
        return await loop.create_task(coroutine, context=context)

    future = asyncio.run_coroutine_threadsafe(start(), loop)
    try:
        return future.result(timeout_s)
    except BaseException:
        future.cancel()
        raise


def iterate_in_background(iterator: AsyncIterator[T], timeout_s: float | None = None) -> Generator[T, None, None]:
    """Iterate over ``iterator`` on the background loop, one step of at most ``timeout_s`` seconds for each item."""

    async def step() -> tuple[bool, T | None]:
        try:
            return True, await iterator.__anext__()
        except StopAsyncIteration:
            return False, None

    try:
        while True:
            more, item = run_in_background(step(), timeout_s)
            if not more:
                return
            yield item  # type: ignore[misc]
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            run_in_background(close(), timeout_s)
