"""A real server at the other end of a TCP connection. Header lines are written as they are: no HTTP client would."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Self
from urllib.parse import urlsplit

from turnpike.context import Binding
from turnpike.testing.contract.transports.interface import PARALLEL, Headers, Leaving, Response, WebSocket, text_of
from turnpike.testing.contract.transports.socket_frames import SocketWebSocket
from turnpike.testing.waiting import TIMEOUT_S

__all__ = ["SocketTransport"]


class SocketTransport:
    """Sends requests to the server at ``url``.

    Args:
        url: where it listens, such as ``http://127.0.0.1:8000``.
        parallel: how many requests the server serves at the same time: its threads, or as many as it likes.
        timeout_s: how long a read may take, in seconds.
    """

    is_in_process = False

    def __init__(self, url: str, *, parallel: int = PARALLEL, timeout_s: float = TIMEOUT_S) -> None:
        self.parallel: int = parallel
        parts = urlsplit(url)
        assert parts.scheme == "http", f"only http:// is spoken here; got {url}"
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.timeout_s: float = timeout_s

    def start(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Future[Response]:
        """Send a request on a connection of its own, without waiting for the response."""
        outcome: Future[Response] = Future()

        def run() -> None:
            try:
                outcome.set_result(self.request(method, path, headers, body))
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits for it
                outcome.set_exception(error)

        threading.Thread(target=run, name="contract-client", daemon=True).start()
        return outcome

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request on a connection of its own and return the response."""
        with self.stream(method, path, headers, body) as streamed:
            return streamed.result()

    @contextmanager
    def stream(
        self, method: str, path: str, headers: Headers = (), body: bytes = b"", *, leaving: Leaving = "told"
    ) -> Iterator[_Streamed]:
        """Send a request, and wait for the head of the response."""
        with self._connect() as peer:
            peer.sendall(self._head(method, path, [*headers, (b"Connection", b"close")], body) + body)
            yield _Streamed(peer, method)

    def websocket(
        self, path: str, headers: Headers = (), *, deniable: bool = True
    ) -> AbstractContextManager[WebSocket]:
        """Open a WebSocket; whether the server can send a response in place of the handshake is its own affair."""
        return SocketWebSocket(self._connect(), path, self._host(), headers)

    def connection(self, around: AbstractContextManager[object] | None = None) -> AbstractContextManager[_Connection]:
        """Open a connection that is kept alive; nothing can be put around a real server's requests."""
        return _Connection(self)

    def settle(self) -> None:
        """Do nothing: what the server still does cannot be seen from here."""

    def close(self) -> None:
        """Do nothing: the server is somebody else's."""

    def _connect(self) -> socket.socket:
        peer = socket.create_connection(self._address, self.timeout_s)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peer

    def _host(self) -> bytes:
        return f"{self._address[0]}:{self._address[1]}".encode()

    def _head(self, method: str, path: str, headers: Headers, body: bytes) -> bytes:
        lines = [f"{method} {path} HTTP/1.1".encode("ascii"), b"Host: " + self._host()]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(b"Content-Length: %d" % len(body))
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join(lines) + b"\r\n\r\n"


class _Streamed:
    """A response that is read as it comes."""

    def __init__(self, peer: socket.socket, method: str) -> None:
        self._peer = peer
        self._response = HTTPResponse(peer, method=method)
        self._response.begin()
        self._is_complete = True
        self.is_last: bool = self._response.will_close
        self.status = self._response.status
        self.headers = text_of(self._response.getheaders())

    def read(self) -> bytes:
        """Return the next piece of the body, empty at its end."""
        try:
            piece = self._response.read1(65536)
        except (HTTPException, ConnectionError):
            self._is_complete = False
            return b""
        if not piece and self._response.length:
            self._is_complete = False
        return piece

    def rest(self) -> bytes:
        """Return what is left of the body."""
        pieces = []
        while piece := self.read():
            pieces.append(piece)
        return b"".join(pieces)

    def leave(self) -> None:
        """Break the connection off, so that the server notices at its next write."""
        self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._response.close()
        self._peer.close()
        self._is_complete = False

    def result(self) -> Response:
        """Return what has not been read as a response."""
        body = self.rest() if self._peer.fileno() >= 0 else b""
        return Response(self.status, self.headers, body, self._is_complete)


class _Connection:
    """One TCP connection for several requests, or the next one where the server has said that it closes this one."""

    def __init__(self, transport: SocketTransport) -> None:
        self._transport = transport
        self._peer = transport._connect()
        self._is_spent = False

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request and return the response."""
        if self._is_spent:
            self._peer.close()
            self._peer = self._transport._connect()
        self._peer.sendall(self._transport._head(method, path, headers, body) + body)
        streamed = _Streamed(self._peer, method)
        self._is_spent = streamed.is_last
        return streamed.result()

    def bound(self) -> Binding | None:
        """Raise: the server is out of reach."""
        raise NotImplementedError("what is bound in a server behind a socket cannot be seen")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.close()
