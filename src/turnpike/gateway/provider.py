"""The providers that are built in, and the registry of the default gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from turnpike.errors import ConfigurationError, UnknownProviderError
from turnpike.gateway.anthropic_provider import AnthropicProvider
from turnpike.gateway.openai_provider import OpenAIProvider
from turnpike.gateway.provider_base import (
    ProviderBase,
    ProviderResponse,
    ProviderStreamEvent,
    WireProvider,
    WireRequest,
    WireResponse,
)

__all__ = [
    "AnthropicProvider",
    "OpenAIProvider",
    "ProviderBase",
    "ProviderResponse",
    "ProviderStreamEvent",
    "WireProvider",
    "WireRequest",
    "WireResponse",
    "available_providers",
    "check_provider",
    "get_provider",
    "register_provider",
]

_BUILT_IN: dict[str, Callable[[], WireProvider]] = {"openai": OpenAIProvider, "anthropic": AnthropicProvider}
_PROVIDERS: dict[str, Any] = {}


def register_provider(name: str, provider: ProviderBase) -> None:
    """Register ``provider`` under ``name`` for the default gateway, replacing an existing one."""
    _PROVIDERS[name] = provider


def get_provider(name: str, auto_register: bool = True) -> Any:
    """Return the provider registered under ``name``; ``openai`` and ``anthropic`` register themselves on first use.

    Raises:
        UnknownProviderError: if there is none.
    """
    if name not in _PROVIDERS and auto_register and name in _BUILT_IN:
        _PROVIDERS[name] = _BUILT_IN[name]()
    try:
        return _PROVIDERS[name]
    except KeyError:
        raise UnknownProviderError(name, {*_PROVIDERS, *_BUILT_IN}) from None


def available_providers() -> list[str]:
    """Return the names of the providers that are registered or register themselves."""
    return sorted({*_PROVIDERS, *_BUILT_IN})


def check_provider(name: str, provider: object) -> None:
    """Refuse what cannot be a provider, when it is registered with a gateway.

    Raises:
        ConfigurationError: if ``provider`` has no ``complete`` method, or is a class instead of an object.
    """
    if isinstance(provider, type):
        raise ConfigurationError(f"Provider '{name}' is the class {provider.__name__}: register an instance of it.")
    if not callable(getattr(provider, "complete", None)):
        raise ConfigurationError(
            f"Provider '{name}' ({type(provider).__name__}) has no complete() method: subclass turnpike.ProviderBase."
        )
