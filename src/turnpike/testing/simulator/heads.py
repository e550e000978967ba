"""Response heads as bytes, with the headers that the vendors' edges send."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from turnpike.testing.simulator.vendor_errors import ANTHROPIC

JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream; charset=utf-8"
_OPENAI = {
    "access-control-expose-headers": "X-Request-ID",
    "openai-organization": "simulated-org",
    "openai-processing-ms": "412",
    "openai-project": "proj_simulated",
    "openai-version": "2020-10-01",
    "x-envoy-upstream-service-time": "431",
    "x-ratelimit-limit-requests": "30000",
    "x-ratelimit-limit-tokens": "150000000",
    "x-ratelimit-remaining-requests": "29999",
    "x-ratelimit-remaining-tokens": "149999390",
    "x-ratelimit-reset-requests": "2ms",
    "x-ratelimit-reset-tokens": "0s",
    "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
    "x-content-type-options": "nosniff",
    "server": "turnpike-simulator",
}
_ANTHROPIC = {
    "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
    "anthropic-ratelimit-input-tokens-limit": "4000000",
    "anthropic-ratelimit-input-tokens-remaining": "3999000",
    "anthropic-ratelimit-output-tokens-limit": "800000",
    "anthropic-ratelimit-output-tokens-remaining": "799000",
    "anthropic-ratelimit-requests-limit": "10000",
    "anthropic-ratelimit-requests-remaining": "9999",
    "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
    "x-robots-tag": "none",
    "server": "turnpike-simulator",
}


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


@lru_cache(maxsize=64)
def _vendor_lines(api: str, left_out: frozenset[str]) -> str:
    headers = _ANTHROPIC if api == ANTHROPIC else _OPENAI
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name not in left_out)


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded" if status == 529 else "Status"
    return f"HTTP/1.1 {status} {phrase}\r\n"


def response_head(
    api: str, status: int, request_id: str, now: int, fields: Mapping[str, str], length: int | None
) -> bytes:
    """The status line and headers of a vendor's response; `length` None is chunked encoding. `fields` win."""
    own = {
        "date": _date(now),
        "request-id" if api == ANTHROPIC else "x-request-id": request_id,
        **{name.lower(): value for name, value in fields.items()},
    }
    if "content-length" not in own and "transfer-encoding" not in own:
        name, value = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
        own[name] = value
    lines = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    return f"{_status_line(status)}{lines}{_vendor_lines(api, frozenset(own))}\r\n".encode("latin-1", "replace")


def plain_head(status: int, length: int) -> bytes:
    """The head of a control answer."""
    return f"{_status_line(status)}content-type: {JSON_TYPE}\r\ncontent-length: {length}\r\n\r\n".encode()
