"""Attaching Turnpike to an application: state, request scopes, problem responses, its start and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.websockets import WebSocketState

from turnpike.boundary.admission import Gate
from turnpike.boundary.asgi import RequestScopeMiddleware, send_problem
from turnpike.boundary.installation import Identify, Installation
from turnpike.boundary.keys import KeyStore
from turnpike.boundary.problem import Problem, problem_from
from turnpike.errors import ConfigurationError, TurnpikeError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike_fastapi.rules import check_rules, document_keys

__all__ = ["install"]

_INTERNAL_ERROR, _POLICY_VIOLATION = 1011, 1008  # RFC 6455, section 7.4.1


def install(
    app: FastAPI,
    settings: Settings | Mapping[str, Any] | None = None,
    *,
    gateway: Gateway | None = None,
    gate: Gate | None = None,
    key_store: KeyStore | None = None,
    identify: Identify | None = None,
) -> Installation:
    """Attach Turnpike to ``app``, before it serves its first request.

    Middleware that is added later stands outside of Turnpike's. Add CORS after this call, so that refusals carry its
    headers too.

    Args:
        app: the application; a mounted application needs its own call.
        settings: ``Settings``, or a mapping over which the environment is laid; by default the given gateway's, or
            else the environment alone.
        gateway: a gateway of your own, which you close; one that is made here is closed at the application's shutdown.
        gate: a gate of your own, for another quota store.
        key_store: where keys are looked up, instead of the settings' ``api_keys`` and ``key_file``.
        identify: from the ``Request`` or ``WebSocket`` to the principal that sends it, or ``None`` to look at its key. It
            may be a coroutine function.

    Returns:
        The gateway and the gate, also at ``app.state.turnpike``.

    Raises:
        ConfigurationError: if Turnpike is installed on ``app`` already, or both ``gate`` and ``key_store`` are given.
        SettingsError: naming the setting that is wrong.
    """
    if hasattr(app.state, "turnpike"):
        raise ConfigurationError("Turnpike is installed on this application already. Call install(app, ...) once.")
    installation = Installation.build(settings, gateway=gateway, gate=gate, key_store=key_store, identify=identify)
    app.state.turnpike = installation
    app.add_middleware(RequestScopeMiddleware)
    for kind in (Problem, TurnpikeError):
        app.add_exception_handler(kind, _respond)  # type: ignore[arg-type]
    document_keys(app, installation.gate)
    _live(app, installation)
    return installation


async def _respond(connection: HTTPConnection, error: Exception) -> Response | None:
    problem = problem_from(error)
    if problem is None:
        raise error
    if not isinstance(connection, WebSocket):
        return Response(problem.body, problem.status, problem.response_headers)
    if connection.application_state is WebSocketState.CONNECTING:
        await send_problem(problem, connection.scope, connection.send)
    elif connection.application_state is WebSocketState.CONNECTED:
        await connection.close(_POLICY_VIOLATION if problem.status < 500 else _INTERNAL_ERROR, problem.title)
    return None


def _live(app: FastAPI, installation: Installation) -> None:
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncIterator[Any]:
        try:
            async with inner(served) as state:
                # By now the application's own start has added its last routes.
                check_rules(app)
                yield state
        finally:
            # Outermost, because the application's own shutdown may still want to make a call.
            await installation.aclose()

    app.router.lifespan_context = lifespan
