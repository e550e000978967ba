"""Refusals and failures as RFC 9457 problem details: one rendering, so that every stack sends the same bytes.

A problem never carries a key, a prompt, a provider's text or a word about the service's configuration. What an operator
needs to know beyond that goes to this module's log.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnpike.errors import ProviderError, QuotaUnavailableError, TurnpikeError

__all__ = ["CHALLENGE", "MEDIA_TYPE", "Problem", "problem_from", "render"]

MEDIA_TYPE = "application/problem+json"
"""Media type of every problem body (RFC 9457, section 3)."""

CHALLENGE = 'ApiKey realm="turnpike"'
"""``WWW-Authenticate`` of a 401, which has to carry one (RFC 9110, section 11.6.1); the scheme is not registered."""

_LOG = logging.getLogger(__name__)

_DETAILS = {
    500: "The service is not set up to serve this request. Its operator finds the reason in the log.",
    502: "The model provider failed to answer this request.",
    503: "The model provider is not taking more requests at the moment. Try again later.",
    504: "The model provider did not answer in time. Try again later.",
}


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """A refusal as it leaves the service: status, problem details and headers. Raise it, or render it.

    It is not frozen: frameworks and ``contextlib`` assign ``__traceback__`` to the exceptions they pass on.

    Attributes:
        status: HTTP status.
        title: short summary of the problem type, the same for each occurrence.
        detail: what is wrong this time, and what to do instead; shown to the client.
        type: URI of the problem type; ``about:blank`` means that the status says it all.
        headers: response headers beside ``Content-Type`` and ``Cache-Control``.
        members: extension members of the body, with values that JSON can hold.
        instance: URI of this occurrence.
        request_id: ``request_id`` of the call's envelope, where a call was opened.
    """

    status: int
    title: str
    detail: str
    type: str = "about:blank"
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    instance: str | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        return f"{self.status} {self.title}: {self.detail}"

    @property
    def body(self) -> bytes:
        """The problem details as JSON: the members of RFC 9457 first, then the extensions in their own order."""
        shown: dict[str, Any] = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        if self.instance is not None:
            shown["instance"] = self.instance
        if self.request_id is not None:
            shown["request_id"] = self.request_id
        # Escaping to ASCII keeps a lone surrogate, which a client can put into any text, from failing here.
        return json.dumps({**shown, **self.members}, ensure_ascii=True, separators=(",", ":")).encode("ascii")

    @property
    def response_headers(self) -> dict[str, str]:
        """All headers of the response but its length."""
        return {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", **self.headers}


def problem_from(error: BaseException) -> Problem | None:
    """Return the problem that ``error`` becomes at the edge, or ``None`` for errors that are not Turnpike's.

    Where the service itself is at fault, the error's text is logged, because the client is not told it.
    """
    if isinstance(error, Problem):
        return error
    if not isinstance(error, TurnpikeError):
        return None
    if error.http_status == 500:
        _LOG.error("%s: %s", type(error).__name__, error)
    return render(error)


def render(error: TurnpikeError) -> Problem:
    """Return the problem that ``error`` becomes, without logging it.

    A 4xx is about the client's own request, so its text is shown. A 5xx is about the service or its provider: the
    client gets a fixed sentence.
    """
    status = error.http_status
    return Problem(
        status,
        error.title,
        str(error) if status < 500 else error.public_detail or _DETAILS.get(status, _DETAILS[500]),
        error.problem_type,
        _headers(error),
        request_id=_request_id(error),
    )


def _headers(error: TurnpikeError) -> dict[str, str]:
    headers = {}
    if error.http_status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    if error.http_status == 402:
        # The OpenAI and Anthropic SDKs honour this header; a retry would meet the same exhausted budget.
        headers["x-should-retry"] = "false"
    if isinstance(error, QuotaUnavailableError):
        headers["Retry-After"] = "1"
    if isinstance(error, ProviderError) and error.retry_after_s is not None and math.isfinite(error.retry_after_s):
        headers["Retry-After"] = str(max(0, math.ceil(error.retry_after_s)))
    return headers


def _request_id(error: TurnpikeError) -> str | None:
    envelope = error.envelope if isinstance(error, ProviderError) else None
    return None if envelope is None else envelope.request_id
