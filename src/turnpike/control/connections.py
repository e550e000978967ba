"""A process's connections to its Redis server, kept in one place: those of its threads, or those of one event loop.

Connections are opened beside the requests, by a thread or a task: who needs one waits for it no longer than the timeout, and
one that was too slow for a request (names to look up, TLS to agree on) is there for the next. What fails is closed and never
tried again, because a take that was sent may have been charged.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from turnpike.clock import SYSTEM_CLOCK
from turnpike.control.outage import Outage, reason_of
from turnpike.control.redis_server import RedisServer

__all__ = ["Connections", "OpenedLateError", "monotonic_s"]

monotonic_s: Callable[[], float] = SYSTEM_CLOCK.monotonic

_LEAST_SHARE = 0.25
"""Part of the timeout that must be left for a reply. Opening takes at least three times as long as a reply does."""

_MOST_OPENING = 4
"""Connections that are opened at a time, so that a burst of requests is no burst of logins."""


class OpenedLateError(TimeoutError):
    """A connection was opened, and is there for others, but too late for who waited for it."""


class Connections(ABC):
    """Who holds a connection, who waits for one and how many are being opened, in one place.

    The ``async`` methods of ``ThreadConnections`` block and never suspend. Deadlines are in real time, by ``monotonic_s``.

    Args:
        server: where connections lead.
        outage: what is known of its health.
        timeout_s: how long a connection and a reply are waited for.
        size: most connections.
    """

    def __init__(self, server: RedisServer, outage: Outage, timeout_s: float, size: int) -> None:
        self.outage = outage
        self._server = server
        self._timeout_s = timeout_s
        self._size = size
        self._answered_s = -math.inf
        self._idle: list[Any] = []
        self._waiting: deque[Any] = deque()
        self._opening = 0
        self._count = 0
        self._lock = threading.Lock()

    async def borrow(self) -> tuple[Any, float]:
        """Return an open connection, to be given back or dropped, and how long a reply may take in seconds.

        While the server answers others, who waits here waits for its own process, and to give up would leave bursts of
        requests uncounted. So that wait is not counted, but one for a connection to be opened is.

        Raises:
            OpenedLateError: if a connection was opened so late that little time is left for a reply.
            TimeoutError: if the server has answered nobody for the timeout.
            RedisError: if no connection could be opened.
        """
        while (connection := self._take_idle()) is not None:
            if self._is_open(connection):
                return connection, self._timeout_s
            await self.drop(connection)
        began_s = monotonic_s()
        waiter = self._line_up()
        try:
            connection, is_new = await self._arrival(waiter)
        except BaseException:
            self._leave(waiter)
            raise
        left_s = self._left_s(began_s) if is_new else self._timeout_s
        if left_s < self._timeout_s * _LEAST_SHARE:
            self.give_back(connection)
            raise OpenedLateError
        return connection, left_s

    @abstractmethod
    async def ask(self, connection: Any, deadline_s: float, *command: Any) -> Any:
        """Send one command and return the reply.

        Raises:
            TimeoutError: if there is none by ``deadline_s`` of ``monotonic_s``.
            RedisError: if the connection broke off, or the reply is an error.
        """

    @abstractmethod
    async def drop(self, connection: Any) -> None:
        """Close a connection that was borrowed."""

    @abstractmethod
    async def close(self, *, wait: bool = True) -> None:
        """Close the idle connections, and wait until they are closed unless told not to."""

    @abstractmethod
    def _is_open(self, connection: Any) -> bool:
        """Whether an idle connection still is one, as far as this side knows."""

    @abstractmethod
    def _new_waiter(self) -> Any:
        """Return a future to wait for a connection."""

    @abstractmethod
    async def _arrival(self, waiter: Any) -> Any:
        """Return the connection that was waited for, and whether it is new; see ``borrow``."""

    @abstractmethod
    def _left_s(self, began_s: float) -> float:
        """How much of the timeout is left to who began at ``began_s``."""

    @abstractmethod
    def _start_opening(self) -> None:
        """Have one connection opened, without waiting for it."""

    def give_back(self, connection: Any) -> None:
        """Hand a connection on which the server has answered to who has waited longest, or keep it."""
        with self._lock:
            self._hand_over(connection, is_new=False)

    def _hand_over(self, connection: Any, *, is_new: bool) -> None:
        self._answered_s = monotonic_s()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result((connection, is_new))
                return
        self._idle.append(connection)

    def _take_idle(self) -> Any | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _take_all_idle(self) -> list[Any]:
        with self._lock:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        return idle

    def _line_up(self) -> Any:
        waiter = self._new_waiter()
        with self._lock:
            if self._idle:
                # Given back since it was looked for.
                waiter.set_result((self._idle.pop(), False))
                return waiter
            self._waiting.append(waiter)
        self._open_if_awaited()
        return waiter

    def _leave(self, waiter: Any) -> None:
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                connection, is_new = waiter.result()
                self._hand_over(connection, is_new=is_new)

    def _open_if_awaited(self) -> None:
        with self._lock:
            if self._opening >= min(len(self._waiting), _MOST_OPENING) or self._count >= self._size:
                return
            self._opening += 1
            self._count += 1
        try:
            self._start_opening()
        except RuntimeError as error:  # no further thread, at the system's limit or at the interpreter's end
            self._not_opened(error)

    def _opened(self, connection: Any) -> None:
        with self._lock:
            self._opening -= 1
            self._hand_over(connection, is_new=True)
        self.outage.answered()
        self._open_if_awaited()

    def _not_opened(self, error: Exception) -> None:
        with self._lock:
            self._opening -= 1
            self._count -= 1
            if not self._count:
                self._disappoint(error)
        # Who waited may have left by now, and would have seen no more than a timeout.
        self.outage.explain(reason_of(error))

    def _disappoint(self, error: Exception) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def _dropped(self) -> None:
        with self._lock:
            self._count -= 1
        self._open_if_awaited()
