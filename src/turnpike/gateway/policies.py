"""Route policies: the resolved rule of one route, and the registry of the default gateway."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from turnpike.errors import UnknownRouteError, UnknownTierError
from turnpike.frozen import freeze

__all__ = [
    "RoutePolicy",
    "clear_route_policies",
    "get_model_for_tier",
    "get_route_policy",
    "register_route_policy",
]


@dataclass(frozen=True)
class RoutePolicy:
    """What a route may do.

    Raises:
        ValueError: if a bound is not positive or a retry count is negative.
    """

    max_output_tokens: int
    """Upper bound of the answer, in tokens, unless a call asks for less."""
    retry_attempts: int
    """How often a failed request is tried again; 0 means one try."""
    cache_enabled: bool
    model_for_tier: Mapping[str, str]
    """Model of each tier. Tiers of the settings that are not listed here stay available."""
    provider_name: str = "openai"
    timeout_s: float | None = None
    """Deadline of a whole call, retries included, in seconds; ``None`` takes the gateway's."""
    provider_for_tier: Mapping[str, str] = field(default_factory=dict)
    """Provider of a tier, where it is not ``provider_name``."""

    def __post_init__(self) -> None:
        if type(self.max_output_tokens) is not int or self.max_output_tokens < 1:
            raise ValueError(
                f"RoutePolicy.max_output_tokens must be a positive integer; got {self.max_output_tokens!r}"
            )
        if type(self.retry_attempts) is not int or self.retry_attempts < 0:
            raise ValueError(f"RoutePolicy.retry_attempts must be a non-negative integer; got {self.retry_attempts!r}")
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"RoutePolicy.timeout_s must be a positive, finite number of seconds; got {self.timeout_s!r}"
            )
        object.__setattr__(self, "model_for_tier", freeze(self.model_for_tier))
        object.__setattr__(self, "provider_for_tier", freeze(self.provider_for_tier))


_ROUTE_POLICIES: dict[str, RoutePolicy] = {}


def register_route_policy(route_name: str, policy: RoutePolicy) -> None:
    """Set the policy of ``route_name`` for the default gateway, replacing an existing one."""
    _ROUTE_POLICIES[route_name] = policy


def get_route_policy(route_name: str) -> RoutePolicy:
    """Return the policy registered for ``route_name``.

    Raises:
        UnknownRouteError: if there is none.
    """
    try:
        return _ROUTE_POLICIES[route_name]
    except KeyError:
        raise UnknownRouteError(route_name, _ROUTE_POLICIES) from None


def get_model_for_tier(route_name: str, model_tier: str) -> str:
    """Return the model that ``route_name`` uses for ``model_tier``.

    Raises:
        UnknownRouteError: if the route has no policy.
        UnknownTierError: if the policy does not list the tier.
    """
    policy = get_route_policy(route_name)
    try:
        return policy.model_for_tier[model_tier]
    except KeyError:
        raise UnknownTierError(model_tier, route_name, policy.model_for_tier) from None


def clear_route_policies() -> None:
    """Forget every policy of the default gateway; meant for tests."""
    _ROUTE_POLICIES.clear()
