"""A view's route as its author wrote it, and what is said about it: by marks on the view, or in the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from django.conf import settings as django_settings
from django.contrib.admindocs.utils import (
    remove_non_capturing_groups,
    replace_metacharacters,
    replace_named_groups,
    replace_unnamed_groups,
)
from django.urls import URLPattern, URLResolver, get_resolver

from turnpike.boundary.route_table import RouteRow
from turnpike.boundary.rules import NO_RULE, RouteRule, merged, rule_of
from turnpike.settings import Settings

__all__ = ["rows", "rule_for", "template_of"]

_REGEX = re.compile(r"\^|\$\Z|\(\?|\\")  # much like what Django's own check 2_0.W001 takes for a regular expression
_SIMPLIFY = (remove_non_capturing_groups, replace_named_groups, replace_unnamed_groups, replace_metacharacters)

_EXEMPT = RouteRule(exempt=True)


@lru_cache(maxsize=4096)
def template_of(route: str) -> str:
    """Return the template of a ``ResolverMatch.route``: ``/chat/<int:n>``, and ``/chat/<n>`` for a ``re_path``."""
    if _REGEX.search(route):
        for simplify in _SIMPLIFY:
            route = simplify(route)
    return route if route.startswith("/") else "/" + route


def rule_for(view: Any, method: str, template: str, settings: Settings) -> RouteRule:
    """Return what is said about requests with ``method`` to ``view``.

    Marks on a class-based view count for all of its methods, marks on one of its methods for that alone.
    """
    view_class = getattr(view, "view_class", None)
    handler = None if view_class is None else getattr(view_class, method.lower(), None)
    if handler is None and method == "HEAD":
        handler = getattr(view_class, "get", None)  # which is what Django answers it with
    return merged(rule_of(view), rule_of(view_class), rule_of(handler), _written(template, settings))


def _written(template: str, settings: Settings) -> RouteRule:
    """Return the rule of a template that an entry such as ``/admin/*`` under ``exempt`` covers."""
    for entry in settings.exempt:
        if entry.endswith("*") and template.startswith(entry[:-1]):
            return _EXEMPT
    return NO_RULE


def rows(settings: Settings) -> Iterator[RouteRow]:
    """Give the project's routes, one row for each rule that a route has."""
    if not getattr(django_settings, "ROOT_URLCONF", None):
        return
    for pattern, route in _patterns(get_resolver(), ""):
        template, view = template_of(route), pattern.callback
        view_class = getattr(view, "view_class", None)
        if view_class is None:
            yield RouteRow((), template, rule_for(view, "", template, settings))
            continue
        # Every view class answers OPTIONS, and no OPTIONS request is asked for anything.
        methods = [
            name.upper() for name in view_class.http_method_names if name != "options" and hasattr(view_class, name)
        ]
        by_rule: dict[RouteRule, list[str]] = {}
        for method in methods:
            by_rule.setdefault(rule_for(view, method, template, settings), []).append(method)
        for rule, named in by_rule.items():
            yield RouteRow(tuple(named), template, rule)


def _patterns(resolver: URLResolver, prefix: str) -> Iterator[tuple[URLPattern, str]]:
    for pattern in resolver.url_patterns:
        # As Django joins them for ResolverMatch.route.
        own = str(pattern.pattern)
        route = prefix + own.removeprefix("^") if prefix else own
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern, route)
        else:
            yield pattern, route
