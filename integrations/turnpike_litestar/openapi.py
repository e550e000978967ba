"""What the OpenAPI document says: how keys are sent, and which routes need one."""

from __future__ import annotations

from copy import copy

from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.router import Router

from turnpike.boundary.admission import Gate
from turnpike.boundary.route_table import RouteRow
from turnpike_litestar.rules import EXEMPT, LIMIT, SCOPES

__all__ = ["SCHEME_NAME", "document_key", "document_route"]

SCHEME_NAME = "TurnpikeKey"
"""Name of the security scheme in the OpenAPI document."""

_DESCRIPTION = "API key of the calling application."


def document_key(config: OpenAPIConfig, gate: Gate, *, opens_pages: bool) -> OpenAPIConfig:
    """Return ``config`` with the security scheme, and with pages that need no key.

    Args:
        config: the application's.
        gate: knows the key's header.
        opens_pages: whether the pages may be opened; those of a router of the application's own are left alone anyway.
    """
    # Copied: by default all applications of a process share one.
    config = copy(config)
    components = config.components if isinstance(config.components, list) else [config.components]
    config.components = [*components, Components(security_schemes={SCHEME_NAME: _scheme(gate.key_header)})]
    if opens_pages and config.openapi_router is None and config.openapi_controller is None:
        # As Litestar makes it, and flags that take back those of the application.
        config.openapi_router = Router(
            config.path or "/schema",
            route_handlers=[],
            include_in_schema=False,
            dto=None,
            return_dto=None,
            opt={EXEMPT: True, LIMIT: [], SCOPES: []},
        )
    return config


def document_route(handler: BaseRouteHandler, row: RouteRow, gate: Gate) -> None:
    """Have the operations of ``handler`` show that they need a key, and with which scopes, if they do."""
    if isinstance(handler, HTTPRouteHandler) and not gate.is_exempt(row.template, row.rule):
        requirement = {SCHEME_NAME: list(row.rule.scopes)}
        security = list(handler.security or ())
        if requirement not in security:
            handler.security = [*security, requirement]


def _scheme(header: str) -> SecurityScheme:
    if header.lower() == "authorization":
        return SecurityScheme(type="http", scheme="bearer", description=_DESCRIPTION)
    return SecurityScheme(type="apiKey", name=header, security_scheme_in="header", description=_DESCRIPTION)
