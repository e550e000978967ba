"""Turnpike around any ASGI application: Starlette, Quart, or a plain function.

    app = TurnpikeMiddleware(app, settings, routes=["/chat/{id}"])

For FastAPI and Litestar there are ``turnpike_fastapi`` and ``turnpike_litestar``, which know more of their frameworks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnpike.boundary.admission import Gate
from turnpike.boundary.asgi import (
    ASGIApp,
    Message,
    Receive,
    RequestScopeMiddleware,
    Scope,
    Send,
    request_scope,
    send_problem,
)
from turnpike.boundary.installation import Identify, Installation
from turnpike.boundary.keys import KeyStore
from turnpike.boundary.problem import problem_from
from turnpike.boundary.route_templates import Route, Routes, finder
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings

__all__ = ["Route", "TurnpikeMiddleware"]


class TurnpikeMiddleware:
    """Admits every HTTP request and WebSocket of ``app``, and binds who sends it while it is served.

    Errors of Turnpike that the application lets through before it has begun to answer become problem responses.

    Args:
        app: the application.
        settings: ``Settings``, or a mapping over which the environment is laid; by default the given gateway's, or else
            the environment alone.
        gateway: a gateway of your own, which you close; one that is made here is closed at the application's shutdown.
        gate: a gate of your own, for another quota store.
        key_store: where keys are looked up, instead of the settings' ``api_keys`` and ``key_file``.
        identify: from the ASGI scope to the principal that sends the request, or ``None`` to look at its key.
        routes: the application's route templates, such as ``/chat/{id}``, or a function from the ASGI scope to the
            template (or to a ``Route``, which has a rule). By default Starlette's own routes are used where ``app`` has
            them; what matches none is named ``unmatched``.

    Raises:
        SettingsError: naming the setting that is wrong.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        gateway: Gateway | None = None,
        gate: Gate | None = None,
        key_store: KeyStore | None = None,
        identify: Identify | None = None,
        routes: Routes | None = None,
    ) -> None:
        self.app: ASGIApp = app
        self.installation: Installation = Installation.build(
            settings, gateway=gateway, gate=gate, key_store=key_store, identify=identify
        )
        """The gateway and the gate."""
        if routes is None and (known := _starlette_routes(app)) is not None:
            routes = known
        self._route_of = finder(routes, _path)
        self._guarded = RequestScopeMiddleware(self._admit)

    @property
    def gateway(self) -> Gateway:
        """The gateway through which the application's handlers call."""
        return self.installation.gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        answering = _Answering(send)
        try:
            route = self._route_of(scope)
            method = scope.get("method", "GET")
            owned = request_scope(scope)
            await self.installation.admit_async(
                owned, scope, scope["headers"], route=route.template, method=method, rule=route.rule
            )
            await self.app(scope, receive, answering.send)
        except Exception as error:
            problem = None if answering.has_begun else problem_from(error)
            if problem is None:
                raise
            await send_problem(problem, scope, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_then_close(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.installation.aclose()
            await send(message)

        await self.app(scope, receive, send_then_close)


class _Answering:
    """Knows whether the application has begun to answer."""

    __slots__ = ("_send", "has_begun")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def send(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)


def _path(scope: Scope) -> str:
    path = str(scope["path"])
    root = str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


def _starlette_routes(app: Any) -> Routes | None:
    """Return how to find a request's route among those of a Starlette application, or ``None`` for another one."""
    if getattr(app, "routes", None) is None or not hasattr(app, "router"):
        return None
    from turnpike.boundary.starlette_routes import find_route

    return lambda scope: find_route(app.routes, scope)
