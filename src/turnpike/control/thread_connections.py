"""Connections of the threads of a process, opened by threads of their own."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

from turnpike.control.connections import Connections, monotonic_s

__all__ = ["ThreadConnections"]

_LEAST_TIMEOUT_S = 0.001


class ThreadConnections(Connections):
    """Connections of the threads of this process."""

    async def ask(self, connection: Any, deadline_s: float, *command: Any) -> Any:
        """Send and wait for the reply; see ``Connections.ask``."""
        # redis-py has no public way to set the timeout of one command. Without this one, that of opening would hold.
        sock = getattr(connection, "_sock", None)
        if sock is not None:
            sock.settimeout(max(_LEAST_TIMEOUT_S, deadline_s - monotonic_s()))
        connection.send_command(*command)
        return connection.read_response()

    async def drop(self, connection: Any) -> None:
        """Close a connection that was borrowed."""
        connection.disconnect()
        self._dropped()

    async def close(self, *, wait: bool = True) -> None:
        """Close the idle connections, which never takes time here."""
        for connection in self._take_all_idle():
            connection.disconnect()

    def _is_open(self, connection: Any) -> bool:
        try:
            # Nothing was asked, so whatever can be read is the connection's end, or not ours.
            return not connection.can_read(0)
        except (OSError, self._server.errors.RedisError):
            return False

    def _new_waiter(self) -> Any:
        return futures.Future()

    async def _arrival(self, waiter: Any) -> tuple[Any, bool]:
        deadline_s = monotonic_s() + self._timeout_s
        while (left_s := deadline_s - monotonic_s()) > 0:
            if futures.wait((waiter,), left_s).done:
                connection, is_new = waiter.result()
                return connection, is_new
            deadline_s = max(deadline_s, self._answered_s + self._timeout_s)
        raise TimeoutError

    def _left_s(self, began_s: float) -> float:
        return began_s + self._timeout_s - monotonic_s()

    def _start_opening(self) -> None:
        threading.Thread(target=self._open, name="turnpike-redis", daemon=True).start()

    def _open(self) -> None:
        connection = self._server.thread_connection()
        try:
            connection.connect()
            connection.send_command("SCRIPT", "LOAD", self._server.script)
            connection.read_response()
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits is to hear of it
            connection.disconnect()
            self._not_opened(error)
        else:
            self._opened(connection)
