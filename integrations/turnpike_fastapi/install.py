"""Attaching Turnpike to an application: state, request scopes, problem responses and the gateway's end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response

from turnpike.boundary.admission import Gate
from turnpike.boundary.asgi import RequestScopeMiddleware
from turnpike.boundary.problem import Problem, problem_from
from turnpike.errors import ConfigurationError, TurnpikeError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike_fastapi.state import SCHEME_NAME, Turnpike

__all__ = ["install"]


def install(
    app: FastAPI,
    settings: Settings | Mapping[str, Any] | None = None,
    *,
    gateway: Gateway | None = None,
    gate: Gate | None = None,
) -> None:
    """Attach Turnpike to ``app``, before it serves its first request.

    Middleware that is added later stands outside of Turnpike's. Add CORS after this call, so that refusals carry its
    headers too.

    Args:
        app: the application; a mounted application needs its own call.
        settings: ``Settings``, or a mapping over which the environment is laid; by default the given gateway's, or
            else the environment alone.
        gateway: a gateway of your own, which you close; one that is made here is closed at the application's shutdown.
        gate: a gate of your own, for another key store or limiter.

    Raises:
        ConfigurationError: if Turnpike is installed on ``app`` already.
        SettingsError: naming the setting that is wrong.
    """
    if hasattr(app.state, "turnpike"):
        raise ConfigurationError("Turnpike is installed on this application already. Call install(app, ...) once.")
    if gate is None or gateway is None:
        chosen = gateway.settings if settings is None and gateway is not None else Settings.load(settings)
        gate = gate if gate is not None else Gate(chosen)
        if gateway is None:
            gateway = Gateway(chosen)
            _close_at_shutdown(app, gateway)
    app.state.turnpike = Turnpike(gateway, gate)
    app.add_middleware(RequestScopeMiddleware)
    app.add_exception_handler(Problem, _respond)
    app.add_exception_handler(TurnpikeError, _respond)
    _document_header(app, gate.key_header)


async def _respond(_request: Request, error: Exception) -> Response:
    problem = problem_from(error)
    if problem is None:
        raise error
    return Response(problem.body, problem.status, problem.response_headers)


def _close_at_shutdown(app: FastAPI, gateway: Gateway) -> None:
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncIterator[Any]:
        try:
            async with inner(served) as state:
                yield state
        finally:
            # Outermost, because the application's own shutdown may still want to make a call.
            await gateway.aclose()

    app.router.lifespan_context = lifespan


def _document_header(app: FastAPI, name: str) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemes = document.get("components", {}).get("securitySchemes", {})
        if SCHEME_NAME in schemes:
            schemes[SCHEME_NAME]["name"] = name
        return document

    app.openapi = openapi  # type: ignore[method-assign]
