"""Finding the template of the route that a request is for, where no framework tells.

A template, never the concrete path, names a route: in limits, policies and telemetry each path would be a name of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from turnpike.boundary.rules import NO_RULE, RouteRule
from turnpike.errors import SettingsError

__all__ = ["UNMATCHED", "FindRoute", "Route", "RouteTemplates", "Routes", "finder"]

UNMATCHED = "unmatched"
"""Name of the route of requests that match no template."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")


class Route(NamedTuple):
    """The route of a request."""

    template: str
    rule: RouteRule = NO_RULE


FindRoute = Callable[[Any], "Route | str | None"]
"""From the ASGI scope or WSGI environment of a request to its route, or just its template; ``None`` if none matches."""
Routes = Iterable[str] | FindRoute


class RouteTemplates:
    """Templates with ``{name}`` for one segment of a path and ``{name:path}`` for any number; the first match counts.

    Raises:
        SettingsError: if a template does not begin with a slash.
    """

    def __init__(self, templates: Iterable[str]) -> None:
        self._patterns: list[tuple[re.Pattern[str], str]] = [(_pattern(each), each) for each in templates]

    def find(self, path: str) -> str | None:
        """Return the template that ``path`` matches."""
        return next((template for pattern, template in self._patterns if pattern.fullmatch(path)), None)


def finder(routes: Routes | None, path_of: Callable[[Any], str]) -> Callable[[Any], Route]:
    """Return the function that finds a request's route.

    Args:
        routes: templates, or a function that knows the routes; ``None`` knows none.
        path_of: from the request to its path.
    """
    if callable(routes):
        return _asking(routes)
    templates = RouteTemplates(routes or ())
    return _asking(lambda request: templates.find(path_of(request)))


def _asking(find: FindRoute) -> Callable[[Any], Route]:
    def route_of(request: Any) -> Route:
        found = find(request)
        if isinstance(found, Route):
            return found
        return Route(found if found is not None else UNMATCHED)

    return route_of


def _pattern(template: str) -> re.Pattern[str]:
    if not template.startswith("/"):
        raise SettingsError(f"Route template '{template}' must begin with a slash.")
    parts, end = [], 0
    for placeholder in _PLACEHOLDER.finditer(template):
        parts += [re.escape(template[end : placeholder.start()]), ".+" if placeholder[2] else "[^/]+"]
        end = placeholder.end()
    return re.compile("".join(parts) + re.escape(template[end:]), re.DOTALL)
