"""What is said about each route: on its view, its view class or method, and the blueprints that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flask import Flask

from turnpike.boundary.route_table import RouteRow
from turnpike.boundary.rules import NO_RULE, RouteRule, merged, rule_of

__all__ = ["route_rows", "rule_of_route"]

_IMPLIED = frozenset({"HEAD", "OPTIONS"})


def rule_of_route(app: Flask, endpoint: str, method: str) -> RouteRule:
    """Return everything that is said about ``endpoint`` when it is asked with ``method``.

    Limits and scopes add up. Whether the route is open is said by what stands closest to the view, so that a view can be
    open in a guarded blueprint, and one that names a limit or a scope is guarded in an open one.
    """
    view = app.view_functions.get(endpoint)
    if _serves_static_files(endpoint, view):
        return RouteRule(exempt=True)
    said = [rule for each in _said_about(app, endpoint, view, method) if (rule := rule_of(each)) != NO_RULE]
    if not said:
        return NO_RULE
    # What stands closest says whether the route is open, and nobody has scopes where it is.
    return replace(merged(*said), exempt=True, scopes=()) if said[0].exempt else replace(merged(*said), exempt=False)


def route_rows(app: Flask) -> Iterator[RouteRow]:
    """Give the application's routes; one whose methods are under different rules is given once for each of these."""
    for route in app.url_map.iter_rules():
        methods = route.methods or set()
        by_rule: dict[RouteRule, list[str]] = {}
        for method in sorted(methods - _IMPLIED or methods):
            by_rule.setdefault(rule_of_route(app, route.endpoint, method), []).append(method)
        for rule, under_it in by_rule.items():
            yield RouteRow(tuple(under_it), route.rule, rule)


def _said_about(app: Flask, endpoint: str, view: Any, method: str) -> Iterator[Any]:
    """Give whatever may carry a mark: what stands closest to the view first, the outermost blueprint last."""
    if (view_class := getattr(view, "view_class", None)) is not None:
        yield _handler_of(view_class, method)
        yield view_class
    yield view
    name = endpoint.rpartition(".")[0]
    while name:
        yield app.blueprints.get(name)
        name = name.rpartition(".")[0]


def _handler_of(view_class: type, method: str) -> Any:
    handler = getattr(view_class, method.lower(), None)
    if handler is None and method == "HEAD":
        handler = getattr(view_class, "get", None)  # as flask.views.MethodView does
    return handler if handler is not None else getattr(view_class, "dispatch_request", None)


def _serves_static_files(endpoint: str, view: Any) -> bool:
    # Flask adds these routes itself. A view of the application's own that is called "static" is guarded like any other.
    return endpoint.rpartition(".")[2] == "static" and (getattr(view, "__module__", None) or "").startswith("flask.")
