"""What the layers of a route say about it: by decorators, by guards and by ``opt`` flags.

Flags are inherited as Litestar merges ``opt``: the layer closest to the handler wins. Decorators and guards add up. What
contradicts itself is refused where the application is made, for either reading would surprise somebody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from litestar.handlers import BaseRouteHandler, WebsocketRouteHandler
from litestar.handlers.websocket_handlers import WebsocketListenerRouteHandler
from litestar.routes.base import BaseRoute
from litestar.utils.helpers import unwrap_partial

from turnpike.boundary.route_table import RouteRow
from turnpike.boundary.rules import RouteRule, merged, rule_of
from turnpike.errors import ConfigurationError

__all__ = ["EXEMPT", "LIMIT", "SCOPES", "handlers_of", "row_of"]

EXEMPT = "turnpike_exempt"
"""``opt`` flag: ``True`` opens the route to everyone."""
LIMIT = "turnpike_limit"
"""``opt`` flag: the name, or a list of names, of further limits."""
SCOPES = "turnpike_scopes"
"""``opt`` flag: a scope, or a list of scopes, that a principal must have."""

_PREFIX = "turnpike_"


def handlers_of(route: BaseRoute) -> Sequence[BaseRouteHandler]:
    """Return the handlers of ``route``, among them the one by which Litestar answers ``OPTIONS`` itself."""
    several: Sequence[BaseRouteHandler] | None = getattr(route, "route_handlers", None)
    return [route.route_handler] if several is None else several  # type: ignore[attr-defined]


def row_of(route: BaseRoute, handler: BaseRouteHandler) -> RouteRow:
    """Return what is known of ``handler`` on ``route``.

    Raises:
        ConfigurationError: if an ``opt`` flag of Turnpike's is unknown or has a wrong value, or a route that needs no key
            has limits or scopes.
    """
    layers = handler.ownership_layers
    guards = [guard for layer in layers for guard in layer.guards or ()]
    function = _function(handler)
    marked = [*layers, *guards, getattr(function, "__self__", None), function]
    template = route.path_format
    rule = merged(_rule_of_flags(handler.opt, template), *map(rule_of, marked))
    if rule.exempt and (rule.limits or rule.scopes):
        named = ", ".join((*rule.limits, *rule.scopes))
        raise ConfigurationError(
            f"Route '{template}' is exempt, so that nobody is known there who could be counted or have scopes, and its "
            f"layers name limits or scopes for it: {named}. Take one of them back. A layer below takes a flag back with "
            f'opt={{"{EXEMPT}": False}}, {{"{LIMIT}": []}} or {{"{SCOPES}": []}}; decorators and guards add up.'
        )
    return RouteRow(_methods(handler), template, rule)


def _methods(handler: BaseRouteHandler) -> tuple[str, ...]:
    if isinstance(handler, WebsocketRouteHandler):
        return ("WEBSOCKET",)
    return tuple(sorted(getattr(handler, "http_methods", ())))


def _function(handler: BaseRouteHandler) -> Any:
    """Return the function or method that the application's author wrote."""
    function: Any = handler.fn
    if isinstance(handler, WebsocketListenerRouteHandler):
        # It wraps what it decorates, and says so nowhere else. Without this, marks on listeners would be without effect.
        function = function._fn
    return unwrap_partial(function)


def _rule_of_flags(opt: Mapping[str, Any], template: str) -> RouteRule:
    for key in opt:
        if key.startswith(_PREFIX) and key not in (EXEMPT, LIMIT, SCOPES):
            raise ConfigurationError(
                f"Route '{template}' has the unknown opt flag '{key}'. There are {EXEMPT}, {LIMIT} and {SCOPES}."
            )
    exempt = opt.get(EXEMPT, False)
    if not isinstance(exempt, bool):
        raise ConfigurationError(f"Route '{template}' has a wrong opt flag '{EXEMPT}': write True or False.")
    return RouteRule(exempt, _names(opt, LIMIT, template), _names(opt, SCOPES, template))


def _names(opt: Mapping[str, Any], key: str, template: str) -> tuple[str, ...]:
    written = opt.get(key) or ()
    names = (written,) if isinstance(written, str) else written
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"Route '{template}' has a wrong opt flag '{key}': write a name or a list of names.")
    return tuple(names)
