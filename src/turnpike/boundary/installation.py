"""What an adapter attaches to an application: its gateway, its gate, and the way a request passes between them.

Adapters translate their framework's request into the arguments of ``admit`` and what it raises into a response. Whatever
two of them would both do is done here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from turnpike.boundary.admission import Admission, Gate, Headers
from turnpike.boundary.keys import KeyStore, Principal
from turnpike.boundary.rules import NO_RULE, RouteRule
from turnpike.boundary.scope import RequestScope
from turnpike.context import LLMRequestContext
from turnpike.errors import ConfigurationError
from turnpike.gateway.client import Gateway
from turnpike.gateway.effects import run_sync
from turnpike.settings import Settings

__all__ = ["Identify", "Installation"]

Identify = Callable[[Any], Principal | Awaitable[Principal | None] | None]
"""From the framework's request to who sends it; ``None`` leaves the question to the API keys."""


class Installation:
    """The parts of one application.

    Args:
        gateway: through which its handlers call.
        gate: which admits its requests.
        settings: what both were made from; by default the gateway's.
        identify: how it knows who sends a request, where that is not an API key.
        owns_gateway: whether closing this closes the gateway.
    """

    def __init__(
        self,
        gateway: Gateway,
        gate: Gate,
        *,
        settings: Settings | None = None,
        identify: Identify | None = None,
        owns_gateway: bool = False,
    ) -> None:
        self.gateway: Gateway = gateway
        """The application's gateway."""
        self.gate: Gate = gate
        """The application's gate."""
        self.settings: Settings = gateway.settings if settings is None else settings
        """What the application was set up with."""
        self._identify = identify
        self._owns_gateway = owns_gateway

    @classmethod
    def build(
        cls,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        gateway: Gateway | None = None,
        gate: Gate | None = None,
        key_store: KeyStore | None = None,
        identify: Identify | None = None,
    ) -> Installation:
        """Put the parts together from what an application gives.

        Args:
            settings: ``Settings``, or a mapping over which the environment is laid; by default the given gateway's, or
                else the environment alone.
            gateway: a gateway of your own, which you close.
            gate: a gate of your own, for another quota store.
            key_store: where keys are looked up, instead of the settings' ``api_keys`` and ``key_file``.
            identify: who sends a request, for applications that know it by other means than a key.

        Raises:
            ConfigurationError: if both ``gate`` and ``key_store`` are given.
            SettingsError: naming the setting that is wrong.
        """
        if gate is not None and key_store is not None:
            raise ConfigurationError("Give either a gate or a key_store: a gate has its own, Gate(..., key_store=...).")
        chosen: Settings | None = None
        if gate is None or gateway is None:
            chosen = gateway.settings if settings is None and gateway is not None else Settings.load(settings)
        if gate is None and chosen is not None:
            gate = Gate(chosen, key_store=key_store, has_other_identities=identify is not None)
        owns_gateway = gateway is None
        if gateway is None:
            gateway = Gateway(chosen)
        assert gate is not None
        return cls(gateway, gate, settings=chosen, identify=identify, owns_gateway=owns_gateway)

    def admit(
        self,
        scope: RequestScope,
        request: Any,
        headers: Headers,
        *,
        route: str,
        method: str,
        rule: RouteRule = NO_RULE,
    ) -> LLMRequestContext:
        """Admit a request, and bind its identity, route and scope until the scope is finished.

        However often this is called for one request, it is admitted, and counted, once; scopes are looked at each time.

        Args:
            scope: the request's scope.
            request: what ``identify`` is given.
            headers: the request's headers.
            route: the route template.
            method: the HTTP method.
            rule: what the handler says about its route.

        Returns:
            The attribution of the request's calls.

        Raises:
            Problem: if the request is refused.
            ConfigurationError: if ``identify`` is a coroutine function, or returns something else than a principal.
        """
        return run_sync(self._admit(scope, request, headers, route, method, rule, may_wait=False))

    async def admit_async(
        self,
        scope: RequestScope,
        request: Any,
        headers: Headers,
        *,
        route: str,
        method: str,
        rule: RouteRule = NO_RULE,
    ) -> LLMRequestContext:
        """Do what ``admit`` does without holding up the event loop; ``identify`` may be a coroutine function."""
        return await self._admit(scope, request, headers, route, method, rule, may_wait=True)

    async def _admit(
        self,
        scope: RequestScope,
        request: Any,
        headers: Headers,
        route: str,
        method: str,
        rule: RouteRule,
        *,
        may_wait: bool,
    ) -> LLMRequestContext:
        if scope.admission is not None:
            self.gate.check_scopes(scope.admission, rule.scopes)
            return scope.admission.context
        gate, principal = self.gate, None
        if self._identify is not None and method != "OPTIONS" and not gate.is_exempt(route, rule):
            principal = await self._ask_who(self._identify, request, may_wait=may_wait)
        admission: Admission
        if may_wait:
            admission = await gate.admit_async(headers, route=route, method=method, rule=rule, principal=principal)
        else:
            admission = gate.admit(headers, route=route, method=method, rule=rule, principal=principal)
        return scope.begin(admission)

    async def _ask_who(self, identify: Identify, request: Any, *, may_wait: bool) -> Principal | None:
        found = identify(request)
        if inspect.isawaitable(found):
            if not may_wait:
                _discard(found)
                raise ConfigurationError("identify is a coroutine function, which synchronous requests cannot await.")
            found = await found
        if found is not None and not isinstance(found, Principal):
            raise ConfigurationError(f"identify must return a Principal or None; it returned a {type(found).__name__}.")
        return found

    async def aclose(self) -> None:
        """Close what was made here: not a gateway or a quota store that the application gave."""
        if self._owns_gateway:
            await self.gateway.aclose()
        await self.gate.aclose()

    def close(self) -> None:
        """Do what ``aclose`` does for synchronous code."""
        if self._owns_gateway:
            self.gateway.close()
        self.gate.close()


def _discard(awaitable: Any) -> None:
    if (close := getattr(awaitable, "close", None)) is not None:
        close()
