"""What a handler says about its own route: open to everyone, in a class of limits, or for certain scopes only.

The decorators mark the function and return it unchanged, so they stand above or below a framework's own route decorator,
and one rule reads the same in every stack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["NO_RULE", "RouteRule", "exempt", "limit", "merged", "requires", "rule_of"]

_ATTRIBUTE = "__turnpike_rule__"

HandlerT = TypeVar("HandlerT")


@dataclass(frozen=True, slots=True)
class RouteRule:
    """The boundary's rule of one route.

    Attributes:
        exempt: whether the route needs no key. Scopes stand above it: a route that requires some is guarded.
        limits: names of further limits, from ``Settings.limits``.
        scopes: what a principal must be allowed, all of them.
    """

    exempt: bool = False
    limits: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


NO_RULE = RouteRule()
"""The rule of a route that nothing is said about: it needs a key, and the limits that hold for all."""


def exempt(handler: HandlerT) -> HandlerT:
    """Let everyone use this handler's route, without a key; calls made there are attributed to nobody."""
    return _mark(handler, RouteRule(exempt=True))


def limit(name: str) -> Callable[[HandlerT], HandlerT]:
    """Count requests of this handler's route against the limit ``name`` of the settings, beside those that hold for all.

    Args:
        name: a key of ``Settings.limits``.
    """
    if not isinstance(name, str):
        raise TypeError("limit() takes the name of a limit in the settings: write @limit('chat')")

    def mark(handler: HandlerT) -> HandlerT:
        return _mark(handler, RouteRule(limits=(name,)))

    return mark


def requires(*scopes: str) -> Callable[[HandlerT], HandlerT]:
    """Refuse principals that do not have all of ``scopes`` on this handler's route (403)."""
    if not scopes or not all(isinstance(scope, str) for scope in scopes):
        raise TypeError("requires() takes the names of scopes: write @requires('llm:call')")

    def mark(handler: HandlerT) -> HandlerT:
        return _mark(handler, RouteRule(scopes=scopes))

    return mark


def rule_of(handler: Any) -> RouteRule:
    """Return what is said about ``handler``: a function, a bound method, a partial or a class."""
    rule = getattr(handler, _ATTRIBUTE, None)
    if isinstance(rule, RouteRule):
        return rule
    # What wraps a function without copying its attributes at least says what it wraps.
    inner = getattr(handler, "__wrapped__", None) or (handler.func if isinstance(handler, functools.partial) else None)
    return rule_of(inner) if inner is not None else NO_RULE


def merged(*rules: RouteRule) -> RouteRule:
    """Return one rule that says what all of ``rules`` say."""
    said = [rule for rule in rules if rule != NO_RULE]
    if len(said) < 2:
        return said[0] if said else NO_RULE
    return RouteRule(
        exempt=any(rule.exempt for rule in said),  # and still guarded, if another of them requires a scope
        limits=tuple(dict.fromkeys(name for rule in said for name in rule.limits)),
        scopes=tuple(dict.fromkeys(scope for rule in said for scope in rule.scopes)),
    )


def _mark(handler: HandlerT, rule: RouteRule) -> HandlerT:
    target = getattr(handler, "__func__", handler)
    whole = merged(rule_of(handler), rule)
    if whole.exempt and whole.scopes:
        raise TypeError("a handler is either exempt, or requires scopes, which nobody has without a key: take one away")
    try:
        setattr(target, _ATTRIBUTE, whole)
    except (AttributeError, TypeError):
        raise TypeError(
            f"exempt, limit and requires mark functions and classes; {type(handler).__name__} cannot be marked. Put the "
            "decorator below the one that makes it."
        ) from None
    return handler
