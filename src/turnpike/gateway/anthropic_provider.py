"""Anthropic, by the Messages API."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Literal

from turnpike.gateway.options import GENERATION_OPTIONS
from turnpike.gateway.provider_base import WireRequest
from turnpike.gateway.request_body import ChatRequest, anthropic_messages_body, encode_body
from turnpike.gateway.sdk_client import ClientOptions, SDKProvider

__all__ = ["AnthropicProvider"]


class AnthropicProvider(SDKProvider):
    """Sends through the official ``anthropic`` SDK, 1.x or 2.x, with the SDK's own tracing off.

    Args:
        base_url: another server of the same API; by default the SDK's own, ``ANTHROPIC_BASE_URL`` included.
        api_key: by default ``ANTHROPIC_API_KEY``, read when the first call is made.
        client: an ``AsyncAnthropic`` of your own; it is tied to the process and event loop of its first use.
        sync_client: an ``Anthropic`` of your own, for ``call_sync`` and ``stream_sync``.
        transport: ``"aiohttp"`` puts asynchronous calls on aiohttp, which is faster under load; needs the extra.
        max_connections: size of the connection pool.
        pricing_provider: whose price list applies when ``base_url`` leads elsewhere, by the ids of genai-prices.
    """

    sdk_name = "anthropic"
    async_class = "AsyncAnthropic"
    api_key_variable = "ANTHROPIC_API_KEY"
    base_url_variable = "ANTHROPIC_BASE_URL"
    default_base_url = "https://api.anthropic.com"
    sync_class = "Anthropic"
    supported_options: ClassVar[frozenset[str]] = GENERATION_OPTIONS - {"seed"}

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: Any = None,
        sync_client: Any = None,
        transport: Literal["default", "aiohttp"] = "default",
        max_connections: int = 1000,
        pricing_provider: str | None = None,
    ) -> None:
        options = ClientOptions(api_key, base_url, transport, max_connections, pricing_provider)
        super().__init__(options, client, sync_client)

    @property
    def provider_name(self) -> str:
        """The vendor's name, as it stands in telemetry."""
        return "anthropic"

    @property
    def wire_format(self) -> str:
        """Always ``anthropic-messages``."""
        return "anthropic-messages"

    def prepare(self, request: ChatRequest) -> WireRequest:
        """Write the request for the Messages API."""
        body = encode_body(anthropic_messages_body(request))
        return WireRequest("POST", "/v1/messages", {}, body, "anthropic-messages", request.stream)

    def _client_arguments(self, sdk: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {"api_key": self._api_key()}
        # Since 1.14 the SDK emits a span of its own and sends W3C baggage to the API; earlier versions lack the switch.
        if "open_telemetry" in inspect.signature(sdk.module.AsyncAnthropic.__init__).parameters:
            arguments["open_telemetry"] = False
        return arguments
