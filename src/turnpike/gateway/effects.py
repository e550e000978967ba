"""What a call may ask of the world, once for code that awaits and once for code that blocks.

The pipeline is written once as coroutines over ``Effects``. ``AsyncEffects`` awaits; ``SyncEffects`` is awaitable in form
and never suspends, so that ``run_sync`` can drive the same coroutine to its end without an event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, closing, nullcontext
from typing import Any, Protocol, TypeVar

from turnpike.gateway.background_loop import iterate_in_background, run_in_background
from turnpike.gateway.provider_base import ProviderBase, ProviderResponse, WireProvider, WireRequest, WireResponse
from turnpike.gateway.request_body import ChatRequest

T = TypeVar("T")

__all__ = ["AsyncEffects", "Effects", "SyncEffects", "in_event_loop", "run_sync"]


class Effects(Protocol):
    """The world, as far as a call may touch it."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def deadline(self, timeout_s: float) -> AbstractAsyncContextManager[Any]:
        """Bound the block: ``TimeoutError`` after ``timeout_s`` seconds, as far as the driver can interrupt."""
        ...

    async def send(self, provider: WireProvider, request: WireRequest, timeout_s: float) -> WireResponse:
        """Send a request."""
        ...

    async def read(self, events: AsyncIterator[T], remaining_s: Callable[[], float]) -> T:
        """Return the next event; ``TimeoutError`` once ``remaining_s()`` has run out, as far as the driver can interrupt."""
        ...

    def stop_reading(self) -> None:
        """Forget the deadline of a stream that has ended."""
        ...

    async def complete(self, provider: Any, request: ChatRequest, timeout_s: float) -> ProviderResponse:
        """Ask a provider that answers by means of its own."""
        ...

    def events(self, provider: Any, request: ChatRequest, timeout_s: float) -> AsyncIterator[Any]:
        """Ask such a provider for a stream."""
        ...

    def later(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run ``coroutine`` soon, from wherever this is called; nobody waits for it."""
        ...


class AsyncEffects:
    """Effects on a running asyncio event loop."""

    __slots__ = ("_has_expired", "_loop", "_reader", "_remaining_s", "_timer")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._remaining_s: Callable[[], float] = float
        self._has_expired = False

    def deadline(self, timeout_s: float) -> AbstractAsyncContextManager[Any]:
        return asyncio.timeout(timeout_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def send(self, provider: WireProvider, request: WireRequest, timeout_s: float) -> WireResponse:
        self._loop = asyncio.get_running_loop()
        return await provider.send(request, timeout_s)

    async def read(self, events: AsyncIterator[T], remaining_s: Callable[[], float]) -> T:
        # asyncio.timeout() does the same, at the price of a timer for each chunk, which is more than reading it costs.
        if self._timer is None:
            self._remaining_s = remaining_s
            self._timer = asyncio.get_running_loop().call_later(remaining_s(), self._expire)
        reader = asyncio.current_task()
        assert reader is not None, "a coroutine runs in a task"
        cancelling = reader.cancelling()
        self._reader = reader
        try:
            return await events.__anext__()
        except asyncio.CancelledError:
            # Somebody else may have cancelled the task as well; that stands above our timeout.
            has_expired, self._has_expired = self._has_expired, False
            if has_expired and reader.uncancel() <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._reader = None
            if self._has_expired:
                # Our cancellation came out as something else; the task is not to stay marked as cancelled.
                self._has_expired = False
                reader.uncancel()

    def _expire(self) -> None:
        """Cancel the read in progress if the time is really up: what the consumer takes between reads does not count."""
        self._timer = None
        if self._reader is None:
            return
        left_s = self._remaining_s()
        if left_s > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._expire)
        else:
            self._has_expired = True
            self._reader.cancel()

    def stop_reading(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    async def complete(self, provider: Any, request: ChatRequest, timeout_s: float) -> ProviderResponse:
        answer: ProviderResponse = await provider.complete(
            request.messages, request.model, request.max_output_tokens, **request.options
        )
        return answer

    def events(self, provider: Any, request: ChatRequest, timeout_s: float) -> AsyncIterator[Any]:
        self._loop = asyncio.get_running_loop()
        events: AsyncIterator[Any] = provider.stream(
            request.messages, request.model, request.max_output_tokens, **request.options
        )
        return events

    def later(self, coroutine: Coroutine[Any, Any, None]) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            coroutine.close()
            return
        loop.call_soon_threadsafe(_start_task, loop, coroutine)


_running: set[asyncio.Task[None]] = set()
"""Tasks that nobody awaits, held so that they are not collected before they end."""


def _start_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
    task = loop.create_task(coroutine)
    _running.add(task)
    task.add_done_callback(_running.discard)


class SyncEffects:
    """Effects by blocking calls. Every coroutine here runs to its end without suspending."""

    __slots__ = ()

    def deadline(self, timeout_s: float) -> AbstractAsyncContextManager[Any]:
        # Nothing can interrupt a blocking read from outside: the SDK's timeout bounds each, and the pipeline looks at
        # the deadline between them.
        return nullcontext()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - driven by run_sync, never by an event loop

    async def send(self, provider: WireProvider, request: WireRequest, timeout_s: float) -> WireResponse:
        return provider.send_sync(request, timeout_s)

    async def read(self, events: AsyncIterator[T], remaining_s: Callable[[], float]) -> T:
        return await events.__anext__()

    def stop_reading(self) -> None:
        return

    async def complete(self, provider: Any, request: ChatRequest, timeout_s: float) -> ProviderResponse:
        arguments = (request.messages, request.model, request.max_output_tokens)
        if _answers_synchronously(provider, "complete_sync"):
            answer: ProviderResponse = provider.complete_sync(*arguments, **request.options)
        else:
            answer = run_in_background(provider.complete(*arguments, **request.options), timeout_s)
        return answer

    async def events(self, provider: Any, request: ChatRequest, timeout_s: float) -> AsyncIterator[Any]:
        arguments = (request.messages, request.model, request.max_output_tokens)
        if _answers_synchronously(provider, "stream_sync"):
            events = provider.stream_sync(*arguments, **request.options)
        else:
            events = iterate_in_background(provider.stream(*arguments, **request.options), timeout_s)
        with closing(events):
            for event in events:
                yield event

    def later(self, coroutine: Coroutine[Any, Any, None]) -> None:
        run_sync(coroutine)


def _answers_synchronously(provider: Any, method: str) -> bool:
    """Whether a provider has a synchronous form of its own; otherwise the background loop serves, within a deadline."""
    return isinstance(provider, ProviderBase) and getattr(type(provider), method) is not getattr(ProviderBase, method)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine that never suspends to its end and return its result.

    Raises:
        RuntimeError: if it does suspend; it is closed first.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        coroutine.close()
    raise RuntimeError("a synchronous call met something that awaits; give the provider complete_sync()/stream_sync()")


def in_event_loop() -> bool:
    """Whether an event loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
