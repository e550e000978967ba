"""The gate: from request headers and a route template to an admission, or to the problem that refuses it.

Identity comes from the key alone; no header, body or query that a client controls can name a tenant. Whatever bytes the
headers hold, the answer is an admission or a problem, never another error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from turnpike.boundary.keys import KeyStore, Principal, SettingsKeyStore, is_key
from turnpike.boundary.problem import Problem, render
from turnpike.boundary.rate_limit import POLICY, Decision, MemoryRequestLimiter, RequestLimiter, rate_limit_headers
from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.context import LLMRequestContext
from turnpike.errors import PROBLEM_BASE, SettingsError
from turnpike.frozen import EMPTY
from turnpike.settings import RateLimit, Settings, parse_rate_limit

__all__ = ["Admission", "Gate", "Headers"]

Headers = Mapping[str, str] | Iterable[tuple[bytes | str, bytes | str]]
"""Request headers as ASGI's pairs of bytes, as pairs of text, or as a mapping."""

_LOG = logging.getLogger(__name__)
_BEARER = re.compile(r"bearer +(.*)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Admission:
    """A request that may go on.

    Attributes:
        principal: who holds the key; ``None`` on exempt routes.
        context: the attribution of every call that the request makes.
        route: the route template.
        headers: response headers that tell the client of its quota.
    """

    principal: Principal | None
    context: LLMRequestContext
    route: str
    headers: Mapping[str, str]


class Gate:
    """Decides who may enter. One per application, shared by all of its threads; it does no I/O.

    Args:
        settings: keys, header name, limits and exempt routes.
        key_store: where keys are looked up, instead of ``settings.api_keys``.
        clock: source of monotonic time.
        limiter: what counts requests, instead of this process's memory.

    Raises:
        SettingsError: if a key or a limit in the settings is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        key_store: KeyStore | None = None,
        clock: Clock = SYSTEM_CLOCK,
        limiter: RequestLimiter | None = None,
    ) -> None:
        self.key_header: str = settings.key_header
        """Name of the header that holds the key."""
        self._keys = key_store
        if key_store is None and settings.api_keys:
            self._keys = SettingsKeyStore(settings.api_keys)
        self._limit = _service_limit(settings)
        self._exempt = frozenset(settings.exempt)
        self._clock = clock
        self._limiter = limiter if limiter is not None else MemoryRequestLimiter()
        self._bearer = settings.key_header.lower() == "authorization"
        self._has_warned = False

    def admit(self, headers: Headers, *, route: str, method: str) -> Admission:
        """Admit a request, and count it against its key's limit.

        Preflight requests (``OPTIONS``) carry no key by definition, so they and exempt routes pass without one and
        without an identity.

        Args:
            headers: the request's headers.
            route: the route *template*, such as ``/chat/{id}``.
            method: the HTTP method.

        Raises:
            Problem: 401 without exactly one known key, 429 beyond the limit, 500 if the service has no keys.
        """
        if method == "OPTIONS" or route in self._exempt:
            return Admission(None, LLMRequestContext(), route, EMPTY)
        principal = self._authenticate(headers)
        limit = principal.rate_limit or self._limit
        decision = self._limiter.admit(principal.key_id, limit, self._clock.monotonic())
        if not decision.allowed:
            raise _quota_exceeded(limit, decision)
        context = LLMRequestContext(tenant_id=principal.tenant, caller_id=principal.caller)
        return Admission(principal, context, route, rate_limit_headers(limit, decision))

    def _authenticate(self, headers: Headers) -> Principal:
        if self._keys is None:
            raise self._no_keys()
        raw_key = self._read_key(headers)
        principal = None if raw_key is None else self._keys.find(raw_key)
        if principal is None:
            raise self._unauthorized()
        return principal

    def _read_key(self, headers: Headers) -> str | None:
        """Return the one key that was sent, or ``None`` if there is none, more than one or a malformed one."""
        values = _values(headers, self.key_header.lower())
        if len(values) != 1:
            return None
        value = values[0].strip(" \t")
        if self._bearer:
            match = _BEARER.fullmatch(value)
            value = match[1] if match else ""
        return value if is_key(value) else None

    def _unauthorized(self) -> Problem:
        # One answer for absent, repeated, malformed and unknown keys: the difference would help only someone guessing.
        shape = "Authorization: Bearer <key>" if self._bearer else f"{self.key_header}: <key>"
        scheme = "Bearer" if self._bearer else "ApiKey"
        return Problem(
            401,
            "Unauthorized",
            f"This request needs exactly one valid API key. Send it as '{shape}'.",
            headers={"WWW-Authenticate": f'{scheme} realm="turnpike"'},
        )

    def _no_keys(self) -> Problem:
        error = SettingsError(
            "No API keys are configured, so every guarded route refuses every request. Set TURNPIKE_API_KEYS="
            "'<key>=<tenant>:<caller>' or APP_API_KEY, write api_keys in the settings, pass a key_store to the Gate, "
            "or name routes that need no key under exempt."
        )
        # Said once: anyone can send requests here, and a line for each would let them fill the log.
        level, self._has_warned = (logging.DEBUG if self._has_warned else logging.ERROR), True
        _LOG.log(level, "%s", error)
        return render(error)


def _service_limit(settings: Settings) -> RateLimit:
    try:
        return parse_rate_limit(settings.rate_limit)
    except ValueError as error:
        raise SettingsError(f"Setting 'rate_limit': {error}.") from None


def _values(headers: Headers, wanted: str) -> list[str]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [_text(value) for name, value in pairs if _text(name).lower() == wanted]


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _quota_exceeded(limit: RateLimit, decision: Decision) -> Problem:
    return Problem(
        429,
        "Quota exceeded",
        f"This key may send {limit.requests} requests in {limit.window_s} s. Try again in {decision.retry_after_s} s.",
        PROBLEM_BASE + "quota-exceeded",
        {"Retry-After": str(decision.retry_after_s), **rate_limit_headers(limit, decision)},
        {"violated-policies": [POLICY]},
    )
