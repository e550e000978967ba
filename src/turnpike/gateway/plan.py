"""Planning a call: from options, settings and policies to everything that is settled before it is opened.

All that can be wrong with a call is found here, before anything is sent.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

from turnpike.context import Binding, LLMRequestContext
from turnpike.envelope import UNATTRIBUTED
from turnpike.errors import (
    ConfigurationError,
    UnadmittedError,
    UnattributedError,
    UnknownRouteError,
    UnknownTierError,
    UnsupportedOptionError,
)
from turnpike.gateway.attempt import CallPlan
from turnpike.gateway.options import GENERATION_OPTIONS, check_options, to_messages
from turnpike.gateway.policies import RoutePolicy
from turnpike.gateway.provider_base import ProviderBase, WireProvider
from turnpike.gateway.request_body import ChatRequest
from turnpike.settings import PolicySettings, Settings, TierSettings

__all__ = ["Planner"]

_log = logging.getLogger("turnpike.gateway")

UNROUTED = "unrouted"
"""Route name of a call made outside a request and without ``route=``."""

_MAX_OUTPUT_TOKENS = 1024
_RETRY_ATTEMPTS = 2
_EMPTY = LLMRequestContext()


class Planner:
    """Resolves route, policy, tier, model and identity for one gateway.

    Args:
        settings: the gateway's settings.
        policies: returns the route policies registered in code; they come before those of the settings.
        provider_of: finds a provider by its name.
        rng: source of request ids.
    """

    def __init__(
        self,
        settings: Settings,
        policies: Callable[[], Mapping[str, RoutePolicy]],
        provider_of: Callable[[str], Any],
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._policies = policies
        self._provider_of = provider_of
        self._random_bits = rng.getrandbits
        self._from_settings: dict[str, RoutePolicy | None] = {}
        self._warned_unattributed = False

    def plan(self, prompt: Any, options: Mapping[str, Any], binding: Binding | None, *, stream: bool) -> CallPlan:
        """Return the plan of a call.

        Raises:
            InvalidRequestError: if the prompt or an option is wrong.
            ConfigurationError: if route, tier, provider or an option of the provider is unknown.
            UnattributedError: if nobody is named and the settings require it.
            UnadmittedError: in a request that passed without identity because it only asks what is allowed.
        """
        if binding is not None and not binding.may_call:
            raise UnadmittedError
        check_options(options)
        messages = to_messages(prompt)
        route = options.get("route") or (binding.route if binding is not None else None) or UNROUTED
        policy = self.policy_of(route)
        tier = options.get("tier")
        provider_name, model = self._choose(policy, route, options)
        provider = self._provider_of(provider_name)
        generation = self._generation_options(provider_name, provider, options)
        request = ChatRequest(messages, model, self._bound(policy, options), generation, stream)
        api = provider.wire_format if isinstance(provider, WireProvider) else None
        context = _identity(options, binding)
        attributed = bool(context.tenant_id)
        if not attributed:
            self._note_unattributed(route)
        metadata = options.get("metadata")
        decision = metadata.get("routing_decision") if metadata else None
        return CallPlan(
            request_id=_uuid4(self._random_bits(128)),
            route=route,
            tier=tier,
            tenant_id=context.tenant_id or UNATTRIBUTED,
            attributed=attributed,
            context=context,
            metadata=dict(metadata) if metadata else {},
            provider=provider,
            provider_name=provider_name,
            request=request,
            retry_attempts=policy.retry_attempts,
            timeout_s=options.get("timeout") or policy.timeout_s or self._settings.timeout_s,
            cache_enabled=policy.cache_enabled,
            routing_decision=decision if isinstance(decision, str) else None,
            wire_request=provider.prepare(request) if api is not None else None,
            api=api,
            scope=binding.streams if binding is not None else None,
        )

    # ------------------------------------------------------------------------------------------------ policy

    def policy_of(self, route: str) -> RoutePolicy:
        """Return the rule of ``route``: registered in code, else from the settings.

        Raises:
            UnknownRouteError: if there is neither, and no default.
        """
        policy = self._policies().get(route)
        if policy is not None:
            return policy
        if route not in self._from_settings:
            # Route templates are few; names made up at run time must not pile up here.
            if len(self._from_settings) >= 4096:
                self._from_settings.clear()
            written = self._settings.policy(route)
            self._from_settings[route] = self._to_policy(written) if written is not None else None
        policy = self._from_settings[route]
        if policy is None:
            raise UnknownRouteError(route, {*self._policies(), *self._settings.routes})
        return policy

    def _to_policy(self, written: PolicySettings) -> RoutePolicy:
        models: dict[str, str] = {}
        providers: dict[str, str] = {}
        for tier, target in {**self._settings.tiers, **written.tiers}.items():
            if isinstance(target, TierSettings):
                models[tier] = target.model
                if target.provider is not None:
                    providers[tier] = target.provider
            else:
                models[tier] = target
        return RoutePolicy(
            max_output_tokens=_MAX_OUTPUT_TOKENS if written.max_output_tokens is None else written.max_output_tokens,
            retry_attempts=_RETRY_ATTEMPTS if written.retry_attempts is None else written.retry_attempts,
            cache_enabled=bool(written.cache_enabled),
            model_for_tier=models,
            provider_name=written.provider or self._settings.provider_name(),
            timeout_s=written.timeout_s,
            provider_for_tier=providers,
        )

    def _choose(self, policy: RoutePolicy, route: str, options: Mapping[str, Any]) -> tuple[str, str]:
        """Return the names of the provider and the model."""
        tier, model = options.get("tier"), options.get("model")
        provider = options.get("provider")
        if model is None and tier is None:
            tiers = ", ".join(sorted({*policy.model_for_tier, *self._settings.tiers})) or "none is configured"
            raise ConfigurationError(f"Say which model is meant: tier=... ({tiers}) or model='...'.")
        if model is None:
            tier_provider, model = self._tier(policy, route, str(tier))
            provider = provider or tier_provider
        provider = provider or policy.provider_name
        if not provider:
            raise ConfigurationError(
                f"Several providers are configured ({', '.join(sorted(self._settings.providers))}): pass provider=..., or "
                "set default_provider in the settings, or give the tier a provider."
            )
        return provider, model

    def _tier(self, policy: RoutePolicy, route: str, tier: str) -> tuple[str | None, str]:
        if tier in policy.model_for_tier:
            return policy.provider_for_tier.get(tier), policy.model_for_tier[tier]
        target = self._settings.tiers.get(tier)
        if target is None:
            raise UnknownTierError(tier, route, {*policy.model_for_tier, *self._settings.tiers})
        if isinstance(target, TierSettings):
            return target.provider, target.model
        return None, target

    def _bound(self, policy: RoutePolicy, options: Mapping[str, Any]) -> int:
        asked = options.get("max_output_tokens")
        return policy.max_output_tokens if asked is None else min(asked, policy.max_output_tokens)

    # ----------------------------------------------------------------------------------------------- options

    def _generation_options(self, name: str, provider: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        given = {key: value for key, value in options.items() if key in GENERATION_OPTIONS and value is not None}
        if not given:
            return given
        # Test doubles answer to any attribute; only a real provider can declare options.
        supported = provider.supported_options if isinstance(provider, ProviderBase) else frozenset()
        unsupported = given.keys() - supported
        if unsupported:
            raise UnsupportedOptionError(name, unsupported, supported)
        return given

    # ---------------------------------------------------------------------------------------------- identity

    def _note_unattributed(self, route: str) -> None:
        if self._settings.require_attribution:
            raise UnattributedError
        if not self._warned_unattributed:
            self._warned_unattributed = True
            _log.warning(
                "a call on route %s names no tenant and is recorded as '%s', as further ones will be: bind an identity "
                "with the framework's adapter or turnpike.bind(), or pass context=LLMRequestContext(tenant_id=...); "
                "require_attribution refuses such calls",
                route,
                UNATTRIBUTED,
            )


def _identity(options: Mapping[str, Any], binding: Binding | None) -> LLMRequestContext:
    """Merge the identities in force: the explicit context over the bound one, metadata for what neither says.

    Tenant and caller in metadata count only where nobody is bound: behind a boundary they come from the key alone.
    """
    bound = binding.context if binding is not None else None
    explicit: LLMRequestContext | None = options.get("context")
    if explicit is not None:
        return explicit.over(bound) if bound is not None else explicit
    metadata = options.get("metadata")
    if not metadata:
        return bound if bound is not None else _EMPTY
    claimed = LLMRequestContext.from_metadata(metadata)
    if bound is None:
        return claimed
    return bound.over(LLMRequestContext(**{**claimed.__dict__, "tenant_id": None, "caller_id": None}))


def _uuid4(bits: int) -> str:
    """Write 128 random bits as a version 4 UUID; four times faster than ``uuid.uuid4``, and from the injected source."""
    text = f"{bits & ~(0xF << 76) & ~(0x3 << 62) | (0x4 << 76) | (0x2 << 62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
