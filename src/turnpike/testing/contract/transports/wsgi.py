"""WSGI in this process, as a server does it: a thread for each connection calls the application and closes its body."""

from __future__ import annotations

import io
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self, TypeVar
from urllib.parse import unquote_to_bytes

from turnpike.context import Binding, current_binding
from turnpike.testing.contract.transports.interface import PARALLEL, Headers, Leaving, Response, WebSocket, text_of
from turnpike.testing.waiting import TIMEOUT_S

__all__ = ["WSGIApp", "WSGITransport"]

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
T = TypeVar("T")


class WSGITransport:
    """Serves a WSGI application and sends requests to it.

    Args:
        app: the application.
        timeout_s: how long anything may take, in seconds.
    """

    is_in_process = True
    parallel = PARALLEL

    def __init__(self, app: WSGIApp, *, timeout_s: float = TIMEOUT_S) -> None:
        self.app: WSGIApp = app
        self.timeout_s: float = timeout_s
        self.threads: list[threading.Thread] = []

    def start(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Future[Response]:
        """Send a request on a connection of its own, without waiting for the response."""
        with self.connection() as connection:
            return connection.start(method, path, headers, body)

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request on a connection of its own and return the response, once its body has been closed."""
        return self.start(method, path, headers, body).result(self.timeout_s)

    @contextmanager
    def stream(
        self, method: str, path: str, headers: Headers = (), body: bytes = b"", *, leaving: Leaving = "told"
    ) -> Iterator[_Streamed]:
        """Send a request, and wait for the head of the response."""
        with self.connection() as connection:
            streamed = _Streamed(connection, _Exchange(self.app, environ_of(method, path, headers, body)))
            with streamed:
                yield streamed

    def websocket(
        self, _path: str, _headers: Headers = (), *, deniable: bool = True
    ) -> AbstractContextManager[WebSocket]:
        """Raise: WSGI has no WebSockets."""
        raise NotImplementedError("WSGI has no WebSockets")

    def connection(self, around: AbstractContextManager[object] | None = None) -> AbstractContextManager[_Connection]:
        """Open a connection whose requests are served by one thread."""
        return _Connection(self, around)

    def settle(self) -> None:
        """Wait for the threads of all connections.

        Raises:
            AssertionError: if some do not end though no request is open any more.
        """
        threads, self.threads = self.threads, []
        for thread in threads:
            thread.join(self.timeout_s)
        if busy := sum(thread.is_alive() for thread in threads):
            raise AssertionError(f"{busy} threads still serve requests after every client has gone")

    def close(self) -> None:
        """Wait for the threads of all connections: a WSGI application is not told of its end."""
        self.settle()


class _Connection:
    """One thread that does what it is asked, in its own context."""

    def __init__(self, transport: WSGITransport, around: AbstractContextManager[object] | None) -> None:
        self.transport = transport
        self._around = around or nullcontext()
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        thread = threading.Thread(target=self._serve, name="contract-wsgi", daemon=True)
        transport.threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        with self._around:
            while (item := self._work.get()) is not None:
                work, outcome = item
                try:
                    outcome.set_result(work())
                except BaseException as error:  # noqa: BLE001 - handed to whoever waits for it
                    outcome.set_exception(error)

    def begin(self, work: Callable[[], T]) -> Future[T]:
        outcome: Future[T] = Future()
        self._work.put((work, outcome))
        return outcome

    def do(self, work: Callable[[], T]) -> T:
        """Have the thread do ``work``, and wait for it."""
        return self.begin(work).result(self.transport.timeout_s)

    def start(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Future[Response]:
        return self.begin(_Exchange(self.transport.app, environ_of(method, path, headers, body)).whole)

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request and return the response, once its body has been closed."""
        return self.start(method, path, headers, body).result(self.transport.timeout_s)

    def bound(self) -> Binding | None:
        """Return what is bound in this connection's thread."""
        return self.do(current_binding)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._work.put(None)


class _Exchange:
    """One request, served by the thread that calls its methods."""

    def __init__(self, app: WSGIApp, environ: dict[str, Any]) -> None:
        self._app = app
        self._environ = environ
        self._result: Iterable[bytes] = ()
        self._iterator: Iterator[bytes] = iter(())
        self._written: list[bytes] = []
        self._sent: list[bytes] = []
        self._error: BaseException | None = None
        self._is_complete = False
        self._is_closed = False
        self.status = 0
        self.headers: tuple[tuple[str, str], ...] = ()

    def open(self) -> None:
        """Call the application; ask for the first piece where it has not said its status by then."""
        try:
            self._result = self._app(self._environ, self._start_response)
            self._iterator = iter(self._result)
        except Exception as error:  # noqa: BLE001 - a server survives whatever an application raises
            self._fail(error)
            return
        if not self.status and (piece := self.next()):
            self._written.append(piece)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., None]:
        if exc_info is not None:
            if self._sent:
                raise exc_info[1].with_traceback(exc_info[2])
        else:
            assert not self.status, "start_response was called twice without exc_info"
        assert all(type(name) is str and type(value) is str for name, value in headers), "header lines must be str"
        self.status, self.headers = int(status[:3]), text_of(headers)
        return self._written.append

    def next(self) -> bytes:
        """Return the next piece of the body, empty at its end."""
        while not self._is_complete and self._error is None:
            if self._written:
                piece = self._written.pop(0)
            else:
                try:
                    piece = next(self._iterator)
                except StopIteration:
                    self._is_complete = True
                    break
                except Exception as error:  # noqa: BLE001 - a server survives whatever an application raises
                    self._fail(error)
                    break
            if piece:
                self._sent.append(piece)
                return piece
        return b""

    def _fail(self, error: BaseException) -> None:
        self._error = error
        if not self._sent:
            self.status, self.headers, self._sent, self._is_complete = 500, (), [b"Internal Server Error"], True

    def close(self) -> None:
        """Close the body, as PEP 3333 demands whatever has become of it."""
        if not self._is_closed:
            self._is_closed = True
            try:
                if (close := getattr(self._result, "close", None)) is not None:
                    close()
            except Exception as error:  # noqa: BLE001 - a server survives whatever an application raises
                self._error = self._error or error

    def response(self) -> Response:
        if not self.status:
            error = self._error or AssertionError("the application has not called start_response")
            return Response(500, (), b"Internal Server Error", error=error)
        return Response(self.status, self.headers, b"".join(self._sent), self._is_complete, self._error)

    def whole(self) -> Response:
        """Serve the request from its beginning to its end."""
        self.open()
        while self.next():
            continue
        self.close()
        return self.response()


