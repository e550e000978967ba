"""What stands on the span of a call: the attributes it starts with, and those it ends with.

Everything a sampler may want is there at the start. Attributes that only depend on values with few variants are built
once and copied. No attribute may hold text that somebody wrote: no prompt, no answer, no error message, no routing
reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turnpike import semconv as own
from turnpike.context import LLMRequestContext
from turnpike.envelope import LLMRequestEnvelope
from turnpike.gateway.measurements import CURRENCY
from turnpike.gateway.semconv import VAL_GEN_AI_OPERATION_CHAT, VAL_GEN_AI_SYSTEM_OPENAI, Vocabulary
from turnpike.usage import UsageVector

__all__ = ["SpanStart", "common_end", "common_start", "cost_nano_usd", "identity", "own_end", "own_start"]


@dataclass(slots=True, kw_only=True)
class SpanStart:
    """What is known of a call when its span begins.

    After a fallback, ``provider``, ``model`` and the server are to be set to those that served before the span is
    finished.
    """

    request_id: str
    operation: str = VAL_GEN_AI_OPERATION_CHAT
    provider: str
    """Value of the GenAI conventions, such as ``openai``, ``anthropic`` or ``azure.ai.openai``."""
    provider_name: str
    """Name the provider is registered under."""
    provider_api: str | None = None
    """Wire format: ``openai-chat``, ``openai-responses``, ``anthropic-messages``."""
    model: str
    route: str
    tier: str | None = None
    context: LLMRequestContext
    stream: bool = False
    server_address: str | None = None
    """Host name only."""
    server_port: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()
    seed: int | None = None
    output_type: str | None = None
    """``text``, ``json``, ``image`` or ``speech``, when one was asked for."""
    retry_attempts_allowed: int = 0
    cache_enabled: bool = False
    service_tier: str | None = None
    """The tier that was asked for."""


_API_TYPES = {"openai-chat": "chat_completions", "openai-responses": "responses"}

_CONTEXT = {
    "tenant_id": (own.ATTR_TURNPIKE_TENANT_ID,),
    "caller_id": (own.ATTR_TURNPIKE_CALLER_ID,),
    "use_case": (own.ATTR_TURNPIKE_USE_CASE,),
    "session_id": (own.ATTR_TURNPIKE_SESSION_ID, own.ATTR_TURNPIKE_AUDIT_PREFIX + "session_id"),
    "task_id": (own.ATTR_TURNPIKE_TASK_ID, own.ATTR_TURNPIKE_AUDIT_PREFIX + "task_id"),
    "feature_id": (own.ATTR_TURNPIKE_AUDIT_PREFIX + "feature_id",),
    "experiment_id": (own.ATTR_TURNPIKE_AUDIT_PREFIX + "experiment_id",),
    "budget_namespace": (own.ATTR_TURNPIKE_AUDIT_PREFIX + "budget_namespace",),
}

_DECISIONS = (
    ("retry_count", own.ATTR_TURNPIKE_RETRY_COUNT),
    ("routing_decision", own.ATTR_TURNPIKE_ROUTING_DECISION),
    ("fallback_triggered", own.ATTR_TURNPIKE_FALLBACK_TRIGGERED),
    ("circuit_state", own.ATTR_TURNPIKE_CIRCUIT_STATE),
    ("policy_decision", own.ATTR_TURNPIKE_POLICY_DECISION),
    ("redaction_applied", own.ATTR_TURNPIKE_REDACTION_APPLIED),
    ("pii_detected", own.ATTR_TURNPIKE_PII_DETECTED),
)


def identity(start: SpanStart) -> dict[str, Any]:
    """Return what names the operation, as fields of the vocabulary."""
    address = start.server_address
    return {
        "operation": start.operation,
        "provider": start.provider,
        "request_model": start.model,
        "server_address": address,
        "server_port": start.server_port if address is not None else None,
    }


def common_start(vocabulary: Vocabulary, start: SpanStart) -> dict[str, Any]:
    """Return the attributes that calls of the same kind start with."""
    is_openai = start.provider == VAL_GEN_AI_SYSTEM_OPENAI
    asked_tier = start.service_tier if is_openai and start.service_tier != "auto" else None
    facts = identity(start) | {
        "stream": start.stream or None,
        "output_type": start.output_type,
        "openai_api_type": _API_TYPES.get(start.provider_api or "") if is_openai else None,
        "openai_request_tier": asked_tier,
    }
    attributes = vocabulary.attributes(facts)
    attributes[own.ATTR_TURNPIKE_ROUTE] = start.route
    attributes[own.ATTR_TURNPIKE_PROVIDER] = start.provider_name
    attributes[own.ATTR_TURNPIKE_RETRY_ATTEMPTS_ALLOWED] = start.retry_attempts_allowed
    attributes[own.ATTR_TURNPIKE_CACHE_ENABLED] = start.cache_enabled
    if start.tier is not None:
        attributes[own.ATTR_TURNPIKE_MODEL_TIER] = start.tier
    return attributes


def own_start(attributes: dict[str, Any], vocabulary: Vocabulary, start: SpanStart) -> None:
    """Add what differs from call to call."""
    attributes[own.ATTR_TURNPIKE_REQUEST_ID] = start.request_id
    context = start.context
    for name, value in context.__dict__.items():
        if value is not None:
            for attribute in _CONTEXT.get(name, ()):
                attributes[attribute] = value
    if context.tenant_id is None:
        attributes[own.ATTR_TURNPIKE_ATTRIBUTED] = False
    options = (
        ("max_tokens", start.max_tokens),
        ("temperature", start.temperature),
        ("top_p", start.top_p),
        ("seed", start.seed),
        ("stop_sequences", start.stop_sequences or None),
    )
    for name, option in options:
        if option is not None:
            for attribute in vocabulary.names[name]:
                attributes[attribute] = option


def common_end(
    vocabulary: Vocabulary, start: SpanStart, envelope: LLMRequestEnvelope, error_type: str | None
) -> dict[str, Any]:
    """Return the attributes that calls of the same kind end with."""
    reason, provider_reason = envelope.finish_reason, envelope.provider_finish_reason
    facts = {
        "response_model": envelope.response_model,
        "finish_reasons": (reason,) if reason is not None else None,
        "openai_response_tier": response_tier(start, envelope),
        "error_type": error_type,
    }
    if envelope.fallback_triggered:
        facts |= identity(start)
    attributes = vocabulary.attributes(facts)
    attributes[own.ATTR_TURNPIKE_STATUS] = str(envelope.status)
    attributes[own.ATTR_TURNPIKE_CACHE_HIT] = bool(envelope.cache_hit)
    attributes[own.ATTR_TURNPIKE_COST_ORIGIN] = str(envelope.cost_source)
    attributes[own.ATTR_TURNPIKE_COST_QUALITY] = str(envelope.cost_quality)
    if error_type is not None:
        attributes[own.ATTR_TURNPIKE_ERROR_CATEGORY] = error_type
    if provider_reason is not None and provider_reason != reason:
        attributes[own.ATTR_TURNPIKE_PROVIDER_FINISH_REASON] = provider_reason
    return attributes


def response_tier(start: SpanStart, envelope: LLMRequestEnvelope) -> str | None:
    """Return the tier that OpenAI says it used; the conventions have no such attribute for others."""
    return envelope.service_tier if start.provider == VAL_GEN_AI_SYSTEM_OPENAI else None


def own_end(
    attributes: dict[str, Any],
    vocabulary: Vocabulary,
    envelope: LLMRequestEnvelope,
    usage: UsageVector | None,
    first_chunk_s: float | None,
) -> None:
    """Add what differs from call to call."""
    names = vocabulary.names
    if envelope.response_id is not None:
        for attribute in names["response_id"]:
            attributes[attribute] = envelope.response_id
    if first_chunk_s is not None:
        for attribute in names["time_to_first_chunk_s"]:
            attributes[attribute] = first_chunk_s
    if usage is not None:
        _add_usage(attributes, vocabulary, usage)
    nano_usd = cost_nano_usd(envelope)
    if nano_usd is not None:
        cost = nano_usd / 1e9
        attributes[own.ATTR_TURNPIKE_ESTIMATED_COST_USD] = cost
        attributes[own.ATTR_TURNPIKE_COST_AMOUNT] = cost
        attributes[own.ATTR_TURNPIKE_COST_CURRENCY] = CURRENCY
    for name, attribute in _DECISIONS:
        value = getattr(envelope, name)
        if value is not None:
            attributes[attribute] = str(value) if isinstance(value, str) else value


def _add_usage(attributes: dict[str, Any], vocabulary: Vocabulary, usage: UsageVector) -> None:
    names = vocabulary.names
    for name, whole in (("input_tokens", usage.tokens_in), ("output_tokens", usage.tokens_out)):
        if whole is not None:
            for attribute in names[name]:
                attributes[attribute] = whole
    parts = (
        ("cache_read_tokens", usage.cache_read),
        ("cache_write_tokens", usage.cache_write_5m + usage.cache_write_1h),
        ("reasoning_tokens", usage.reasoning),
        ("audio_input_tokens", usage.audio_in),
        ("audio_cache_read_tokens", usage.cache_audio_read),
        ("audio_output_tokens", usage.audio_out),
        ("image_input_tokens", usage.image_in),
    )
    for name, part in parts:
        if part:
            for attribute in names[name]:
                attributes[attribute] = part


def cost_nano_usd(envelope: LLMRequestEnvelope) -> int | None:
    """Return the cost in billionths of a US dollar, or ``None`` when it is not known."""
    if envelope.cost_nano_usd is not None or envelope.estimated_cost_usd is None:
        return envelope.cost_nano_usd
    return round(envelope.estimated_cost_usd * 1e9)
