"""A call's plan and its attempts: what was asked of whom, and what came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from turnpike.clock import Clock
from turnpike.context import LLMRequestContext
from turnpike.errors import ProviderError, TurnpikeError
from turnpike.gateway.provider_base import WireRequest
from turnpike.gateway.request_body import ChatRequest
from turnpike.gateway.wire import WireAnswer, WireReader
from turnpike.pricing import Price

__all__ = ["Attempt", "CallPlan"]


@dataclass(slots=True)
class CallPlan:
    """Everything that is settled before a call is opened."""

    request_id: str
    route: str
    tier: str | None
    tenant_id: str
    attributed: bool
    context: LLMRequestContext
    metadata: dict[str, Any] = field(repr=False)
    provider: Any
    provider_name: str
    request: ChatRequest
    retry_attempts: int
    timeout_s: float
    cache_enabled: bool
    api: str | None = None
    """Wire format of the provider; ``None`` for providers that answer by means of their own."""
    routing_decision: str | None = None
    wire_request: WireRequest | None = None
    """The request as it will be sent, for wire providers."""
    scope: Any = None
    """The request scope in which the call was made, if any."""


class Attempt:
    """One request to a provider: what was asked of whom, and what came back."""

    __slots__ = (
        "_clock",
        "accepted",
        "answer",
        "duration_s",
        "error",
        "http_status",
        "model",
        "number",
        "price",
        "provider_name",
        "reader",
        "started_s",
    )

    def __init__(self, number: int, provider_name: str, model: str, reader: WireReader | None, clock: Clock) -> None:
        self.number: int = number
        self.provider_name: str = provider_name
        self.model: str = model
        self.reader: WireReader | None = reader
        self.answer: WireAnswer = reader.answer if reader is not None else WireAnswer()
        self.accepted: bool | None = None
        self.http_status: int | None = None
        self.error: BaseException | None = None
        self.price: Price | None = None
        self._clock = clock
        self.started_s: float = clock.monotonic()
        self.duration_s: float | None = None

    def accept(self, status: int) -> None:
        """Note that the provider has taken the request on."""
        self.accepted = True
        self.http_status = status

    def end(self, error: BaseException | None = None) -> None:
        """Note that the attempt is over. A provider's own word on acceptance and status stands above a guess."""
        if self.duration_s is not None:
            return
        self.duration_s = max(0.0, self._clock.monotonic() - self.started_s)
        self.error = error
        if isinstance(error, ProviderError):
            if self.accepted is None:
                self.accepted = error.accepted
            self.http_status = self.http_status or error.status
        elif isinstance(error, TurnpikeError) and self.accepted is None:
            # A missing key, extra or client: found before anything was sent.
            self.accepted = False
