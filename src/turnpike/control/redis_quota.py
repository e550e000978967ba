"""Counts in a Redis server, for all processes together, at the cost of one round trip.

A take waits no longer than its timeout, whatever the server does, and is never sent twice: one whose answer was lost may
have been charged, so the count may be too high by it and is never too low. After a failure the server is left alone for a
moment and ``QuotaUnavailableError`` is raised at once. Its address, which may hold a password, appears in no text.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from importlib import resources
from typing import Any, ClassVar, TypeVar

from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.control.connections import Connections, OpenedLateError, monotonic_s
from turnpike.control.loop_connections import LoopConnections
from turnpike.control.outage import Outage, reason_of
from turnpike.control.quota import Limit, Verdict, check_keys, standing
from turnpike.control.redis_server import RedisServer
from turnpike.control.thread_connections import ThreadConnections
from turnpike.errors import ConfigurationError, QuotaUnavailableError
from turnpike.secret import Secret

__all__ = ["KEY_PREFIX", "RedisQuota"]

KEY_PREFIX = "turnpike:quota:"
"""What the name of every value in Redis begins with; the limit's key follows."""

_WHAT = "The Redis server that counts requests"

T = TypeVar("T")


class RedisQuota:
    """A ``Quota`` in Redis or Valkey, from version 5 on, shared by every process that counts there.

    Threads and event loops may share one object, and it works on in the children of a fork: connections belong to the
    process and the loop that opened them. All keys of a take must be on one server, so Redis Cluster is not supported.

    Args:
        url: the server's address, such as ``redis://user:password@host:6379/0``; ``rediss://`` for TLS.
        timeout_s: how long a take waits for the server at most, a new connection included.
        pause_s: how long the server is left alone after it failed.
        max_connections: most connections for the threads of a process, and for each event loop.
        clock: source of monotonic time for the pause.
        now_ms: source of the time in milliseconds by which requests are counted; by default the server's own clock,
            which all processes share.

    Raises:
        MissingExtraError: if redis-py is not installed.
        SettingsError: if ``url`` is wrong.
        ConfigurationError: if a figure is.
    """

    blocking: ClassVar[bool] = True

    def __init__(
        self,
        url: str | Secret,
        *,
        timeout_s: float = 0.05,
        pause_s: float = 1.0,
        max_connections: int = 32,
        clock: Clock = SYSTEM_CLOCK,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        if not 0 < timeout_s < math.inf or not 0 <= pause_s < math.inf or max_connections < 1:
            raise ConfigurationError(
                "RedisQuota needs a timeout_s above 0, a pause_s of 0 or more, and at least 1 in max_connections"
            )
        script = resources.files(__package__).joinpath("redis_quota.lua").read_text("utf-8")
        self._server = RedisServer(Secret(url), script)
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._max_connections = max_connections
        self._clock = clock
        self._now_ms = now_ms
        self._process = self._start_process()

    def __repr__(self) -> str:
        return f"RedisQuota(timeout_s={self._timeout_s}, pause_s={self._pause_s})"

    def take(self, limits: Sequence[Limit]) -> Verdict:
        """Charge all ``limits`` or none; see ``Quota.take``.

        Raises:
            QuotaUnavailableError: if the server does not answer in time, or with an error.
            ValueError: if two limits have the same key.
        """
        return _run(self._take(self._here().threads, limits))

    async def take_async(self, limits: Sequence[Limit]) -> Verdict:
        """Do the same as ``take`` without blocking the event loop."""
        return await self._take(self._here().of_running_loop(), limits)

    def close(self) -> None:
        """Close the connections of this process's threads. The next ``take`` opens new ones."""
        _run(self._here().threads.close())

    async def aclose(self) -> None:
        """Close the connections of the running loop and of this process's threads."""
        process = self._here()
        if connections := process.loops.get(asyncio.get_running_loop()):
            await connections.close()
        await process.threads.close()

    async def _take(self, connections: Connections, limits: Sequence[Limit]) -> Verdict:
        """Take over ``connections``; suspends only if they belong to a loop."""
        check_keys(limits)
        if not limits:
            return Verdict(True, ())
        if not connections.outage.may_ask():
            raise QuotaUnavailableError(f"{_WHAT} failed less than {self._pause_s:g} s ago and is not asked yet.")
        errors = self._server.errors
        try:
            reply = await self._ask(connections, limits)
        except errors.ReadOnlyError as error:
            # A replica by now. Connections opened anew follow the server's name to the primary.
            reason = await _give_up(connections, error)
        except (errors.ResponseError, OpenedLateError) as error:
            connections.outage.answered()
            reason = reason_of(error)
        except Exception as error:  # noqa: BLE001 - a request must not fail with whatever redis-py fails with
            reason = await _give_up(connections, error)
        except BaseException:
            connections.outage.undecided()
            raise
        else:
            connections.outage.answered()
            return _verdict(limits, reply)
        # Outside of the handlers: the text of redis-py's error is not for whoever handles this one.
        raise QuotaUnavailableError(f"{_WHAT} failed: {reason}.")

    async def _ask(self, connections: Connections, limits: Sequence[Limit]) -> Any:
        server, arguments = self._server, self._arguments(limits)
        connection, left_s = await connections.borrow()
        deadline_s = monotonic_s() + left_s
        try:
            try:
                reply = await connections.ask(connection, deadline_s, "EVALSHA", server.script_digest, *arguments)
            except server.errors.NoScriptError:
                # Nothing was run, so this is not a second charge. The server keeps the script again from here on.
                reply = await connections.ask(connection, deadline_s, "EVAL", server.script, *arguments)
        except server.errors.ResponseError:
            connections.give_back(connection)
            raise
        except BaseException:
            await connections.drop(connection)
            raise
        connections.give_back(connection)
        return reply

    def _arguments(self, limits: Sequence[Limit]) -> list[Any]:
        keys = [(KEY_PREFIX + limit.key).encode("utf-8", "surrogatepass") for limit in limits]
        arguments = [len(keys), *keys, "" if self._now_ms is None else self._now_ms()]
        for limit in limits:
            arguments += (limit.window_s * 1000, limit.cap, limit.amount)
        return arguments

    def _here(self) -> _Process:
        if self._process.pid != os.getpid():
            # What came over the fork belongs to the parent; closed here, it would be missed there.
            _leaked.append(self._process)
            self._process = self._start_process()
        return self._process

    def _start_process(self) -> _Process:
        outage = Outage(_WHAT, self._clock, self._pause_s)
        return _Process(self._server, outage, self._timeout_s, self._max_connections)


class _Process:
    """One process's connections: those of its threads, and those of each of its loops."""

    def __init__(self, *arguments: Any) -> None:
        self.pid = os.getpid()
        self.threads = ThreadConnections(*arguments)
        self.loops: weakref.WeakKeyDictionary[Any, LoopConnections] = weakref.WeakKeyDictionary()
        self._arguments = arguments
        self._lock = threading.Lock()

    def of_running_loop(self) -> LoopConnections:
        loop = asyncio.get_running_loop()
        connections = self.loops.get(loop)
        if connections is None:
            connections = LoopConnections(*self._arguments, at_end=self._forget)
            with self._lock:
                # Connections refer to their loop, so the weak key alone never lets go of loops that were not shut down.
                for ended in [known for known in self.loops if known.is_closed()]:
                    del self.loops[ended]
                self.loops[loop] = connections
        return connections

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self.loops.pop(loop, None)


_leaked: list[_Process] = []
"""What a parent process knew: kept alive in a child so that no finalizer closes connections that the parent still uses."""


def _run(blocking: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        blocking.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("connections of threads do not suspend")


async def _give_up(connections: Connections, error: Exception) -> str:
    reason = reason_of(error)
    connections.outage.failed(reason)
    await connections.close(wait=False)
    return reason


def _verdict(limits: Sequence[Limit], reply: list[int]) -> Verdict:
    standings = [
        standing(limit, *reply[at : at + 3]) for limit, at in zip(limits, range(1, len(reply), 3), strict=True)
    ]
    return Verdict(reply[0] == 1, tuple(standings))
