"""One WebSocket over ASGI: the messages to and from the application, and the client's side of them."""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import Future
from typing import Self

from turnpike.testing.contract.transports.asgi_exchange import Message, Scope, Server
from turnpike.testing.contract.transports.interface import Response, text_of

__all__ = ["WebSocketExchange"]


class WebSocketExchange:
    """One WebSocket. The server's side runs in the loop, the client's in the case's thread."""

    def __init__(self, server: Server, scope: Scope) -> None:
        self._server = server
        self._scope = scope
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._outbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._handshake: Future[None] = Future()
        self._denied: Message | None = None
        self._denied_body = b""
        self._has_left = False
        self.ended: Future[BaseException | None] = Future()
        """What the application raised, once it has returned."""
        self.denial: Response | None = None
        self.headers: tuple[tuple[str, str], ...] = ()

    # ------------------------------------------------------------------------------------------- server's side

    async def run(self, _task: asyncio.Task[None]) -> None:
        """Serve the WebSocket."""
        error: BaseException | None = None
        try:
            await self._server.app(self._scope, self._inbox.get, self._send)
        except Exception as raised:  # noqa: BLE001 - a server survives whatever an application raises
            error = raised
        if not self._handshake.done():
            self._deny(Response(500, (), b"Internal Server Error", error=error))
        self._outbox.put(None)
        self.ended.set_result(error)

    async def _send(self, message: Message) -> None:
        if self._has_left:
            raise OSError("the client has gone")
        kind = message["type"]
        if kind == "websocket.accept":
            self.headers = text_of(list(message.get("headers", ())))
            self._handshake.set_result(None)
        elif kind == "websocket.send":
            self._outbox.put(message.get("text"))
        elif kind == "websocket.close":
            if not self._handshake.done():
                self._deny(Response(403, (), b""))
            self._outbox.put(None)
        else:
            self._take_denial(kind, message)
        await asyncio.sleep(0)

    def _take_denial(self, kind: str, message: Message) -> None:
        assert "websocket.http.response" in self._scope.get("extensions", {}), f"{kind} is not supported here"
        if kind == "websocket.http.response.start":
            self._denied = message
            return
        assert self._denied is not None, "the application has sent a body before the head of the response"
        self._denied_body += message.get("body", b"")
        if not message.get("more_body", False):
            headers = text_of(list(self._denied.get("headers", ())))
            self._deny(Response(self._denied["status"], headers, self._denied_body))

    def _deny(self, response: Response) -> None:
        self.denial = response
        self._handshake.set_result(None)

    # ------------------------------------------------------------------------------------------- client's side

    def wait_for_handshake(self) -> None:
        """Wait until the application has accepted or refused."""
        self._handshake.result(self._server.timeout_s)

    def ask(self, text: str) -> str:
        """Send a message and return the next one that comes."""
        self._tell({"type": "websocket.receive", "text": text})
        try:
            answer = self._outbox.get(timeout=self._server.timeout_s)
        except queue.Empty:
            raise AssertionError(f"no message has come within {self._server.timeout_s:g} s") from None
        assert answer is not None, "the application has closed the WebSocket"
        return answer

    def _tell(self, message: Message) -> None:
        self._server.soon(self._inbox.put_nowait, message)

    def leave(self) -> None:
        """Go away, and wait until the application has returned."""
        self._server.soon(self._gone)
        try:
            self.ended.result(self._server.timeout_s)
        except TimeoutError:
            raise AssertionError("the application still runs though its client has gone") from None

    def _gone(self) -> None:
        if not self._has_left:
            self._has_left = True
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": ""})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
