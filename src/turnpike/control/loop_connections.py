"""Connections of one event loop, opened by tasks in it and closed before it ends."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any

from turnpike.control.connections import Connections, monotonic_s
from turnpike.control.redis_server import OPENING_TIMEOUT_S

__all__ = ["LoopConnections"]

_OPENING_STEPS = 3
_TICKS = 5


class LoopConnections(Connections):
    """Connections of one event loop, to be used in that loop only; closed when the loop shuts down."""

    def __init__(self, *arguments: Any, at_end: Callable[[asyncio.AbstractEventLoop], object]) -> None:
        super().__init__(*arguments)
        self._loop = asyncio.get_running_loop()
        self._at_end = at_end
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._ticked_s = 0.0
        self._silent_ticks = 0
        # Before a loop ends, it closes the generators that were begun in it, and so these connections.
        self._end = self._close_at_end()
        _begin(self._end)

    async def ask(self, connection: Any, deadline_s: float, *command: Any) -> Any:
        """Send and wait for the reply; see ``Connections.ask``."""
        async with _Until(self._loop, deadline_s - monotonic_s()):
            await connection.send_command(*command)
            return await connection.read_response()

    async def drop(self, connection: Any) -> None:
        """Close a connection that was borrowed."""
        await connection.disconnect(nowait=True)
        self._dropped()

    async def close(self, *, wait: bool = True) -> None:
        """Close the idle connections; see ``Connections.close``."""
        for connection in self._take_all_idle():
            try:
                await connection.disconnect(nowait=not wait)
            except (OSError, self._server.errors.RedisError):
                continue

    def _is_open(self, connection: Any) -> bool:
        # What tells an ended connection without reading from it is private in redis-py, and differs between versions.
        reader = getattr(connection, "_reader", None)
        return reader is not None and not reader.at_eof() and reader.exception() is None

    def _new_waiter(self) -> Any:
        return self._loop.create_future()

    async def _arrival(self, waiter: Any) -> tuple[Any, bool]:
        # One timer for all who wait. With one for each, a burst of requests would keep the loop from the replies.
        if self._watch is None:
            self._silent_ticks = 0
            self._tick_later()
        try:
            connection, is_new = await waiter
        finally:
            if self._watch is not None and not self._waiting:
                self._watch.cancel()
                self._watch = None
        return connection, is_new

    def _left_s(self, began_s: float) -> float:
        return self._timeout_s * (_TICKS - self._silent_ticks) / _TICKS

    def _tick_later(self) -> None:
        self._ticked_s = monotonic_s()
        self._watch = self._loop.call_later(self._timeout_s / _TICKS, self._tick)

    def _tick(self) -> None:
        """End the waiting if the server has been silent for the timeout.

        Ticks are counted rather than time: a loop that is held up hears nothing, and a tick is late by as much.
        """
        self._silent_ticks = 0 if self._answered_s > self._ticked_s else self._silent_ticks + 1
        self._watch = None
        if self._silent_ticks >= _TICKS:
            self._disappoint(TimeoutError())
        elif self._waiting:
            self._tick_later()

    def _start_opening(self) -> None:
        # Not in the context of the request that happens to need it first.
        task = self._loop.create_task(self._open(), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        connection = self._server.loop_connection()
        try:
            async with asyncio.timeout(_OPENING_STEPS * OPENING_TIMEOUT_S):
                await connection.connect()
                await connection.send_command("SCRIPT", "LOAD", self._server.script)
                await connection.read_response()
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits is to hear of it
            await connection.disconnect(nowait=True)
            self._not_opened(error)
        except BaseException:
            await connection.disconnect(nowait=True)
            self._not_opened(ConnectionAbortedError())
            raise
        else:
            self._opened(connection)

    async def _close_at_end(self) -> AsyncGenerator[Any, None]:
        try:
            yield
        finally:
            self._at_end(self._loop)
            await self.close()


def _begin(generator: AsyncGenerator[Any, None]) -> None:
    """Run ``generator`` to its first ``yield``, where it stays."""
    try:
        generator.__anext__().__await__().__next__()
    except StopIteration:
        return


class _Until:
    """``asyncio.timeout`` that gives way to what has arrived: a loop that was held up sees the time before the reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = max(0.0, seconds)
        self._is_over = False

    async def __aenter__(self) -> None:
        self._scope = await asyncio.timeout(None).__aenter__()
        self._timer = self._loop.call_later(self._seconds, self._expire)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        self._timer.cancel()
        await self._scope.__aexit__(kind, error, traceback)

    def _expire(self) -> None:
        # One step of the loop later: whoever was woken by the reply in this one is ahead of that.
        if not self._is_over:
            self._scope.reschedule(0.0)
