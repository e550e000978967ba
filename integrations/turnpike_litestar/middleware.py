"""The middleware that admits requests and WebSockets, where Litestar already knows their route.

It is the innermost one of the application's own layer, so that sessions and authentication of the application's can tell
who is asking. What it refuses over HTTP it raises, for Litestar's exception handlers to render.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from turnpike.boundary.asgi import Message, Receive, RequestScopeMiddleware, Scope, Send, request_scope, send_problem
from turnpike.boundary.installation import Installation
from turnpike.boundary.problem import Problem, problem_from
from turnpike.boundary.route_table import RouteRow
from turnpike.boundary.scope import REQUEST_FAILED
from turnpike.errors import ConfigurationError, TurnpikeError

__all__ = ["ROW", "TurnpikeMiddleware", "check_scopes", "note_error"]

ROW = "turnpike"
"""Key of a handler's ``opt`` under which the plugin leaves its ``RouteRow``."""

_GATE, _PROBLEM, _FAILED = "turnpike.gate", "turnpike.problem", "turnpike.failed"
_INTERNAL_ERROR, _POLICY_VIOLATION = 1011, 1008  # RFC 6455, section 7.4.1


class TurnpikeMiddleware:
    """Gives every request a scope, and admits it before anything below it runs.

    Args:
        installation: the gate, and how the application knows who sends a request.
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Put the middleware around ``app``, once for each route."""
        around: Any = RequestScopeMiddleware(partial(self._serve, app))
        wrapped: ASGIApp = around
        return wrapped

    async def _serve(self, app: Any, scope: Scope, receive: Receive, send: Send) -> None:
        is_websocket = scope["type"] == "websocket"
        try:
            await self._admit(scope, receive, send)
        except Exception as error:
            if not is_websocket or (problem := problem_from(error)) is None:
                raise
            await send_problem(problem, scope, send)
            return
        await app(scope, receive, _Closing(scope, send).send if is_websocket else send)
        if _FAILED in scope:
            # Litestar has answered the error below, so that the response is complete all the same.
            owned = request_scope(scope)
            owned.finish(owned.end_reason or REQUEST_FAILED)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = scope["route_handler"]
        row: RouteRow = handler.opt[ROW]
        scope[_GATE] = self._installation.gate
        connection: Any = ASGIConnection(scope, receive, send)  # type: ignore[arg-type]
        await self._installation.admit_async(
            request_scope(scope),
            connection,
            scope["headers"],
            # A handler may have several paths; but of a mounted application, the scope does not have the template.
            route=row.template if getattr(handler, "is_mount", False) else scope["path_template"],
            method=scope.get("method", "GET"),
            rule=row.rule,
        )


def check_scopes(scope: Any, scopes: Sequence[str]) -> None:
    """Refuse an admitted request whose principal lacks one of ``scopes``.

    Raises:
        Problem: 403, with the scopes that are required.
        ConfigurationError: if the application has no plugin, and so admits nobody.
    """
    admission, gate = request_scope(scope).admission, scope.get(_GATE)
    if admission is None or gate is None:
        raise ConfigurationError("A guard requires scopes, but nothing admits requests. Add TurnpikePlugin to plugins.")
    gate.check_scopes(admission, scopes)


async def note_error(error: Exception, scope: Any) -> None:
    """Keep what an error means to the request's streams, and to a WebSocket's client: Litestar closes each alike."""
    if isinstance(error, (Problem, TurnpikeError)):
        if scope["type"] == "websocket":
            scope[_PROBLEM] = problem_from(error)
    elif not isinstance(error, HTTPException):
        scope[_FAILED] = True


class _Closing:
    """Closes a WebSocket that an error of Turnpike's has ended as every stack does, or refuses it if it is not open yet."""

    __slots__ = ("_is_open", "_scope", "_send")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._is_open = False

    async def send(self, message: Message) -> None:
        problem: Problem | None = self._scope.get(_PROBLEM)
        if problem is not None and message["type"] == "websocket.close":
            if not self._is_open:
                await send_problem(problem, self._scope, self._send)
                return
            code = _POLICY_VIOLATION if problem.status < 500 else _INTERNAL_ERROR
            message = {**message, "code": code, "reason": problem.title}
        elif message["type"] == "websocket.accept":
            self._is_open = True
        await self._send(message)
