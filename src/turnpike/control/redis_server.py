"""How connections to a Redis server are made: for threads or for an event loop, with nothing that retries or hides.

redis-py's clients and pools connect, greet, look after themselves and try again within a command, each step with a
timeout of its own. A quota has one deadline for all of it, so it stands on redis-py's connections only. They are the same
from redis-py 5 to 8.
"""

from __future__ import annotations

import hashlib
from typing import Any

from turnpike.errors import MissingExtraError, SettingsError
from turnpike.secret import Secret

__all__ = ["OPENING_TIMEOUT_S", "RedisServer"]

OPENING_TIMEOUT_S = 1.0
"""Timeout of each step of opening a connection, which happens beside the requests that wait for it."""

_OWN_OPTIONS = {
    # RESP2 needs no greeting, and notifications that would be read in between come with RESP3 only.
    "protocol": 2,
    "retry": None,
    "retry_on_timeout": False,
    "health_check_interval": 0,
    "socket_connect_timeout": OPENING_TIMEOUT_S,
}
_POOL_OPTIONS = ("max_connections", "timeout", "retry_on_error")


class RedisServer:
    """One server and the script that is to run there.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``. Its options of TLS and naming hold; those of timeouts, retries and
            pools do not.
        script: what connections are to have loaded.

    Raises:
        MissingExtraError: if redis-py is not installed.
        SettingsError: if ``url`` is none of these or has an unknown option. Its text is not repeated, for the password.
    """

    def __init__(self, url: Secret, script: str) -> None:
        try:
            import redis.asyncio.connection
            import redis.connection
            import redis.exceptions
        except ImportError:
            raise MissingExtraError("Counting requests in Redis", "redis") from None
        self._threads: Any = redis.connection
        self._loops: Any = redis.asyncio.connection
        self.errors: Any = redis.exceptions
        self.script = script
        self.script_digest: str = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._url = url
        self._tls: Any = None
        try:
            self.thread_connection()
            # A context reads the trust store, which takes too long for an event loop, so its connections share one.
            self._tls = getattr(self.loop_connection(), "ssl_context", None)
            if self._tls is not None:
                self._tls.get()
        except (TypeError, ValueError, AttributeError, OSError, redis.exceptions.RedisError):
            raise SettingsError(
                "The address of the Redis server is wrong: write redis_url as redis://user:password@host:6379/0, with "
                "rediss:// for TLS or unix:// and a path, and options of redis-py behind a question mark, such as "
                "ssl_ca_certs and a file that can be read."
            ) from None

    def thread_connection(self) -> Any:
        """Return a connection for one thread at a time, not yet opened."""
        return self._connection(self._threads, OPENING_TIMEOUT_S)

    def loop_connection(self) -> Any:
        """Return a connection for the running event loop, not yet opened; who uses it sets the timeouts."""
        connection = self._connection(self._loops, None)
        if self._tls is not None:
            connection.ssl_context = self._tls
        return connection

    def _connection(self, module: Any, timeout_s: float | None) -> Any:
        options = module.parse_url(self._url.reveal())
        for name in _POOL_OPTIONS:
            options.pop(name, None)
        kind = options.pop("connection_class", module.Connection)
        return kind(**{**options, **_OWN_OPTIONS, "socket_timeout": timeout_s})
