"""Turnpike: an in-process LLM gateway that says who spent what, on which model, and why.

This module is the public surface and nothing else. Names are loaded when they are first used, so that importing it costs
next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnpike.context import LLMRequestContext as LLMRequestContext
    from turnpike.context import bind as bind
    from turnpike.context import current_context as current_context
    from turnpike.context import detached as detached
    from turnpike.context import propagate as propagate
    from turnpike.envelope import AttemptRecord as AttemptRecord
    from turnpike.envelope import CostQuality as CostQuality
    from turnpike.envelope import CostSource as CostSource
    from turnpike.envelope import EnvelopeStatus as EnvelopeStatus
    from turnpike.envelope import LLMRequestEnvelope as LLMRequestEnvelope
    from turnpike.errors import ProviderError as ProviderError
    from turnpike.errors import TurnpikeError as TurnpikeError
    from turnpike.gateway.client import CallResult as CallResult
    from turnpike.gateway.client import Gateway as Gateway
    from turnpike.gateway.client import GatewayResult as GatewayResult
    from turnpike.gateway.client import GatewayStream as GatewayStream
    from turnpike.gateway.client import GatewayStreamSync as GatewayStreamSync
    from turnpike.gateway.client import StreamChunk as StreamChunk
    from turnpike.gateway.client import call_llm as call_llm
    from turnpike.gateway.client import call_llm_stream as call_llm_stream
    from turnpike.gateway.client import default_gateway as default_gateway
    from turnpike.gateway.cost_model import estimate_cost as estimate_cost
    from turnpike.gateway.cost_model import preload_pricing as preload_pricing
    from turnpike.gateway.cost_model import price_usage as price_usage
    from turnpike.gateway.cost_model import register_pricing as register_pricing
    from turnpike.gateway.otel_setup import setup_otel as setup_otel
    from turnpike.gateway.otel_setup import shutdown_otel as shutdown_otel
    from turnpike.gateway.policies import RoutePolicy as RoutePolicy
    from turnpike.gateway.policies import register_route_policy as register_route_policy
    from turnpike.gateway.provider import AnthropicProvider as AnthropicProvider
    from turnpike.gateway.provider import OpenAIProvider as OpenAIProvider
    from turnpike.gateway.provider import ProviderBase as ProviderBase
    from turnpike.gateway.provider import ProviderResponse as ProviderResponse
    from turnpike.gateway.provider import register_provider as register_provider
    from turnpike.gateway.result import ToolCall as ToolCall
    from turnpike.gateway.telemetry import emit_event as emit_event
    from turnpike.settings import Settings as Settings
    from turnpike.usage import UsageVector as UsageVector

    __version__: str

# The names published with 0.1.x; it does not grow. Everything imported above is public as well and documented.
__all__ = [
    "CostSource",
    "EnvelopeStatus",
    "GatewayResult",
    "GatewayStream",
    "LLMRequestContext",
    "LLMRequestEnvelope",
    "ProviderBase",
    "ProviderResponse",
    "RoutePolicy",
    "StreamChunk",
    "__version__",
    "call_llm",
    "call_llm_stream",
    "emit_event",
    "estimate_cost",
    "register_pricing",
    "register_provider",
    "register_route_policy",
    "setup_otel",
    "shutdown_otel",
]

_HOMES = {
    "turnpike.context": ("LLMRequestContext", "bind", "current_context", "detached", "propagate"),
    "turnpike.envelope": ("AttemptRecord", "CostQuality", "CostSource", "EnvelopeStatus", "LLMRequestEnvelope"),
    "turnpike.errors": ("ProviderError", "TurnpikeError"),
    "turnpike.gateway.client": (
        "CallResult",
        "Gateway",
        "GatewayResult",
        "GatewayStream",
        "GatewayStreamSync",
        "StreamChunk",
        "call_llm",
        "call_llm_stream",
        "default_gateway",
    ),
    "turnpike.gateway.cost_model": ("estimate_cost", "preload_pricing", "price_usage", "register_pricing"),
    "turnpike.gateway.otel_setup": ("setup_otel", "shutdown_otel"),
    "turnpike.gateway.policies": ("RoutePolicy", "register_route_policy"),
    "turnpike.gateway.provider": (
        "AnthropicProvider",
        "OpenAIProvider",
        "ProviderBase",
        "ProviderResponse",
        "register_provider",
    ),
    "turnpike.gateway.result": ("ToolCall",),
    "turnpike.gateway.telemetry": ("emit_event",),
    "turnpike.settings": ("Settings",),
    "turnpike.usage": ("UsageVector",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("turnpike")
    elif name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'turnpike' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_HOME_OF})
