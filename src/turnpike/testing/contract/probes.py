"""What the handlers of the contract service do, in terms of the gateway alone.

Each probe is written once, as a coroutine over ``Ways``: the ways in which a handler of one style asks the gateway. A
synchronous handler drives the same coroutine without an event loop, because its ways never suspend.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from turnpike.context import LLMRequestContext, current_binding, detached, propagate
from turnpike.errors import CallCancelledError
from turnpike.gateway.client import Gateway

__all__ = ["PROMPT", "TIER", "AsyncWays", "Call", "HandlerFailure", "SyncWays", "Ways", "drive", "whoever"]

PROMPT = "How far is it to the next turnpike?"
"""What every call of the service asks."""
TIER = "cheap"
"""The tier that every call of the service names."""

Json = dict[str, Any]
T = TypeVar("T")


class HandlerFailure(Exception):  # noqa: N818 - it stands for any error of an application
    """What a failing handler of the service raises: an error that Turnpike knows nothing of."""


@dataclass(frozen=True, eq=False)
class Call:
    """One request, as the handler saw it.

    Attributes:
        gateway: the gateway, reached as the stack's users reach it. Routes that need no key may pass ``None``.
        context: who is asking, as the stack tells its handlers; ``None`` where nobody was admitted.
        number: the parameter of ``/call/{number}``, converted by the framework.
    """

    gateway: Gateway | None
    context: LLMRequestContext | None = None
    number: int | None = None

    @property
    def llm(self) -> Gateway:
        """The gateway.

        Raises:
            AssertionError: if the stack did not pass one.
        """
        assert self.gateway is not None, "the stack has passed no gateway to a route that calls it"
        return self.gateway


def whoever() -> str:
    """Return who is bound here as ``tenant/caller``, or ``nobody``."""
    binding = current_binding()
    if binding is None or binding.context.tenant_id is None:
        return "nobody"
    return f"{binding.context.tenant_id}/{binding.context.caller_id}"


class Ways(Protocol):
    """How a handler of one style asks the gateway."""

    async def ask(self) -> str:
        """Make a call and return the answer's text."""
        ...

    async def in_task(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` in a task or thread of its own, and wait for it."""
        ...

    async def in_pool(self) -> list[str]:
        """Make calls in the threads of a pool that knows nothing of this request."""
        ...

    async def in_own_thread(self) -> str:
        """Make a call in a thread, as the style's own library starts threads."""
        ...

    def open_stream(self) -> Any:
        """Open a stream."""
        ...


def _in_pool(llm: Gateway) -> list[Future[str]]:
    def ask() -> str:
        return llm.call_sync(PROMPT, tier=TIER).text

    with ThreadPoolExecutor(2) as pool:
        return [pool.submit(propagate(ask)) for _ in range(3)]


class AsyncWays:
    """The ways of an ``async def`` handler."""

    def __init__(self, call: Call) -> None:
        self._llm = call.llm

    async def ask(self) -> str:
        """Make a call and return the answer's text."""
        return (await self._llm.call(PROMPT, tier=TIER)).text

    async def in_task(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` in a task."""
        return await asyncio.create_task(work())

    async def in_pool(self) -> list[str]:
        """Make calls in the threads of a pool that knows nothing of this request."""
        futures = await asyncio.to_thread(_in_pool, self._llm)
        return [future.result() for future in futures]

    async def in_own_thread(self) -> str:
        """Make a call in ``asyncio.to_thread``, which carries the context by itself."""
        return (await asyncio.to_thread(self._llm.call_sync, PROMPT, tier=TIER)).text

    def open_stream(self) -> Any:
        """Open a stream."""
        return self._llm.stream(PROMPT, tier=TIER)


class SyncWays:
    """The ways of a plain handler: ``async def`` in syntax, and never suspending."""

    def __init__(self, call: Call) -> None:
        self._llm = call.llm

    async def ask(self) -> str:
        """Make a call and return the answer's text."""
        return self._llm.call_sync(PROMPT, tier=TIER).text

    async def in_task(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` in a thread."""
        return _in_thread(propagate(lambda: drive(work())))

    async def in_pool(self) -> list[str]:
        """Make calls in the threads of a pool that knows nothing of this request."""
        return [future.result() for future in _in_pool(self._llm)]

    async def in_own_thread(self) -> str:
        """Make a call in a thread that carries the context by ``propagate``."""
        return _in_thread(propagate(lambda: self._llm.call_sync(PROMPT, tier=TIER).text))

    def open_stream(self) -> Any:
        """Open a stream."""
        return self._llm.stream_sync(PROMPT, tier=TIER)


def _in_thread(work: Callable[[], T]) -> T:
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=run, name="contract-handler", daemon=True).start()
    return outcome.result()


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends to its end, in this thread and this context."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        coroutine.close()
    raise AssertionError("a probe suspended in a synchronous handler")


# ------------------------------------------------------------------------------------------------------- answers


def _shown(call: Call, **more: Any) -> Json:
    who = call.context
    tenant, caller = (who.tenant_id, who.caller_id) if who is not None else (None, None)
    return {"tenant": tenant, "caller": caller, "bound": whoever(), **more}


async def report(call: Call, _ways: Callable[[Call], Ways]) -> Json:
    """Say who is asking and who is bound, and call nobody."""
    return _shown(call)


async def ask(call: Call, ways: Callable[[Call], Ways]) -> Json:
    """Make one call."""
    text = await ways(call).ask()
    return _shown(call, text=text) if call.number is None else _shown(call, text=text, number=call.number)


async def ask_below(call: Call, ways: Callable[[Call], Ways]) -> Json:
    """Make calls in a function that the handler calls, and in a task or thread that it starts."""
    way = ways(call)

    async def below() -> str:
        return await way.ask()

    return _shown(call, texts=[await below(), await way.in_task(below)])


async def ask_in_threads(call: Call, ways: Callable[[Call], Ways]) -> Json:
    """Make calls in a pool's threads, through ``turnpike.propagate``, and in a thread of the style's own."""
    way = ways(call)
    return _shown(call, texts=[*await way.in_pool(), await way.in_own_thread()])


_left_open: deque[Any] = deque(maxlen=64)
"""Streams that handlers have left behind: held, so that it is the boundary that ends them and not their finalizer."""


async def leave_unread(call: Call, ways: Callable[[Call], Ways]) -> Json:
    """Open a stream and never read it."""
    stream = ways(call).open_stream()
    _left_open.append(stream)
    return _shown(call, stream=stream.request_id)


async def fail_with_open_stream(call: Call, ways: Callable[[Call], Ways]) -> Json:
    """Open a stream and raise."""
    stream = ways(call).open_stream()
    _left_open.append(stream)
    raise HandlerFailure(f"the handler failed with stream {stream.request_id} open")


async def outlive_in_thread(call: Call, _ways: Callable[[Call], Ways]) -> Json:
    """Answer at once, and read a stream in a thread that goes on after the response."""
    llm = call.llm

    def work() -> None:
        with detached(), suppress(CallCancelledError):
            for _ in llm.stream_sync(PROMPT, tier=TIER):
                pass

    threading.Thread(target=propagate(work), name="contract-outliving", daemon=True).start()
    return _shown(call)


_outliving: set[asyncio.Task[None]] = set()
"""Tasks that outlive their requests: the event loop itself holds them weakly."""


async def outlive_in_task(call: Call, _ways: Callable[[Call], Ways]) -> Json:
    """Answer at once, and read a stream in a task that goes on after the response."""
    llm = call.llm

    async def work() -> None:
        with suppress(CallCancelledError):
            async for _ in llm.stream(PROMPT, tier=TIER):
                pass

    task = asyncio.create_task(work())
    _outliving.add(task)
    task.add_done_callback(_outliving.discard)
    return _shown(call)


# -------------------------------------------------------------------------------------------------------- bodies


def stream_of_handler(call: Call) -> AsyncIterator[bytes]:
    """Open a stream in the handler; the body is that stream."""
    return call.llm.stream(PROMPT, tier=TIER).sse()


def stream_of_handler_sync(call: Call) -> Iterator[bytes]:
    """Open a stream in the handler; the body is that stream."""
    return call.llm.stream_sync(PROMPT, tier=TIER).sse()


async def stream_of_body(call: Call) -> AsyncIterator[bytes]:
    """Open a stream inside the body."""
    async for piece in call.llm.stream(PROMPT, tier=TIER).sse():
        yield piece


def stream_of_body_sync(call: Call) -> Iterator[bytes]:
    """Open a stream inside the body."""
    yield from call.llm.stream_sync(PROMPT, tier=TIER).sse()


async def ask_at_each_step(call: Call) -> AsyncIterator[bytes]:
    """Make a call at each step of the body."""
    for _ in range(3):
        yield f"{await AsyncWays(call).ask()} {whoever()}\n".encode()


def ask_at_each_step_sync(call: Call) -> Iterator[bytes]:
    """Make a call at each step of the body."""
    for _ in range(3):
        yield f"{drive(SyncWays(call).ask())} {whoever()}\n".encode()


async def fail_in_body(call: Call) -> AsyncIterator[bytes]:
    """Raise after the first piece of a stream."""
    async for piece in call.llm.stream(PROMPT, tier=TIER).sse():
        yield piece
        raise HandlerFailure("the body failed after its first piece")


def fail_in_body_sync(call: Call) -> Iterator[bytes]:
    """Raise after the first piece of a stream."""
    for piece in call.llm.stream_sync(PROMPT, tier=TIER).sse():
        yield piece
        raise HandlerFailure("the body failed after its first piece")


# --------------------------------------------------------------------------------------------------- conversations


async def converse(
    call: Call, receive: Callable[[], Awaitable[str | None]], send: Callable[[str], Awaitable[None]]
) -> None:
    """Answer each message over a WebSocket: ``ask`` with a call, ``stream`` with the first piece of a stream left open."""
    opened = []
    while (message := await receive()) is not None:
        if message == "stream":
            stream = call.llm.stream(PROMPT, tier=TIER)
            opened.append(stream)
            await send((await anext(aiter(stream))).delta)
        else:
            await send(f"{message}: {await AsyncWays(call).ask()} {whoever()}")
