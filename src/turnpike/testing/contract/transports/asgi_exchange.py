"""One HTTP request over ASGI: the messages to and from the application, and the client's side of them."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from typing import Any, Protocol, Self

from turnpike.testing.contract.transports.interface import Leaving, Response, text_of

__all__ = ["ASGIApp", "HttpExchange", "Message", "Scope", "Server"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
ASGIApp = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Server(Protocol):
    """What an exchange asks of the transport."""

    app: ASGIApp
    timeout_s: float

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` in the loop's thread."""
        ...


class HttpExchange:
    """One request. The server's side runs in the loop, the client's in the case's thread."""

    def __init__(self, server: Server, scope: Scope, body: bytes, leaving: Leaving = "told") -> None:
        self._server = server
        self._scope = scope
        self._leaving = leaving
        if leaving == "refused":
            scope["asgi"] = {**scope["asgi"], "spec_version": "2.4"}
        self._request: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._is_over = asyncio.Event()
        self._has_left = False
        self._start: Message | None = None
        self._is_complete = False
        self._has_read_all = False
        self._body: list[bytes] = []
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._head: Future[None] = Future()
        self._task: asyncio.Task[None] | None = None
        self.response: Future[Response] = Future()
        """The whole response, once the application has returned."""
        self.status: int = 0
        self.headers: tuple[tuple[str, str], ...] = ()

    # ------------------------------------------------------------------------------------------- server's side

    async def run(self, task: asyncio.Task[None]) -> None:
        """Serve the request in ``task``."""
        self._task = task
        error: BaseException | None = None
        try:
            await self._server.app(self._scope, self._receive, self._send)
        except asyncio.CancelledError as cancelled:
            error = cancelled
            task.uncancel()
        except Exception as raised:  # noqa: BLE001 - a server survives whatever an application raises
            error = raised
        self._end(error)

    async def _receive(self) -> Message:
        if self._request is not None:
            request, self._request = self._request, None
            return request
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._has_left:
            if self._leaving == "refused":
                raise OSError("the client has gone")
            return
        if message["type"] == "http.response.start":
            assert self._start is None, "the application has begun to answer twice"
            self._start = message
            self.status, self.headers = message["status"], text_of(list(message.get("headers", ())))
            self._head.set_result(None)
        elif message["type"] == "http.response.body":
            self._take(message)
        # A server's send() waits for its buffers; without that, an application could send all in one go.
        await asyncio.sleep(0)

    def _take(self, message: Message) -> None:
        assert self._start is not None, "the application has sent a body before the head of the response"
        assert not self._is_complete, "the application has sent more after the end of the response"
        if piece := bytes(message.get("body", b"")):
            self._body.append(piece)
            self._pieces.put(piece)
        if not message.get("more_body", False):
            self._is_complete = True
            self._pieces.put(b"")
            self._is_over.set()

    def _end(self, error: BaseException | None) -> None:
        self._is_over.set()
        if self._start is None and error is None and not self._has_left:
            error = AssertionError("the application has returned without a response")
        if self._start is None:
            self.status, self.headers, self._body = 500, (), [b"Internal Server Error"]
            self._head.set_result(None)
        self._pieces.put(b"")
        body = b"".join(self._body)
        self.response.set_result(
            Response(self.status, self.headers, body, self._is_complete or self._start is None, error)
        )

    # ------------------------------------------------------------------------------------------- client's side

    def wait_for_head(self) -> None:
        """Wait for the head of the response."""
        self._head.result(self._server.timeout_s)

    def read(self) -> bytes:
        """Return the next piece of the body, empty at its end."""
        if self._has_read_all:
            return b""
        try:
            piece = self._pieces.get(timeout=self._server.timeout_s)
        except queue.Empty:
            raise AssertionError(f"no piece of the body has come within {self._server.timeout_s:g} s") from None
        self._has_read_all = not piece
        return piece

    def rest(self) -> bytes:
        """Return what is left of the body."""
        pieces = []
        while piece := self.read():
            pieces.append(piece)
        return b"".join(pieces)

    def leave(self) -> None:
        """Go away before the end."""
        self._server.soon(self._gone)

    def _gone(self) -> None:
        self._has_left = True
        if self._leaving == "cancelled" and self._task is not None and not self.response.done():
            self._task.cancel()
        else:
            self._is_over.set()

    def result(self) -> Response:
        """Wait until the application has returned, and return the response as far as it came."""
        try:
            return self.response.result(self._server.timeout_s)
        except TimeoutError:
            raise AssertionError("the application still runs though its client has gone") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.response.done():
            self.leave()