class _Streamed:
    """The client's side of a request that is served step by step: a WSGI server asks for each piece."""

    def __init__(self, connection: _Connection, exchange: _Exchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self.status = 0
        self.headers: tuple[tuple[str, str], ...] = ()

    def read(self) -> bytes:
        """Return the next piece of the body, empty at its end."""
        piece = self._connection.do(self._exchange.next)
        if not piece:
            self._connection.begin(self._exchange.close)
        return piece

    def rest(self) -> bytes:
        """Return what is left of the body."""
        pieces = []
        while piece := self.read():
            pieces.append(piece)
        return b"".join(pieces)

    def leave(self) -> None:
        """Go away before the end: a server learns of it between two pieces, and closes the body."""
        self._connection.begin(self._exchange.close)

    def result(self) -> Response:
        """Close the body, and return the response as far as it came."""
        self._connection.do(self._exchange.close)
        return self._connection.do(self._exchange.response)

    def __enter__(self) -> Self:
        self._connection.do(self._exchange.open)
        self.status, self.headers = self._exchange.status, self._exchange.headers
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.begin(self._exchange.close)


def environ_of(method: str, path: str, headers: Headers, body: bytes) -> dict[str, Any]:
    """Return the WSGI environment of a request, as servers make it.

    They join repeated headers with commas and drop those with underscores in their names, which would otherwise pass for
    others.
    """
    target, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(target).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "contract.test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "HTTP_HOST": "contract.test",
    }
    for raw_name, raw_value in headers:
        if b"_" not in raw_name:
            name = raw_name.decode("latin-1").upper().replace("-", "_")
            key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
            value = raw_value.decode("latin-1").strip(" \t")
            environ[key] = f"{environ[key]},{value}" if key in environ and key.startswith("HTTP_") else value
    return environ
