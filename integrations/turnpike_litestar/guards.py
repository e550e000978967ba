"""Guards authorize and nothing else: the middleware has admitted the request, and bound who sends it, before they run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from turnpike.boundary.rules import requires
from turnpike_litestar.middleware import check_scopes

__all__ = ["requires_scopes"]


def requires_scopes(*scopes: str) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]:
    """Return a guard that refuses principals without all of ``scopes`` (403): ``guards=[requires_scopes("llm:call")]``.

    It is for applications, routers and controllers; on a handler, ``@requires`` says the same. As with all guards, a layer
    below cannot take it back: no route under it can be exempt.

    Args:
        scopes: names of scopes.

    Raises:
        TypeError: if no scope is named.
    """

    # Marked, so that the scopes are known wherever the route's rule is: in the OpenAPI document, in `litestar turnpike
    # routes`, and before a WebSocket is accepted.
    @requires(*scopes)
    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        check_scopes(connection.scope, scopes)

    return guard
