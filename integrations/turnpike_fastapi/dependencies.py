"""What routes depend on: the admission that guards them, the gateway and the request's attribution.

``admitted`` is ``async`` on purpose: FastAPI runs sync dependencies in a worker thread whose context is thrown away, so
an identity bound there would reach no handler. It does not ``yield``, because some versions of FastAPI, and
``Depends(scope="function")`` in all, end such dependencies before the body is streamed; the middleware unbinds instead.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from turnpike.boundary.asgi import request_scope
from turnpike.context import LLMRequestContext
from turnpike.gateway.client import Gateway
from turnpike_fastapi.routes import route_template
from turnpike_fastapi.state import SCHEME_NAME, turnpike_of

__all__ = ["DepContext", "DepGateway", "admitted"]

# It only marks guarded routes in the OpenAPI document: the gate reads the header itself, and sees repeated ones.
_documented_key = APIKeyHeader(
    name="X-API-Key", scheme_name=SCHEME_NAME, description="API key of the calling application.", auto_error=False
)


async def admitted(request: Request, _key: Annotated[str | None, Security(_documented_key)]) -> LLMRequestContext:
    """Admit the request, and bind its identity for the handler, the streamed body and the background tasks.

    Guard a router or a route with ``dependencies=[Depends(admitted)]``. However often a route depends on it, a request
    is admitted, and counted, once.

    In tests, replace it through ``app.dependency_overrides[admitted]``.

    Raises:
        Problem: 401, 429 or 500, which ``install`` renders.
        ConfigurationError: if ``install`` has not been called for the route's application.
    """
    turnpike, scope = turnpike_of(request.app), request_scope(request.scope)
    if scope.admission is not None:
        return scope.admission.context
    route = route_template(request.scope)
    admission = turnpike.gate.admit(request.scope["headers"], route=route, method=request.method)
    return scope.begin(admission)


async def _gateway(request: Request, _admitted: Annotated[LLMRequestContext, Depends(admitted)]) -> Gateway:
    return turnpike_of(request.app).gateway


DepGateway = Annotated[Gateway, Depends(_gateway)]
"""The application's gateway, on a route that is thereby guarded: ``async def answer(llm: DepGateway)``."""

DepContext = Annotated[LLMRequestContext, Depends(admitted)]
"""Who is asking, on a route that is thereby guarded: ``async def answer(who: DepContext)``."""
