"""OpenAI, and every server that speaks its API, by Chat Completions or by Responses."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from turnpike.errors import ConfigurationError
from turnpike.gateway.options import GENERATION_OPTIONS
from turnpike.gateway.provider_base import WireRequest
from turnpike.gateway.request_body import ChatRequest, encode_body, openai_chat_body, openai_responses_body
from turnpike.gateway.sdk_client import ClientOptions, SDKProvider

__all__ = ["OpenAIProvider"]


class OpenAIProvider(SDKProvider):
    """Sends through the official ``openai`` SDK, 2.x or 3.x.

    Args:
        api: ``"chat"`` for Chat Completions, ``"responses"`` for the Responses API.
        base_url: another server of the same API; by default the SDK's own, ``OPENAI_BASE_URL`` included.
        api_key: by default ``OPENAI_API_KEY``, read when the first call is made.
        client: an ``AsyncOpenAI`` (or Azure's) of your own; it is tied to the process and event loop of its first use.
        sync_client: an ``OpenAI`` of your own, for ``call_sync`` and ``stream_sync``.
        transport: ``"aiohttp"`` puts asynchronous calls on aiohttp, which is faster under load; needs the extra.
        max_connections: size of the connection pool.
        pricing_provider: whose price list applies when ``base_url`` leads elsewhere, by the ids of genai-prices.
        max_tokens_parameter: what Chat Completions calls the output bound; older compatible servers know only
            ``max_tokens``.

    Raises:
        ConfigurationError: if an argument is not one of the above.
    """

    sdk_name = "openai"
    async_class = "AsyncOpenAI"
    api_key_variable = "OPENAI_API_KEY"
    base_url_variable = "OPENAI_BASE_URL"
    default_base_url = "https://api.openai.com/v1"
    sync_class = "OpenAI"
    supported_options: ClassVar[frozenset[str]] = GENERATION_OPTIONS

    def __init__(
        self,
        *,
        api: Literal["chat", "responses"] = "chat",
        base_url: str | None = None,
        api_key: str | None = None,
        client: Any = None,
        sync_client: Any = None,
        transport: Literal["default", "aiohttp"] = "default",
        max_connections: int = 1000,
        pricing_provider: str | None = None,
        max_tokens_parameter: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens",
    ) -> None:
        if api not in ("chat", "responses"):
            raise ConfigurationError(f"OpenAIProvider(api=...) must be 'chat' or 'responses'; got {api!r}.")
        options = ClientOptions(api_key, base_url, transport, max_connections, pricing_provider)
        super().__init__(options, client, sync_client)
        self._max_tokens_parameter = max_tokens_parameter
        self._format = f"openai-{api}"
        if api == "responses":
            # Responses has neither of the two; asking for one is an error before the request.
            self.supported_options = GENERATION_OPTIONS - {"seed", "stop"}  # type: ignore[misc]

    @property
    def provider_name(self) -> str:
        """The vendor's name, as it stands in telemetry."""
        return "openai"

    @property
    def wire_format(self) -> str:
        """``openai-chat`` or ``openai-responses``."""
        return self._format

    def prepare(self, request: ChatRequest) -> WireRequest:
        """Write the request for the API that was chosen."""
        if self._format == "openai-responses":
            body, path = openai_responses_body(request), "/responses"
        else:
            body, path = openai_chat_body(request), "/chat/completions"
            if self._max_tokens_parameter != "max_completion_tokens":
                body[self._max_tokens_parameter] = body.pop("max_completion_tokens")
        return WireRequest("POST", path, {}, encode_body(body), self._format, request.stream)

    def _client_arguments(self, sdk: Any) -> dict[str, Any]:
        return {"api_key": self._api_key()}
