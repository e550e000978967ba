"""A ledger line: an envelope, the keys that every line carries, and the caller's metadata, as one line of JSON.

Encoding never fails: what JSON cannot hold is represented, because a line that cannot be written is a call that is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from turnpike.envelope import LLMRequestEnvelope

__all__ = ["encode_line", "ledger_line"]

_PUBLISHED_STATUS = {"ok": "success"}
"""Readers of 0.1.x lines look for ``success``; ``LLMRequestEnvelope.from_dict`` reads it back as ``ok``."""

_ENVELOPE_KEYS = frozenset(LLMRequestEnvelope.__dataclass_fields__)
_LINE_KEYS = frozenset(("timestamp", "provider", "model", "schema_valid", "selected_model"))
RESERVED_KEYS = _ENVELOPE_KEYS | _LINE_KEYS
"""Keys that metadata cannot set: they are the record's own."""


def ledger_line(
    envelope: LLMRequestEnvelope, *, timestamp: str, metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the line of a settled call.

    Args:
        envelope: the call's terminal envelope.
        timestamp: when it was settled, ISO 8601 in UTC.
        metadata: the caller's own keys, laid flat beside the envelope. Keys that the record owns are left out.
    """
    line = envelope.set_fields()
    status = line["status"]
    line["status"] = _PUBLISHED_STATUS.get(status, status)
    if "attempts" in line:
        line["attempts"] = [attempt.to_dict() for attempt in envelope.attempts]
    if not envelope.audit_tags:
        line.pop("audit_tags", None)
    line["timestamp"] = timestamp
    line["provider"] = envelope.provider_selected
    line["model"] = line["selected_model"] = envelope.model_selected
    line["schema_valid"] = True
    if metadata:
        for key, value in metadata.items():
            name = _name(key)
            if name not in RESERVED_KEYS:
                line[name] = value
    return line


_encode = msgspec.json.Encoder(enc_hook=lambda value: f"<{type(value).__name__}>").encode


def encode_line(line: Mapping[str, Any]) -> bytes:
    """Encode ``line`` as one line of JSON without its newline.

    Lone surrogates become U+FFFD, mapping keys become strings, NaN and infinities become null, and a value that JSON has
    no form for becomes its type's name in angle brackets.
    """
    try:
        return _encode(line)
    except Exception:  # noqa: BLE001
        # Whatever a foreign object does when it is encoded, the call's own keys still make a line.
        return _encode(_representable(line, 0))


def _name(key: Any) -> str:
    if type(key) is str:
        return key
    try:
        return str(key)
    except Exception:  # noqa: BLE001
        return f"<{type(key).__name__}>"


def _representable(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        # msgspec refuses integers beyond 64 bits.
        return value if -(2**63) <= value < 2**64 else str(value)
    if depth > 32:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {_representable(_name(key), depth): _representable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_representable(item, depth + 1) for item in value]
    try:
        return msgspec.json.decode(_encode(value))
    except Exception:  # noqa: BLE001
        return f"<{type(value).__name__}>"
