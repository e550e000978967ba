"""The envelope: the one record of one LLM call, and the contract everything else in Turnpike serves.

It says who asked, which model answered, what that cost, why, and how sure each figure is. It is immutable once made,
holds no prompt and no answer, and reads lines written by older and by newer versions alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from turnpike.frozen import EMPTY, freeze
from turnpike.usage import UsageVector

__all__ = [
    "ENVELOPE_SCHEMA_VERSION",
    "UNATTRIBUTED",
    "AttemptRecord",
    "CircuitState",
    "CostQuality",
    "CostSource",
    "EnvelopeStatus",
    "FutureValue",
    "LLMRequestEnvelope",
]

ENVELOPE_SCHEMA_VERSION = "0.2.0"
"""Version of the envelope's own schema; written into every envelope."""

UNATTRIBUTED = "unattributed"
"""``tenant_id`` of a call for which nobody was named. Such an envelope also has ``attributed`` set to ``False``."""


class EnvelopeStatus(StrEnum):
    """How a call ended."""

    OK = "ok"
    CACHED = "cached"
    ERROR = "error"
    DEGRADED = "degraded"
    DENIED = "denied"
    CANCELLED = "cancelled"
    """The caller went away or stopped reading before the provider had finished."""
    UNKNOWN = "unknown"
    """The process died before the call could be closed; written by recovery."""


class CostSource(StrEnum):
    """Where a cost figure comes from."""

    ESTIMATED_LOCAL_SNAPSHOT = "estimated_local_snapshot"
    ESTIMATED_PROVIDER_API = "estimated_provider_api"
    ACTUAL_PROVIDER_INVOICE = "actual_provider_invoice"
    CACHED_ZERO = "cached_zero"
    DEGRADED_UNKNOWN = "degraded_unknown"


class CostQuality(StrEnum):
    """How far a cost figure can be trusted."""

    EXACT = "exact"
    """Every dimension of the usage had a rate in force at the request's time."""
    PROJECTED = "projected"
    """A rate was carried over from another date by its ratio to the standard rate."""
    APPROXIMATE = "approximate"
    """A dimension or a model was priced by its nearest known rate."""
    PARTIAL = "partial"
    """The usage is incomplete; the figure is a lower bound."""
    UNKNOWN = "unknown"
    """There is no figure."""


