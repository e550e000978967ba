"""What the cases ask of a transport. All of it blocks, so that one case serves event loops, threads and real servers.

Headers are pairs of raw bytes, sent in their order and as they are: repeated, malformed and hostile ones too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from turnpike.context import Binding

__all__ = ["PARALLEL", "Connection", "Headers", "Leaving", "Response", "Streamed", "Transport", "WebSocket", "text_of"]

Headers = Sequence[tuple[bytes, bytes]]
"""Header lines as they go over the wire, without the colon and the line's end."""

PARALLEL = 40
"""How many requests the transports of this process serve at the same time."""

Leaving = Literal["told", "refused", "cancelled"]
"""How a client's leaving reaches an ASGI application. ``told``: ``receive`` returns ``http.disconnect``, and what is sent
goes nowhere (uvicorn, hypercorn); ``refused``: ``send`` raises ``OSError`` as well (ASGI 2.4); ``cancelled``: its task is
cancelled. Other transports know only one way."""


@dataclass(frozen=True)
class Response:
    """A response.

    Attributes:
        status: the status; 500 where the application raised before it had begun to answer.
        headers: the header lines, names in lower case.
        body: the whole body, as far as it came.
        is_complete: whether the body came to its proper end.
        error: what the application raised, where the transport can see that.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_complete: bool = True
    error: BaseException | None = None

    def values(self, name: str) -> list[str]:
        """Return the values of each header line called ``name``."""
        return [value for key, value in self.headers if key == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the value of the header ``name``, or ``None``.

        Raises:
            AssertionError: if there are several.
        """
        values = self.values(name)
        assert len(values) < 2, f"the response has {len(values)} headers {name}: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Streamed(Protocol):
    """A response whose body is read piece by piece. Leaving its block is leaving the server."""

    status: int
    headers: tuple[tuple[str, str], ...]

    def read(self) -> bytes:
        """Return the next piece of the body, empty at its end."""
        ...

    def rest(self) -> bytes:
        """Return what is left of the body."""
        ...

    def leave(self) -> None:
        """Go away before the end."""
        ...

    def result(self) -> Response:
        """Wait until the server is done with the request, and return what has not been read as a response."""
        ...


class WebSocket(Protocol):
    """A WebSocket. Leaving its block is leaving the server."""

    denial: Response | None
    """The response that came in place of the handshake; ``None`` if the connection was accepted. A server that cannot send
    one answers 403 with an empty body."""
    headers: tuple[tuple[str, str], ...]
    """Headers of the accepted handshake."""

    def ask(self, text: str) -> str:
        """Send a message and return the next one that comes."""
        ...

    def leave(self) -> None:
        """Go away, and wait until the server is done."""
        ...


class Connection(Protocol):
    """A connection that is kept alive: its requests are served one after the other by the same task or thread."""

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request and return the response, once the server is done with it."""
        ...

    def bound(self) -> Binding | None:
        """Return what is bound in the server's own code, between two requests.

        Raises:
            NotImplementedError: if the server is out of reach.
        """
        ...


class Transport(Protocol):
    """Reaches one application."""

    is_in_process: bool
    """Whether the application runs in this process, called by the transport itself."""
    parallel: int
    """How many requests the server serves at the same time, at least."""

    def start(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Future[Response]:
        """Send a request on a connection of its own, without waiting for the response."""
        ...

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request on a connection of its own and return the response, once the server is done with it."""
        ...

    def stream(
        self, method: str, path: str, headers: Headers = (), body: bytes = b"", *, leaving: Leaving = "told"
    ) -> AbstractContextManager[Streamed]:
        """Send a request, and wait for the head of the response.

        Args:
            method: the HTTP method.
            path: the path, with its query.
            headers: the header lines.
            body: the request's body.
            leaving: how the application is to learn of it if the client leaves, where the transport decides.
        """
        ...

    def websocket(
        self, path: str, headers: Headers = (), *, deniable: bool = True
    ) -> AbstractContextManager[WebSocket]:
        """Open a WebSocket.

        Args:
            path: the path.
            headers: further headers.
            deniable: whether the server can send a response in place of the handshake, where the transport decides.
        """
        ...

    def connection(self, around: AbstractContextManager[object] | None = None) -> AbstractContextManager[Connection]:
        """Open a connection that is kept alive.

        Args:
            around: entered and left by the server's own task or thread, around all of its requests.
        """
        ...

    def settle(self) -> None:
        """Wait until the server is done with every request so far, as far as that can be seen."""
        ...

    def close(self) -> None:
        """Stop the application and wait for what it still does."""
        ...


def text_of(headers: Sequence[tuple[Any, Any]]) -> tuple[tuple[str, str], ...]:
    """Return header lines as text, names in lower case."""
    return tuple((_text(name).lower(), _text(value)) for name, value in headers)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else str(value)
