"""What routes say of themselves, checked when the application starts and shown in its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from turnpike.boundary.admission import Gate
from turnpike.boundary.route_table import RouteRow, unknown_limits
from turnpike.boundary.rules import rule_of
from turnpike.errors import ConfigurationError
from turnpike_fastapi.dependencies import SCHEME_NAME, admitted
from turnpike_fastapi.routes import own_routes
from turnpike_fastapi.state import installation_of

__all__ = ["check_rules", "document_keys"]


def check_rules(app: FastAPI) -> None:
    """Look for marks that would be without effect, on ``app`` and on the applications mounted below it.

    Raises:
        ConfigurationError: if a route names a limit that the settings do not have, or is marked with ``limit`` or
            ``requires`` and guarded by nothing.
    """
    gate, rows = installation_of(app).gate, []
    for route in own_routes(app):
        mounted = getattr(route, "app", None)
        if isinstance(mounted, FastAPI) and hasattr(mounted.state, "turnpike"):
            check_rules(mounted)
        rows.append(_row(route))
    for row in rows:
        if not row.guarded and (row.rule.limits or row.rule.scopes):
            raise ConfigurationError(
                f"Route '{row.template}' is marked with limit or requires, but nothing guards it, so everyone may use it. "
                "Add dependencies=[Depends(admitted)] to it or to its router."
            )
    for template, name in unknown_limits(rows, gate):
        raise ConfigurationError(
            f"Route '{template}' names the limit '{name}', which the settings do not have. Write it there: "
            f'limits: {{"{name}": "10/minute"}}.'
        )


def document_keys(app: FastAPI, gate: Gate) -> None:
    """Have the OpenAPI document name the right header, leave exempt routes open and tell the scopes that routes require."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemes = document.get("components", {}).get("securitySchemes", {})
        if SCHEME_NAME in schemes:
            schemes[SCHEME_NAME] = _scheme(schemes[SCHEME_NAME], gate.key_header)
            for route in own_routes(app):
                for operation in _operations(document, route):
                    _document(operation, _row(route), gate)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _row(route: Any) -> RouteRow:
    return RouteRow(
        methods=tuple(getattr(route, "methods", None) or ()),
        template=str(getattr(route, "path", "")),
        rule=rule_of(getattr(route, "endpoint", None)),
        guarded=_guards(getattr(route, "dependant", None)),
    )


def _guards(dependant: Any) -> bool:
    if dependant is None:
        return False
    return dependant.call is admitted or any(_guards(inner) for inner in dependant.dependencies)


def _scheme(scheme: dict[str, Any], header: str) -> dict[str, Any]:
    if header.lower() == "authorization":
        return {"type": "http", "scheme": "bearer", "description": scheme["description"]}
    return {**scheme, "name": header}


def _operations(document: dict[str, Any], route: Any) -> Iterator[dict[str, Any]]:
    by_method = document["paths"].get(getattr(route, "path_format", None), {})
    for method in getattr(route, "methods", None) or ():
        if (operation := by_method.get(method.lower())) is not None:
            yield operation


def _document(operation: dict[str, Any], row: RouteRow, gate: Gate) -> None:
    # FastAPI hands out the same document each time, so this must come to the same when it is done again.
    security = operation.pop("security", [])
    own = [each for each in security if SCHEME_NAME in each]
    described = [each for each in security if SCHEME_NAME not in each]
    if own and not gate.is_exempt(row.template, row.rule):
        scopes = [scope for each in own for scope in each[SCHEME_NAME]]
        described.insert(0, {SCHEME_NAME: list(dict.fromkeys((*scopes, *row.rule.scopes)))})
    if described:
        operation["security"] = described
