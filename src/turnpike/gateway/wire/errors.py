"""What kind of failure a provider's error is, told from its status and its identifiers.

The provider's message is never kept: it can quote the prompt or a key. Of the body only ``code`` and ``type`` leave
this module, and only when they look like identifiers.

Sources: OpenAI "Error codes" guide and ``ResponseError.code`` in its API reference; Anthropic API "Errors"; Azure
OpenAI, OpenRouter, Mistral, DeepSeek and Groq error references. 409 is retried by both vendors' SDKs ("lock
timeouts").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from turnpike.gateway.wire.answer import WireError
from turnpike.gateway.wire.decoding import decode_untyped

__all__ = ["classify_error", "error_from"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)

_BY_STATUS: Final[Mapping[int, str]] = {
    # 402: the account may not make the request until it is paid for, like a key without the permission.
    **dict.fromkeys((401, 402, 403), "auth_error"),
    **dict.fromkeys((408, 504, 524), "timeout"),
    429: "rate_limit",
    # 498 is Groq's "flex tier capacity exceeded".
    **dict.fromkeys((409, 425, 498), "transient_error"),
}

_OPENAI: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("invalid_api_key", "authentication_error", "permission_error", "insufficient_permissions"), "auth_error"
    ),
    **dict.fromkeys(
        ("rate_limit_exceeded", "rate_limit_error", "insufficient_quota", "RateLimitReached"), "rate_limit"
    ),
    # A rate-limit error's type says which limit it was.
    **dict.fromkeys(("tokens", "requests"), "rate_limit"),
    **dict.fromkeys(("timeout", "timeout_error", "vector_store_timeout"), "timeout"),
    **dict.fromkeys(
        ("server_error", "api_error", "overloaded_error", "service_unavailable", "engine_overloaded"), "transient_error"
    ),
    **dict.fromkeys(
        (
            "invalid_request_error",
            "invalid_prompt",
            "context_length_exceeded",
            "model_not_found",
            "content_filter",
            "content_policy_violation",
            "bio_policy",
            "data_residency_mismatch",
            "misalignment_policy_violation",
            "image_content_policy_violation",
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "invalid_image_mode",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "image_file_too_large",
            "unsupported_image_media_type",
            "empty_image_file",
            "failed_to_download_image",
            "image_file_not_found",
        ),
        "invalid_request",
    ),
}

_ANTHROPIC: Final[Mapping[str, str]] = {
    **dict.fromkeys(("authentication_error", "permission_error", "billing_error"), "auth_error"),
    "rate_limit_error": "rate_limit",
    "timeout_error": "timeout",
    **dict.fromkeys(("api_error", "overloaded_error"), "transient_error"),
    **dict.fromkeys(("invalid_request_error", "not_found_error", "request_too_large"), "invalid_request"),
}

_VOCABULARIES: Final[Mapping[str, Mapping[str, str]]] = {
    "openai-chat": _OPENAI,
    "openai-responses": _OPENAI,
    "anthropic-messages": _ANTHROPIC,
}


def classify_error(status: int, body: bytes, format: str) -> WireError:  # noqa: A002
    """Return what kind of failure an HTTP error response is.

    The status decides; the body decides when the status says nothing (below 400) and supplies the identifiers.

    Args:
        status: the HTTP status.
        body: the raw body, of any kind: JSON in a vendor's shape, HTML from a proxy, nothing.
        format: the wire format of the request, which says whose error words the body may use.
    """
    reported = error_from(_error_object(body), format)
    return WireError(reported.code, reported.type, _category_of_status(status) or reported.category)


def error_from(error: Any, format: str) -> WireError:  # noqa: A002
    """Return what kind of failure a provider's error object is, without an HTTP status to go by.

    Args:
        error: the decoded object with ``code`` and ``type``; anything else is an error of which nothing is known.
        format: the wire format, which says whose error words the object may use.
    """
    if not isinstance(error, dict):
        return WireError(None, None, "unknown")
    code, kind = _identifier(error.get("code")), _identifier(error.get("type"))
    words = _VOCABULARIES.get(format, {})
    category = words.get(code or "") or _category_of_code(code) or words.get(kind or "") or "unknown"
    return WireError(code, kind, category)


def _category_of_status(status: int) -> str | None:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return "transient_error"
    return "invalid_request" if status >= 400 else None


def _category_of_code(code: str | None) -> str | None:
    """Read a code that is an HTTP status, as OpenRouter and Azure send it."""
    return _category_of_status(int(code)) if code is not None and re.fullmatch("[45][0-9][0-9]", code) else None


def _error_object(body: bytes) -> Any:
    """Return the object that holds the error's identifiers, in any of the vendors' shapes."""
    if body.lstrip()[:1] not in (b"{", b"["):
        return None
    value = decode_untyped(body)
    if isinstance(value, list) and value:  # Google wraps the object in a list.
        value = value[0]
    if isinstance(value, dict) and isinstance(value.get("error"), dict):
        return value["error"]
    return value  # Mistral and others put the identifiers at the top.


def _identifier(value: Any) -> str | None:
    """Return an identifier as text, or ``None`` for anything that could be prose."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else None
