"""Telemetry of calls, and the functions published with 0.1.x that write to ledger and metrics.

``CallTelemetry`` and ``SpanStart`` are what the gateway uses. ``emit`` and ``emit_event`` are for code that keeps books
of its own; the gateway calls neither. They never raise and never let metadata replace what the record itself says.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

from turnpike.clock import utc_stamp
from turnpike.context import LLMRequestContext
from turnpike.envelope import ENVELOPE_SCHEMA_VERSION, UNATTRIBUTED, CostSource, EnvelopeStatus, LLMRequestEnvelope
from turnpike.gateway.call_telemetry import CallTelemetry
from turnpike.gateway.spans import SpanStart
from turnpike.ledger import LedgerWriter, encode_line
from turnpike.ledger.line import RESERVED_KEYS, ledger_line
from turnpike.settings import DEFAULT_TELEMETRY_PATH, Settings

__all__ = ["CallTelemetry", "SpanStart", "emit", "emit_event", "telemetry_path"]

_log = logging.getLogger("turnpike.telemetry")

_DESCRIPTIVE = frozenset(
    (
        *LLMRequestContext.__dataclass_fields__,
        "model_tier",
        "routing_decision",
        "selected_model",
        "session_id",
        "task_id",
    )
)
"""Reserved keys that metadata may still set on a line without an envelope, where nothing else says them."""


class _DefaultPath(PosixPath):
    """The path that the environment names. Put back by a test's patch, it still means "read the environment"."""


def telemetry_path() -> Path:
    """Return the ledger that ``emit`` and ``emit_event`` write to.

    That is this module's ``TELEMETRY_PATH`` if somebody has set it, else ``TURNPIKE_TELEMETRY_PATH``, else
    ``~/.turnpike/telemetry.jsonl``; read at every call, with ``~`` expanded.
    """
    patched = globals().get("TELEMETRY_PATH")
    if patched is not None and not isinstance(patched, _DefaultPath):
        return Path(patched).expanduser()
    return Path(os.environ.get("TURNPIKE_TELEMETRY_PATH") or DEFAULT_TELEMETRY_PATH).expanduser()


def __getattr__(name: str) -> Any:
    if name == "TELEMETRY_PATH":
        return _DefaultPath(telemetry_path())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _writer(path: Path) -> LedgerWriter:
    return LedgerWriter(path)


def _ledger() -> LedgerWriter | None:
    """Return the process's writer for ``telemetry_path()``, or ``None`` where ``TURNPIKE_LEDGER`` is off."""
    switch = os.environ.get("TURNPIKE_LEDGER")
    if switch and not Settings.from_env({"TURNPIKE_LEDGER": switch}).ledger:
        return None
    return _writer(telemetry_path())


def _write(line: Mapping[str, Any]) -> None:
    ledger = _ledger()
    if ledger is not None:
        ledger.append(encode_line(line))


def emit(
    request_id: str,
    route: str,
    provider: str,
    model: str,
    latency_ms: float,
    status: str,
    tokens_in: int | None,
    tokens_out: int | None,
    estimated_cost_usd: float | None,
    cache_hit: bool = False,
    schema_valid: bool = True,
    error_type: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    cost_source: str = "estimated_local_snapshot",
    envelope: LLMRequestEnvelope | None = None,
) -> None:
    """Write one call to the ledger and to the metrics. Never raises.

    Args:
        request_id: id of the call.
        route: its route.
        provider: name of the provider.
        model: the model asked for.
        latency_ms: how long it took, in milliseconds.
        status: ``success``, ``error``, or any other status of an envelope.
        tokens_in: input tokens, cached ones included.
        tokens_out: output tokens.
        estimated_cost_usd: cost in US dollars; ``None`` when it is not known.
        cache_hit: whether the answer came from a cache.
        schema_valid: whether the answer was what the application expected.
        error_type: a short token that says what went wrong.
        metadata: further keys for the line. Those that the record owns are left out.
        cost_source: where the cost comes from, a value of ``CostSource``.
        envelope: the call's envelope; what it says wins over the other arguments.
    """
    try:
        own = {
            "request_id": request_id,
            "route": route,
            "provider": provider,
            "model": model,
            "latency_ms": latency_ms,
            "status": "success" if status == "ok" else status,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "estimated_cost_usd": estimated_cost_usd,
            "cost_source": cost_source,
            "cache_hit": cache_hit,
            "schema_valid": schema_valid,
            "error_type": error_type,
        }
        _write(_plain_line(own, metadata) if envelope is None else _envelope_line(envelope, own, metadata))
    except Exception as error:  # noqa: BLE001 - an event is never worth an error
        _complain("emit", error)
    try:
        _measure(own, metadata or {}, envelope)
    except Exception as error:  # noqa: BLE001 - an event is never worth an error
        _complain("emit", error)


