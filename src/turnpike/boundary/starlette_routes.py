"""The template of the route among a Starlette application's that will serve a request, found before Starlette looks.

Starlette is not imported: its routes are recognised by what they offer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from turnpike.boundary.route_templates import Route
from turnpike.boundary.rules import rule_of

__all__ = ["find_route"]

_FULL = 2  # starlette.routing.Match.FULL
_PARTIAL = 1  # the path matches, the method does not: answered with 405


def find_route(routes: Iterable[Any], scope: Mapping[str, Any]) -> Route | None:
    """Return the route that serves the request, with the prefixes of the mounts that lead to it."""
    partial: Route | None = None
    for route in routes:
        match, child = route.matches(scope)
        if match.value == _FULL:
            return _named(route, scope, child)
        if match.value == _PARTIAL and partial is None:
            partial = _named(route, scope, child)
    return partial


def _named(route: Any, scope: Mapping[str, Any], child: Mapping[str, Any]) -> Route | None:
    if (included := getattr(route, "effective_route_contexts", None)) is not None:
        # FastAPI includes routers lazily: what looks like one route stands for all of a router's.
        return find_route([each.starlette_route or each for each in included()], scope)
    path = str(getattr(route, "path", ""))
    inner = getattr(route, "routes", None)
    if not inner:
        return Route(path or "/", rule_of(getattr(route, "endpoint", None)))
    found = find_route(inner, {**scope, **child})
    return None if found is None else Route(path + found.template, found.rule)
