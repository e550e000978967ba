"""ASGI middleware that gives every HTTP request and WebSocket a scope and announces its quota, for any ASGI framework.

It is pure ASGI: a wrapper that hands the response through a queue would end before the streamed body does. It admits
nobody and renders nothing; the adapter does that inside, where the route is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from turnpike.boundary.problem import Problem
from turnpike.boundary.scope import ABANDONED, CLIENT_DISCONNECTED, REQUEST_FAILED, RequestScope
from turnpike.context import unbound
from turnpike.errors import ConfigurationError

__all__ = ["ASGIApp", "Receive", "RequestScopeMiddleware", "Scope", "Send", "request_scope", "send_problem"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_SCOPE_KEY = "turnpike.request"
_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_POLICY_VIOLATION = 1008


def request_scope(scope: Mapping[str, Any]) -> RequestScope:
    """Return the request's scope from its ASGI scope.

    Raises:
        ConfigurationError: if the request did not come through ``RequestScopeMiddleware``.
    """
    found = scope.get(_SCOPE_KEY)
    if not isinstance(found, RequestScope):
        raise ConfigurationError(
            "This request did not come through turnpike.boundary.asgi.RequestScopeMiddleware. Let the adapter install "
            "it, or put it around the application."
        )
    return found


async def send_problem(problem: Problem, scope: Mapping[str, Any], send: Send) -> None:
    """Refuse a request that has not been answered yet.

    A WebSocket is refused with the same response where the server can send one in place of the handshake (the ASGI
    extension ``websocket.http.response``), and otherwise closed with code 1008, which servers answer with a bare 403.
    """
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": problem.title})
            return
        kind = "websocket.http.response"
    headers = {**problem.response_headers, "Content-Length": str(len(problem.body))}
    raw = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": f"{kind}.start", "status": problem.status, "headers": raw})
    await send({"type": f"{kind}.body", "body": problem.body, "more_body": False})


class RequestScopeMiddleware:
    """Opens a ``RequestScope`` for each HTTP request or WebSocket and finishes it when the application returns or raises."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] not in ("http", "websocket") or _SCOPE_KEY in scope:
            # An application mounted inside another one shares the outer request's scope.
            await self.app(scope, receive, send)
            return
        owned = scope[_SCOPE_KEY] = RequestScope()
        exchange = _Exchange(owned, receive, send)
        # Identity comes from the request's own key, whatever is bound around the server; and whatever the request
        # leaves behind is undone, because some servers run many requests in one context.
        with unbound():
            await self._serve(scope, exchange, owned)

    async def _serve(self, scope: Scope, exchange: _Exchange, owned: RequestScope) -> None:
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            # What some servers do to a request whose client is gone.
            exchange.client_left()
            raise
        except BaseException:
            exchange.has_failed = True
            raise
        finally:
            owned.finish(exchange.ending)


class _Exchange:
    """Watches the messages of one request and its response as they pass."""

    __slots__ = ("_receive", "_scope", "_send", "has_failed", "is_complete")

    def __init__(self, scope: RequestScope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.is_complete = False
        self.has_failed = False

    @property
    def ending(self) -> str:
        """Why streams that are still open now are finished."""
        if self.is_complete:
            return ABANDONED
        # A client that leaves makes applications fail, so its leaving is the cause even then.
        return self._scope.end_reason or (REQUEST_FAILED if self.has_failed else CLIENT_DISCONNECTED)

    def client_left(self) -> None:
        if not self.is_complete:
            # Said before the framework cancels the body, so that a stream which dies of that can say why.
            self._scope.end_reason = CLIENT_DISCONNECTED

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            self.client_left()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] in _STARTS:
            message = self._announce(message)
        # Said before: once the last of it is on its way, a server may tell of the client's leaving before send() returns.
        self.is_complete = self.is_complete or _ends(message)
        try:
            await self._send(message)
        except OSError:
            self.is_complete = False
            self.client_left()
            raise

    def _announce(self, message: Message) -> Message:
        """Add the quota's headers, whatever kind of response the handler made."""
        announced = self._scope.headers
        if not announced:
            return message
        headers = list(message.get("headers") or ())
        present = {bytes(name).lower() for name, _ in headers}
        for name, value in announced.items():
            if (raw := name.lower().encode("ascii")) not in present:
                headers.append((raw, value.encode("ascii")))
        return {**message, "headers": headers}


def _ends(message: Message) -> bool:
    kind = message["type"]
    if kind in ("http.response.body", "websocket.http.response.body"):
        return not message.get("more_body", False)
    return bool(kind == "websocket.close")