def emit_event(
    event_type: str,
    session_id: str | None = None,
    task_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write an event of the application to the ledger. It is no call and is not counted as one. Never raises.

    Args:
        event_type: what happened.
        session_id: the session it belongs to.
        task_id: the task it belongs to.
        metadata: further keys for the line; they cannot replace the keys above.
    """
    try:
        line: dict[str, Any] = {
            "timestamp": utc_stamp(time.time()),
            "event_type": event_type,
            "schema_version": ENVELOPE_SCHEMA_VERSION,
        }
        if session_id is not None:
            line["session_id"] = session_id
        if task_id is not None:
            line["task_id"] = task_id
        _write({**(metadata or {}), **line})
    except Exception as error:  # noqa: BLE001 - an event is never worth an error
        _complain("emit_event", error)


def _plain_line(own: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    line = {"timestamp": utc_stamp(time.time()), **own, "schema_version": ENVELOPE_SCHEMA_VERSION}
    for key, value in (metadata or {}).items():
        if key not in line and (key in _DESCRIPTIVE or key not in RESERVED_KEYS) and key != "event_type":
            line[str(key)] = value
    return line


def _envelope_line(
    envelope: LLMRequestEnvelope, own: Mapping[str, Any], metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    line = ledger_line(envelope, timestamp=utc_stamp(time.time()), metadata=metadata)
    line |= {key: own[key] for key in ("provider", "model", "schema_valid")}
    if own["error_type"] is not None:
        line.setdefault("error_type", own["error_type"])
    return line


@functools.cache
def _calls() -> CallTelemetry:
    return CallTelemetry()


def _measure(own: Mapping[str, Any], metadata: Mapping[str, Any], envelope: LLMRequestEnvelope | None) -> None:
    settled = _settled(own) if envelope is None else envelope
    tier = settled.model_tier or metadata.get("model_tier") or metadata.get("routing_decision")
    start = SpanStart(
        request_id=settled.request_id,
        provider=own["provider"],
        provider_name=own["provider"],
        model=own["model"],
        route=settled.route,
        tier=None if tier is None else str(tier),
        context=LLMRequestContext(),
    )
    _calls().measure(start, settled, duration_s=own["latency_ms"] / 1000)


def _settled(own: Mapping[str, Any]) -> LLMRequestEnvelope:
    status = EnvelopeStatus("ok" if own["status"] == "success" else own["status"])
    failed = status is EnvelopeStatus.ERROR
    return LLMRequestEnvelope(
        schema_version=ENVELOPE_SCHEMA_VERSION,
        request_id=own["request_id"],
        tenant_id=UNATTRIBUTED,
        route=own["route"],
        # Callers of 0.1.x write 0 for the tokens of a failed call, which is not a count.
        tokens_in=own["tokens_in"] or (None if failed else own["tokens_in"]),
        tokens_out=own["tokens_out"] or (None if failed else own["tokens_out"]),
        estimated_cost_usd=own["estimated_cost_usd"],
        cost_source=CostSource(own["cost_source"]),
        status=status,
        error_type=own["error_type"],
        cache_hit=own["cache_hit"],
    )


_complained: set[tuple[str, str]] = set()


def _complain(what: str, error: Exception) -> None:
    kind = (what, type(error).__name__)
    if kind not in _complained:
        _complained.add(kind)
        # The type only: the text may quote what the caller passed.
        _log.warning("%s() failed (%s); this is not logged again", *kind)
