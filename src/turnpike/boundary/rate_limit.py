"""Which limits a request is counted against, and the headers that announce them.

Only authenticated identities are counted: what a store remembers is bounded by the number of principals, whatever a client
sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from turnpike.boundary.keys import Principal
from turnpike.boundary.rules import RouteRule
from turnpike.control.quota import Limit, Verdict
from turnpike.errors import ConfigurationError, SettingsError
from turnpike.settings import LimitSettings, RateLimit, Settings, parse_rate_limit

__all__ = ["PER_KEY", "PER_TENANT", "RequestLimits", "rate_limit_headers"]

PER_KEY = "default"
"""Name of the limit that holds for every key."""
PER_TENANT = "tenant"
"""Name of the limit on all keys of a tenant together."""

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class _NamedLimit:
    rate: RateLimit
    per: Literal["key", "tenant"]


class RequestLimits:
    """The limits of a service, from its settings.

    Raises:
        SettingsError: if a limit in the settings is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self._per_key = _rate(settings.rate_limit, "rate_limit")
        tenant = settings.tenant_rate_limit
        self._per_tenant = None if tenant is None else _rate(tenant, "tenant_rate_limit")
        self._named: dict[str, _NamedLimit] = {}
        self._recent: dict[tuple[str, str, RateLimit | None, tuple[str, ...]], tuple[Limit, ...]] = {}
        self._by_route: dict[str, tuple[str, ...]] = {}
        for name, written in settings.limits.items():
            limit = written if isinstance(written, LimitSettings) else LimitSettings(rate=written)
            self._named[name] = _NamedLimit(_rate(limit.rate, f"limits.{name}"), limit.per)
            for route in limit.routes:
                self._by_route[route] = (*self._by_route.get(route, ()), name)

    @property
    def known(self) -> frozenset[str]:
        """Names of the further limits."""
        return frozenset(self._named)

    def names(self, route: str, rule: RouteRule) -> tuple[str, ...]:
        """Return the names of the further limits of ``route``."""
        by_route = self._by_route.get(route, ())
        return tuple(dict.fromkeys((*rule.limits, *by_route))) if by_route else rule.limits

    def of(self, principal: Principal, route: str, rule: RouteRule) -> tuple[Limit, ...]:
        """Return all limits that a request of ``principal`` is counted against.

        Raises:
            ConfigurationError: if the route names a limit that the settings do not have.
        """
        names = self.names(route, rule)
        known = (principal.counted_as, principal.tenant, principal.rate_limit, names)
        limits = self._recent.get(known)
        if limits is None:
            limits = self._of(principal, route, names)
            if len(self._recent) >= _REMEMBERED:
                self._recent.clear()
            self._recent[known] = limits
        return limits

    def _of(self, principal: Principal, route: str, names: tuple[str, ...]) -> tuple[Limit, ...]:
        who = principal.counted_as
        limits = [_limit(PER_KEY, who, principal.rate_limit or self._per_key)]
        if self._per_tenant is not None:
            limits.append(_limit(PER_TENANT, principal.tenant, self._per_tenant))
        for name in names:
            named = self._named.get(name)
            if named is None:
                raise self._unknown(name, route)
            limits.append(_limit(name, who if named.per == "key" else f"tenant:{principal.tenant}", named.rate))
        return tuple(limits)

    def _unknown(self, name: str, route: str) -> ConfigurationError:
        known = ", ".join(sorted(self._named)) or "none"
        return ConfigurationError(
            f"Route '{route}' names the limit '{name}', which the settings do not have (they have: {known}). Write it "
            f'under limits: {{"{name}": "10/minute"}}.'
        )


def _limit(name: str, whose: str, rate: RateLimit) -> Limit:
    return Limit(key=f"{name}/{whose}", name=name, cap=rate.requests, window_s=rate.window_s)


def _rate(value: str | int, key: str) -> RateLimit:
    try:
        return parse_rate_limit(value)
    except ValueError as error:
        raise SettingsError(f"Setting '{key}': {error}.") from None


def rate_limit_headers(verdict: Verdict) -> Mapping[str, str]:
    """Render the fields of draft-ietf-httpapi-ratelimit-headers-10, without partition keys."""
    policies, states = [], []
    for standing in verdict.standings:
        limit = standing.limit
        policies.append(f'"{limit.name}";q={limit.cap};w={limit.window_s}')
        states.append(f'"{limit.name}";r={standing.remaining};t={standing.reset_s}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}
