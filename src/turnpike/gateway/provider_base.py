"""What a provider is.

Two kinds exist. A subclass of ``ProviderBase`` answers ``complete()`` by any means it likes. A ``WireProvider`` builds a
request and reads raw bytes, so that the gateway sees every byte of usage; the built-in ones are of this kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from turnpike.errors import ProviderError
from turnpike.gateway.request_body import ChatRequest

__all__ = [
    "ProviderBase",
    "ProviderResponse",
    "ProviderStreamEvent",
    "WireProvider",
    "WireRequest",
    "WireResponse",
]


@dataclass(frozen=True)
class ProviderResponse:
    """What ``ProviderBase.complete`` returns."""

    text: str = field(repr=False)
    tokens_in: int | None
    """All input tokens, cached ones included; ``None`` when unknown, never 0 for unknown."""
    tokens_out: int | None
    finish_reason: str | None = None
    response_model: str | None = None


@dataclass(frozen=True)
class ProviderStreamEvent:
    """One step of ``ProviderBase.stream``. Token counts may stand on any event; the last ones win."""

    delta: str = field(default="", repr=False)
    finish_reason: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    response_model: str | None = None


class ProviderBase(ABC):
    """Base of all providers.

    A subclass needs ``provider_name`` and ``complete``. It may declare ``supported_options``, in which case ``complete`` and
    ``stream`` receive those options as keywords when a call sets them.
    """

    supported_options: ClassVar[frozenset[str]] = frozenset()
    """Generation options that this provider takes, from ``turnpike.gateway.options.GENERATION_OPTIONS``."""

    @property
    @abstractmethod
    def provider_name(self) -> str:
        """The vendor's name, as it stands in telemetry."""

    @abstractmethod
    async def complete(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int
    ) -> ProviderResponse:
        """Answer a conversation. Called with exactly these three arguments, plus declared options that are set."""

    async def stream(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int, **options: Any
    ) -> AsyncIterator[ProviderStreamEvent]:
        """Answer piece by piece; by default one piece made of ``complete()``."""
        response = await self.complete(messages, model, max_output_tokens, **options)
        yield ProviderStreamEvent(
            delta=response.text,
            finish_reason=response.finish_reason,
            tokens_in=response.tokens_in,
            tokens_out=response.tokens_out,
            response_model=response.response_model,
        )

    def complete_sync(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int, **options: Any
    ) -> ProviderResponse:
        """Answer from synchronous code; by default ``complete()`` on the process's background event loop."""
        from turnpike.gateway.background_loop import run_in_background

        return run_in_background(self.complete(messages, model, max_output_tokens, **options))

    def stream_sync(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int, **options: Any
    ) -> Iterator[ProviderStreamEvent]:
        """Stream to synchronous code; by default ``stream()`` on the process's background event loop."""
        from turnpike.gateway.background_loop import iterate_in_background

        return iterate_in_background(self.stream(messages, model, max_output_tokens, **options))

    def is_retryable(self, error: BaseException) -> bool:
        """Say whether the same request may succeed if it is sent again."""
        return False

    def categorize_error(self, error: BaseException) -> str:
        """Name the kind of failure: one of the categories listed at ``ProviderError``."""
        return "unknown"


@dataclass(slots=True)
class WireRequest:
    """A request ready to be sent by the SDK's client, which adds authentication and its own headers."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    format: str
    """Name of the wire format; see ``turnpike.gateway.wire``."""
    stream: bool


class WireResponse(Protocol):
    """An accepted response whose body has not been read."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, content encodings removed. Under a synchronous driver it never suspends."""
        ...

    async def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        ...

    def abort(self) -> None:
        """Shut the socket at once, from anywhere; ``close`` still has to follow."""
        ...


class WireProvider(ProviderBase):
    """A provider that speaks one of the known wire formats over HTTP."""

    name: str
    """The name this provider is registered under; errors use it."""

    @property
    @abstractmethod
    def wire_format(self) -> str:
        """``openai-chat``, ``openai-responses`` or ``anthropic-messages``."""

    @property
    def pricing_provider(self) -> str:
        """Whose price list applies, by the ids of genai-prices."""
        return self.provider_name

    @property
    def server(self) -> tuple[str | None, int | None]:
        """Host and port that requests go to, for telemetry."""
        return None, None

    @abstractmethod
    def prepare(self, request: ChatRequest) -> WireRequest:
        """Write the request in the wire format.

        Raises:
            InvalidRequestError: if it cannot be written.
        """

    @abstractmethod
    def connect(self, *, sync: bool) -> None:
        """Make sure that a client can be had here, so that what is missing is found before a call is opened.

        Raises:
            MissingExtraError: if the SDK is not installed.
            MissingAPIKeyError: if there is no key.
            ClientReuseError: if a client passed in by the user belongs to another process or event loop.
        """

    @abstractmethod
    async def send(self, request: WireRequest, timeout_s: float) -> WireResponse:
        """Send and return once the response's head has arrived and says success.

        Raises:
            ProviderError: if the request could not be sent or was refused.
        """

    @abstractmethod
    def send_sync(self, request: WireRequest, timeout_s: float) -> WireResponse:
        """Do what ``send`` does, over the SDK's synchronous client."""

    @abstractmethod
    def read_error(self, error: Exception) -> ProviderError:
        """Translate a failure while reading a body."""

    async def complete(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int, **options: Any
    ) -> ProviderResponse:
        """Answer a conversation without a gateway around it: no envelope, no retry, no price."""
        from turnpike.gateway.wire import reader_for

        request = self.prepare(ChatRequest(messages, model, max_output_tokens, options))
        response = await self.send(request, timeout_s=600.0)
        try:
            body = b"".join([chunk async for chunk in response.chunks()])
        finally:
            await response.close()
        reader = reader_for(request.format)
        reader.read_json(body)
        answer = reader.answer
        from turnpike.pricing import read_usage

        vector, _ = read_usage(answer.usage, request.format, answer.tool_counts)
        return ProviderResponse(
            answer.text,
            vector.tokens_in if vector else None,
            vector.tokens_out if vector else None,
            answer.finish_reason,
            answer.response_model,
        )

    def is_retryable(self, error: BaseException) -> bool:
        """Say whether the same request may succeed if it is sent again."""
        return isinstance(error, ProviderError) and error.category in ("rate_limit", "timeout", "transient_error")

    def categorize_error(self, error: BaseException) -> str:
        """Return the category of a ``ProviderError``."""
        return error.category if isinstance(error, ProviderError) else "unknown"
