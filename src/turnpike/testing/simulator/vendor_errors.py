"""Error bodies and headers in the vendors' shapes.

Shapes and wording follow recorded answers of api.openai.com and api.anthropic.com; no key is ever repeated in one.
"""

from __future__ import annotations

from typing import Any

import msgspec

ANTHROPIC = "anthropic-messages"
OPENAI = "openai-chat"
INVALID = "invalid_request_error"
_OPENAI: dict[int, tuple[str, str | None, str]] = {
    400: (INVALID, None, "Invalid request."),
    401: (
        INVALID,
        "invalid_api_key",
        "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    403: ("request_forbidden", "unsupported_country_region_territory", "Country, region, or territory not supported"),
    404: (INVALID, "model_not_found", "The model does not exist or you do not have access to it."),
    408: ("timeout", None, "Request timed out."),
    409: (INVALID, "conflict", "The resource was changed by another request."),
    413: (INVALID, "request_too_large", "Maximum content size limit exceeded."),
    422: (INVALID, "unprocessable_entity", "The request was well-formed but could not be processed."),
    429: (
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 120ms.",
    ),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    502: ("server_error", None, "Bad gateway."),
    503: ("service_unavailable_error", None, "The engine is currently overloaded, please try again later."),
}
_ANTHROPIC: dict[int, tuple[str, str]] = {
    400: (INVALID, "Invalid request."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    408: ("timeout_error", "Request timed out"),
    409: (INVALID, "Conflict"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    422: (INVALID, "Unprocessable request"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit of 50 requests per minute."),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_OPENAI_CODES = {
    "insufficient_quota": (
        "insufficient_quota",
        (
            "You exceeded your current quota, please check your plan and billing details. For more information on "
            "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
        ),
    ),
    "context_length_exceeded": (
        INVALID,
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
    ),
}
_INTERNAL = ("api_error", "Internal server error")
_RETRIED = frozenset({408, 409, 429})


def error_object(
    api: str, status: int, message: str | None = None, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The vendor's `error` object for a status; `message` and `code` replace the usual ones.

    For Anthropic, which has no codes, `code` replaces the error's type.
    """
    if api == ANTHROPIC:
        kind, usual = _ANTHROPIC.get(status, (INVALID, "Invalid request.") if status < 500 else _INTERNAL)
        return {"type": code or kind, "message": message or usual}
    fallback = (INVALID, None, "Invalid request.") if status < 500 else _OPENAI[500]
    openai_kind, usual_code, usual = _OPENAI.get(status, fallback)
    if code in _OPENAI_CODES:
        openai_kind, usual = _OPENAI_CODES[code]
    return {"message": message or usual, "type": openai_kind, "param": param, "code": code or usual_code}


def unknown_path(api: str, method: str, path: str) -> dict[str, Any]:
    """The `error` object for a path that the vendor does not have."""
    if api == ANTHROPIC:
        return error_object(api, 404)
    return {"message": f"Invalid URL ({method} {path})", "type": INVALID, "param": None, "code": None}


def missing_key(api: str) -> dict[str, Any]:
    """The `error` object for a request without a key."""
    if api == ANTHROPIC:
        return error_object(api, 401, "x-api-key header is required")
    message = (
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from "
        "https://platform.openai.com/account/api-keys."
    )
    return {"message": message, "type": INVALID, "param": None, "code": None}


def error_body(api: str, error: dict[str, Any], request_id: str) -> bytes:
    """The JSON body around an `error` object."""
    if api == ANTHROPIC:
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
    return msgspec.json.encode({"error": error})


def error_headers(api: str, status: int) -> dict[str, str]:
    """Headers that the vendor adds to an error: Anthropic says whether to retry."""
    if api != ANTHROPIC:
        return {}
    return {"x-should-retry": "true" if status in _RETRIED or status >= 500 else "false"}
