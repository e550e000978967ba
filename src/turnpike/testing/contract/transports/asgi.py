"""ASGI in this process, as a server does it: an event loop in a thread, and a task for each connection.

A task that serves several requests hands each to the application directly, so whatever one leaves in the context, the
next one finds.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Self
from urllib.parse import unquote_to_bytes

from turnpike.context import Binding, current_binding
from turnpike.testing.contract.transports.asgi_exchange import ASGIApp, HttpExchange, Message, Scope
from turnpike.testing.contract.transports.asgi_websocket import WebSocketExchange
from turnpike.testing.contract.transports.interface import PARALLEL, Headers, Leaving, Response
from turnpike.testing.waiting import TIMEOUT_S

__all__ = ["ASGITransport"]


class ASGITransport:
    """Serves an ASGI application and sends requests to it.

    Args:
        app: the application; its lifespan is started here and ended by ``close``.
        timeout_s: how long anything may take, in seconds.
    """

    is_in_process = True
    parallel = PARALLEL

    def __init__(self, app: ASGIApp, *, timeout_s: float = TIMEOUT_S) -> None:
        self.app: ASGIApp = app
        self.timeout_s: float = timeout_s
        self._loop = asyncio.new_event_loop()
        # The loop's own executor has as many threads as the machine has cores, and some more: too few for a crowd.
        self._loop.set_default_executor(ThreadPoolExecutor(2 * PARALLEL, "contract-asgi-worker"))
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="contract-asgi", daemon=True)
        self._thread.start()
        self._state: dict[str, Any] = {}
        self._lifespan = _Lifespan(self, self._state)

    def start(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Future[Response]:
        """Send a request on a connection of its own, without waiting for the response."""
        exchange = HttpExchange(self, self._scope("http", path, headers, method=method), body)
        with self.connection() as connection:
            connection.serve(exchange)
        return exchange.response

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request on a connection of its own and return the response, once the application has returned."""
        return self.start(method, path, headers, body).result(self.timeout_s)

    @contextmanager
    def stream(
        self, method: str, path: str, headers: Headers = (), body: bytes = b"", *, leaving: Leaving = "told"
    ) -> Iterator[HttpExchange]:
        """Send a request, and wait for the head of the response."""
        exchange = HttpExchange(self, self._scope("http", path, headers, method=method), body, leaving)
        with self.connection() as connection:
            connection.serve(exchange)
        with exchange:
            exchange.wait_for_head()
            yield exchange

    @contextmanager
    def websocket(self, path: str, headers: Headers = (), *, deniable: bool = True) -> Iterator[WebSocketExchange]:
        """Open a WebSocket; ``deniable`` offers the ASGI extension ``websocket.http.response``."""
        scope = self._scope("websocket", path, headers, subprotocols=[])
        if deniable:
            scope["extensions"] = {"websocket.http.response": {}}
        exchange = WebSocketExchange(self, scope)
        with self.connection() as connection:
            connection.serve(exchange)
        with exchange:
            exchange.wait_for_handshake()
            yield exchange

    def connection(self, around: AbstractContextManager[object] | None = None) -> AbstractContextManager[_Connection]:
        """Open a connection whose requests are served by one task."""
        return _Connection(self, around)

    def settle(self) -> None:
        """Wait for all tasks but the lifespan's.

        Raises:
            AssertionError: if some do not end though no request is open any more.
        """
        self.call(self._settled()).result(self.timeout_s)

    def close(self) -> None:
        """End the lifespan, wait for all tasks and stop the loop."""
        try:
            self._lifespan.end()
            self.call(self._shut_down()).result(self.timeout_s)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(self.timeout_s)
            if not self._thread.is_alive():
                self._loop.close()

    # ---------------------------------------------------------------------------------------- for the exchanges

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` in the loop's thread, in a context of its own."""
        with suppress(RuntimeError):  # the loop has been closed: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *args, context=contextvars.Context())

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run ``coroutine`` in a task with an empty context."""
        outcome: Future[Any] = Future()

        async def run() -> None:
            try:
                outcome.set_result(await coroutine)
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits for it
                outcome.set_exception(error)

        self.soon(lambda: self.spawn(run(), contextvars.Context()))
        return outcome

    def spawn(self, coroutine: Coroutine[Any, Any, None], context: contextvars.Context) -> asyncio.Task[None]:
        """Start a task; call it in the loop's thread."""
        task = self._loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _settled(self) -> None:
        lasting = {asyncio.current_task(), *self._lifespan.tasks}
        while others := {task for task in asyncio.all_tasks() if task not in lasting}:
            _, pending = await asyncio.wait(others, timeout=self.timeout_s / 2)
            for task in pending:
                task.cancel()
            if pending:
                raise AssertionError(f"{len(pending)} tasks still run after every client has gone")

    async def _shut_down(self) -> None:
        await self._settled()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _scope(self, kind: str, path: str, headers: Headers, **more: Any) -> Scope:
        target, _, query = path.partition("?")
        raw = [(b"host", b"contract.test"), *((name.lower(), value.strip(b" \t")) for name, value in headers)]
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3" if kind == "http" else "2.4"},
            "http_version": "1.1",
            "scheme": "http" if kind == "http" else "ws",
            "path": unquote_to_bytes(target).decode("utf-8", "replace"),
            "raw_path": target.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": raw,
            "client": ("192.0.2.1", 50000),
            "server": ("contract.test", 80),
            "state": dict(self._state),
            **more,
        }


class _Connection:
    """One task that serves exchanges one after the other, in one context."""

    def __init__(self, transport: ASGITransport, around: AbstractContextManager[object] | None) -> None:
        self._transport = transport
        self._around = around or nullcontext()
        self._exchanges: asyncio.Queue[HttpExchange | WebSocketExchange | Future[Binding | None] | None] = (
            asyncio.Queue()
        )
        transport.soon(self._open)

    def _open(self) -> None:
        self._task = self._transport.spawn(self._serve(), contextvars.Context())

    async def _serve(self) -> None:
        with self._around:
            while (work := await self._exchanges.get()) is not None:
                if isinstance(work, Future):
                    work.set_result(current_binding())
                else:
                    await work.run(self._task)

    def serve(self, exchange: HttpExchange | WebSocketExchange) -> None:
        """Serve ``exchange`` after those before it."""
        self._transport.soon(self._exchanges.put_nowait, exchange)

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request and return the response, once the application has returned."""
        exchange = HttpExchange(self._transport, self._transport._scope("http", path, headers, method=method), body)
        self.serve(exchange)
        return exchange.response.result(self._transport.timeout_s)

    def bound(self) -> Binding | None:
        """Return what is bound in this connection's task."""
        asked: Future[Binding | None] = Future()
        self._transport.soon(self._exchanges.put_nowait, asked)
        return asked.result(self._transport.timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.soon(self._exchanges.put_nowait, None)


class _Lifespan:
    """The application's start and shutdown, as far as it knows the protocol."""

    def __init__(self, transport: ASGITransport, state: dict[str, Any]) -> None:
        self._transport = transport
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started: Future[None] = Future()
        self._stopped: Future[None] = Future()
        self._is_running = True
        self.tasks: set[asyncio.Task[Any]] = set()
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self._inbox.put_nowait({"type": "lifespan.startup"})
        self._ended = transport.call(self._run(scope))
        self._started.result(transport.timeout_s)

    async def _run(self, scope: Scope) -> None:
        self.tasks = asyncio.all_tasks()
        try:
            await self._transport.app(scope, self._inbox.get, self._send)
        except Exception:  # noqa: BLE001 - an application that does not know the protocol raises, by the specification
            self._is_running = False
        finally:
            for future in (self._started, self._stopped):
                if not future.done():
                    future.set_result(None)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        future = self._started if kind.startswith("lifespan.startup") else self._stopped
        # Applications may start work of their own that lasts as long as they do.
        self.tasks = asyncio.all_tasks() if future is self._started else set()
        if kind.endswith(".failed"):
            future.set_exception(AssertionError(f"{kind}: {message.get('message', '')}"))
        elif not future.done():
            future.set_result(None)

    def end(self) -> None:
        if self._is_running:
            self._transport.soon(self._inbox.put_nowait, {"type": "lifespan.shutdown"})
            self._stopped.result(self._transport.timeout_s)
