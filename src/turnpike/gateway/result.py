"""What a call returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from turnpike.envelope import LLMRequestEnvelope
from turnpike.gateway.wire import ToolCall

__all__ = ["CallResult", "GatewayResult", "StreamChunk", "ToolCall"]


@dataclass(frozen=True)
class GatewayResult:
    """The published result of ``call_llm``; its set of fields does not grow. See ``CallResult`` for the rest."""

    text: str = field(repr=False)
    selected_model: str
    request_id: str
    tokens_in: int | None
    tokens_out: int | None
    estimated_cost_usd: float | None
    """``None`` when the price or the usage is not known; never 0.0 for unknown."""
    cache_hit: bool
    finish_reason: str | None = None
    envelope: LLMRequestEnvelope | None = field(default=None, repr=False)


@dataclass(frozen=True)
class CallResult(GatewayResult):
    """The answer of ``Gateway.call`` and its kin, and what is known about it."""

    tool_calls: tuple[ToolCall, ...] = ()
    """Tools that the model wants to have run, in order."""
    provider_finish_reason: str | None = None
    """The provider's own word behind ``finish_reason``."""
    response_model: str | None = None
    """The model that the provider says has answered."""

    def to_message(self) -> dict[str, object]:
        """Return the answer as a message, to be put behind the conversation before tool results or another turn."""
        message: dict[str, object] = {"role": "assistant", "content": self.text or None}
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        return message


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """One piece of a streamed answer. The last chunk has an empty ``delta`` and the finish reason.

    A chunk encodes to its text, so that a stream can be handed to a streaming response as it is.
    """

    delta: str = field(repr=False)
    finish_reason: str | None = None

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the text as bytes."""
        return self.delta.encode(encoding, errors)

    def __str__(self) -> str:
        return self.delta
