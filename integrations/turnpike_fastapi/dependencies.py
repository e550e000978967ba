"""What routes depend on: the admission that guards them, the gateway and the request's attribution.

``admitted`` is ``async`` on purpose: FastAPI runs sync dependencies in a worker thread whose context is thrown away, so
an identity bound there would reach no handler. It does not ``yield``, because some versions of FastAPI, and
``Depends(scope="function")`` in all, end such dependencies before the body is streamed; the middleware unbinds instead.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Security
from fastapi.openapi.models import APIKey
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from turnpike.boundary.admission import Admission
from turnpike.boundary.asgi import request_scope
from turnpike.boundary.rules import RouteRule, merged, rule_of
from turnpike.context import LLMRequestContext, current_binding
from turnpike.frozen import EMPTY
from turnpike.gateway.client import Gateway
from turnpike_fastapi.routes import route_template
from turnpike_fastapi.state import installation_of

__all__ = ["SCHEME_NAME", "DepContext", "DepGateway", "admitted", "context", "gateway"]

SCHEME_NAME = "TurnpikeKey"
"""Name of the security scheme in the OpenAPI document."""


class _DocumentedKey(SecurityBase):
    """Marks guarded routes in the OpenAPI document; the gate reads the header itself, and sees repeated ones.

    FastAPI's own ``APIKeyHeader`` takes a ``Request``, which a WebSocket route does not have.
    """

    def __init__(self) -> None:
        self.model = APIKey.model_validate(
            {"in": "header", "name": "X-API-Key", "description": "API key of the calling application."}
        )
        self.scheme_name = SCHEME_NAME

    async def __call__(self) -> None:
        """Do nothing."""


async def admitted(
    connection: HTTPConnection, security: SecurityScopes, _key: Annotated[None, Security(_DocumentedKey())]
) -> LLMRequestContext:
    """Admit the request, and bind its identity for the handler, the streamed body and the background tasks.

    Guard a router, a route or a WebSocket with ``Depends(admitted)``, or with ``Security(admitted, scopes=[...])`` to
    demand scopes too. However often a route depends on it, a request is admitted, and counted, once.

    In tests, replace it: ``app.dependency_overrides[admitted] = lambda: LLMRequestContext(tenant_id="tester")``.

    Raises:
        Problem: 401, 403, 429, 500 or 503, which ``install`` renders.
        ConfigurationError: if ``install`` has not been called for the route's application.
    """
    installation, scope = installation_of(connection.app), connection.scope
    return await installation.admit_async(
        request_scope(scope),
        connection,
        scope["headers"],
        route=route_template(scope),
        method=scope.get("method", "GET"),
        rule=merged(rule_of(scope.get("endpoint")), RouteRule(scopes=tuple(security.scopes))),
    )


async def context(
    connection: HTTPConnection, who: Annotated[LLMRequestContext | None, Depends(admitted)]
) -> LLMRequestContext:
    """Return who is asking, and guard the route thereby."""
    scope, found = request_scope(connection.scope), who or LLMRequestContext()
    if scope.admission is None and current_binding() is None:
        # A test has put a plain function into the place of `admitted`: what it returned holds for the calls, too.
        return scope.begin(Admission(None, found, route_template(connection.scope), EMPTY))
    return found


async def gateway(connection: HTTPConnection, _who: Annotated[LLMRequestContext, Depends(context)]) -> Gateway:
    """Return the application's gateway, and guard the route thereby."""
    return installation_of(connection.app).gateway


DepGateway = Annotated[Gateway, Depends(gateway)]
"""The application's gateway, on a route that is thereby guarded: ``async def answer(llm: DepGateway)``."""

DepContext = Annotated[LLMRequestContext, Depends(context)]
"""Who is asking, on a route that is thereby guarded: ``async def answer(who: DepContext)``."""