class CircuitState(StrEnum):
    """State of the circuit breaker that the call met."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class FutureValue(str):
    """An enum value written by a newer version, kept verbatim so that a line survives being read and written again."""

    __slots__ = ()


E = TypeVar("E", bound=StrEnum)


def _enum(kind: type[E], value: Any, name: str) -> E | FutureValue:
    """Coerce ``value`` to ``kind``, or raise ``ValueError`` naming the field."""
    if isinstance(value, (kind, FutureValue)):
        return value
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(member.value for member in kind)
        raise ValueError(f"{name} must be one of {allowed}; got {value!r}") from None


def _enum_or_future(kind: type[E], value: Any) -> E | FutureValue:
    if not isinstance(value, str):
        raise ValueError(f"{kind.__name__} must be a str; got {type(value).__name__}")
    try:
        return kind(value)
    except ValueError:
        return FutureValue(value)


def _check_texts(record: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(record, name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} must be a str; got {type(value).__name__}")


def _count(value: Any, name: str) -> None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{name} must be a non-negative integer or None; got {value!r}")


def _measure(value: Any, name: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite, non-negative number or None; got {value!r}")


@dataclass(frozen=True)
class AttemptRecord:
    """One request to a provider inside a call: a first try, a retry or a fallback."""

    number: int
    """1 for the first attempt."""
    provider: str
    model: str
    status: EnvelopeStatus | FutureValue = EnvelopeStatus.OK
    error_type: str | None = None
    http_status: int | None = None
    accepted: bool | None = None
    """Whether the provider took the request on (and so may bill it); ``None`` when that cannot be told."""
    response_model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_nano_usd: int | None = None
    duration_ms: float | None = None
    retry_after_s: float | None = None
    """What the provider asked for in ``Retry-After``, in seconds."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", _enum(EnvelopeStatus, self.status, "status"))
        _check_texts(self, _ATTEMPT_TEXTS)
        for name in ("number", "tokens_in", "tokens_out", "cost_nano_usd"):
            _count(getattr(self, name), name)
        _measure(self.duration_ms, "duration_ms")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, enums as their values."""
        fields_set = {name: value for name, value in self.__dict__.items() if value is not None}
        fields_set["status"] = str(self.status)
        return fields_set

    @classmethod
    def from_trusted(cls, values: dict[str, Any]) -> AttemptRecord:
        """Build an attempt from values that the gateway has made itself; see ``LLMRequestEnvelope.from_trusted``."""
        attempt = object.__new__(cls)
        attempt.__dict__.update(values)
        return attempt

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AttemptRecord:
        """Build an attempt from a mapping; unknown keys are ignored and unknown statuses kept verbatim."""
        if not isinstance(data, Mapping):
            raise ValueError(f"an attempt must be a mapping; got {type(data).__name__}")
        known = {key: value for key, value in data.items() if key in _ATTEMPT_FIELDS}
        if missing := [name for name in ("number", "provider", "model") if name not in known]:
            raise ValueError(f"not an attempt: {', '.join(missing)} missing")
        if "status" in known:
            known["status"] = _enum_or_future(EnvelopeStatus, known["status"])
        return cls(**known)


@dataclass(frozen=True)
class LLMRequestEnvelope:
    """The terminal record of one call.

    The first 45 fields are those published with 0.1.x. ``None`` means "not known"; it never stands for zero. Mappings are
    frozen copies of what was passed in.

    Raises:
        ValueError: if a required field is empty, a count is negative, a figure is not finite, the token total is not the
            sum of its parts, or an enum value is unknown (``from_dict`` keeps such values verbatim instead).
    """

    # required
    schema_version: str
    request_id: str
    tenant_id: str
    route: str
    # identity
    trace_id: str | None = None
    span_id: str | None = None
    caller_id: str | None = None
    use_case: str | None = None
    session_id: str | None = None
    task_id: str | None = None
    # model
    provider_requested: str | None = None
    model_requested: str | None = None
    provider_selected: str | None = None
    model_selected: str | None = None
    model_tier: str | None = None
    routing_decision: str | None = None
    routing_reason: str | None = None
    # economics
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_total: int | None = None
    estimated_cost_usd: float | None = None
    cost_source: CostSource | FutureValue = CostSource.DEGRADED_UNKNOWN
    # reliability
    latency_ms: float | None = None
    time_to_first_token_ms: float | None = None
    status: EnvelopeStatus | FutureValue = EnvelopeStatus.OK
    error_type: str | None = None
    retry_count: int | None = None
    fallback_triggered: bool | None = None
    fallback_reason: str | None = None
    circuit_state: CircuitState | FutureValue | None = None
    streaming: bool | None = None
    finish_reason: str | None = None
    # governance
    policy_input_class: str | None = None
    policy_decision: str | None = None
    policy_mode: str | None = None
    redaction_applied: bool | None = None
    pii_detected: bool | None = None
    # cache and evaluation
    cache_eligible: bool | None = None
    cache_strategy: str | None = None
    cache_hit: bool | None = None
    cache_key_fingerprint: str | None = None
    cache_key_algorithm: str | None = None
    cache_lookup_confidence: float | None = None
    eval_hooks: tuple[str, ...] = ()
    audit_tags: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    # since 0.2.0
    started_at: str | None = None
    """When the call was opened, ISO 8601 in UTC; prices are those of this moment."""
    attributed: bool | None = None
    """``False`` when no tenant was named and ``tenant_id`` is ``"unattributed"``."""
    provider_api: str | None = None
    """Wire format of the serving attempt, such as ``openai-chat``."""
    response_model: str | None = None
    """The model that the provider says has answered."""
    response_id: str | None = None
    provider_finish_reason: str | None = None
    """The provider's own word behind ``finish_reason``."""
    service_tier: str | None = None
    """The tier that the provider says it used."""
    cost_nano_usd: int | None = None
    """The cost in billionths of a US dollar: the figure to add up. ``estimated_cost_usd`` is this divided by 10^9."""
    cost_quality: CostQuality | FutureValue = CostQuality.UNKNOWN
    cost_notes: tuple[str, ...] = ()
    pricing_version: str | None = None
    pricing_provider: str | None = None
    """Whose price list was asked, by the ids of genai-prices."""
    pricing_model_id: str | None = None
    tokens_method: str | None = None
    """How the token counts were obtained: ``provider``, or ``None`` when there are none."""
    usage: UsageVector | None = None
    provider_usage: Mapping[str, Any] | None = None
    """The provider's usage object as it came, kept so that the call can be priced again."""
    tool_counts: Mapping[str, int] | None = None
    """Provider-side tool runs that the provider bills but does not list in its usage object."""
    attempts: tuple[AttemptRecord, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in _REQUIRED:
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name} must be a non-empty string; got {value!r}")
        _check_texts(self, _TEXTS)
        for name in _SWITCHES:
            if getattr(self, name) not in (None, True, False):
                raise ValueError(f"{name} must be a bool or None; got {getattr(self, name)!r}")
        put(self, "cost_source", _enum(CostSource, self.cost_source, "cost_source"))
        put(self, "status", _enum(EnvelopeStatus, self.status, "status"))
        put(self, "cost_quality", _enum(CostQuality, self.cost_quality, "cost_quality"))
        if self.circuit_state is not None:
            put(self, "circuit_state", _enum(CircuitState, self.circuit_state, "circuit_state"))
        for name in _COUNTS:
            _count(getattr(self, name), name)
        for name in _MEASURES:
            _measure(getattr(self, name), name)
        for name in _SEQUENCES:
            put(self, name, _sequence(getattr(self, name), name))
        for name in _MAPPINGS:
            put(self, name, _mapping(getattr(self, name), name))
        self._check_total()

    def _check_total(self) -> None:
        if self.tokens_total is None or self.tokens_in is None or self.tokens_out is None:
            return
        if self.tokens_total != self.tokens_in + self.tokens_out:
            raise ValueError(
                f"tokens_total must be tokens_in + tokens_out; got {self.tokens_total} "
                f"for {self.tokens_in} + {self.tokens_out}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain, JSON-ready data: enums as values, without ``None`` and without empty tuples and mappings."""
        out: dict[str, Any] = {}
        for name, value in self.__dict__.items():
            if value is None or value == ():
                continue
            if isinstance(value, StrEnum):
                out[name] = value.value
            elif name not in _STRUCTURED:
                out[name] = value
            elif value:
                out[name] = _plain(name, value)
        for name, default in _ENUM_DEFAULTS.items():
            out.setdefault(name, default)
        return out

    def set_fields(self) -> dict[str, Any]:
        """Return the fields that are set, as they are: what a JSON encoder can write without another copy."""
        return {name: value for name, value in self.__dict__.items() if value is not None and value != ()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LLMRequestEnvelope:
        """Read an envelope from a mapping such as a decoded ledger line.

        Unknown keys are ignored, values of a newer version's enums are kept verbatim, and the published line status
        ``success`` is read as ``ok``.

        Raises:
            ValueError: if a required field is missing, or a field holds something it cannot hold.
        """
        known = {key: data[key] for key in data if key in _FIELDS}
        missing = [name for name in _REQUIRED if name not in known]
        if missing:
            raise ValueError(f"not an envelope: {', '.join(missing)} missing")
        if known.get("status") == "success":
            known["status"] = "ok"
        for name, kind in _ENUMS.items():
            if known.get(name) is not None:
                known[name] = _enum_or_future(kind, known[name])
        for name in _SEQUENCES:
            if known.get(name) is None:
                known.pop(name, None)
        if known.get("usage") is not None:
            known["usage"] = _usage(known["usage"])
        if known.get("attempts") is not None:
            known["attempts"] = tuple(map(AttemptRecord.from_dict, _sequence(known["attempts"], "attempts")))
        if known.get("audit_tags", EMPTY) is None:
            del known["audit_tags"]
        return cls(**known)

    @classmethod
    def from_trusted(cls, values: dict[str, Any]) -> LLMRequestEnvelope:
        """Build an envelope from values that the gateway has made itself, without checking them again.

        Ten times faster than the constructor; the values must already be what the constructor would have stored. Fields
        that are left out take their class defaults.
        """
        envelope = object.__new__(cls)
        envelope.__dict__.update(values)
        if "audit_tags" not in values:
            envelope.__dict__["audit_tags"] = EMPTY
        return envelope


def _sequence(value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list or tuple; got {type(value).__name__}")
    frozen: tuple[Any, ...] = freeze(value)
    return frozen


def _mapping(value: Any, name: str) -> Any:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a mapping or None; got {type(value).__name__}")
    return freeze(value)


def _usage(value: Any) -> UsageVector:
    if isinstance(value, UsageVector):
        return value
    try:
        return msgspec.convert(value, UsageVector)
    except msgspec.ValidationError as error:
        raise ValueError(f"usage is not a usage vector: {error}") from None


def _plain(name: str, value: Any) -> Any:
    if name == "attempts":
        return [attempt.to_dict() for attempt in value]
    if name == "usage":
        return value.to_dict()
    if isinstance(value, tuple):
        return list(value)
    return _thaw(value)


def _thaw(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _thaw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_thaw(item) for item in value]
    return value


_REQUIRED = ("schema_version", "request_id", "tenant_id", "route")
_COUNTS = ("tokens_in", "tokens_out", "tokens_total", "cost_nano_usd", "retry_count")
_MEASURES = ("estimated_cost_usd", "latency_ms", "time_to_first_token_ms", "cache_lookup_confidence")
_SEQUENCES = ("eval_hooks", "cost_notes", "attempts")
_MAPPINGS = ("audit_tags", "provider_usage", "tool_counts")
_STRUCTURED = frozenset((*_SEQUENCES, *_MAPPINGS, "usage"))
_ENUMS: dict[str, type[StrEnum]] = {
    "cost_source": CostSource,
    "status": EnvelopeStatus,
    "cost_quality": CostQuality,
    "circuit_state": CircuitState,
}
_ENUM_DEFAULTS = {
    "cost_source": CostSource.DEGRADED_UNKNOWN.value,
    "status": EnvelopeStatus.OK.value,
    "cost_quality": CostQuality.UNKNOWN.value,
}
_TEXTS = tuple(item.name for item in fields(LLMRequestEnvelope) if item.type == "str | None")
_SWITCHES = tuple(item.name for item in fields(LLMRequestEnvelope) if item.type == "bool | None")
_FIELDS = frozenset(item.name for item in fields(LLMRequestEnvelope))
_ATTEMPT_TEXTS = tuple(item.name for item in fields(AttemptRecord) if item.type in ("str", "str | None"))
_ATTEMPT_FIELDS = frozenset(item.name for item in fields(AttemptRecord))
