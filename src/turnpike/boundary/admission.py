"""The gate: from request headers and a route template to an admission, or to the problem that refuses it.

Identity comes from the key, or from the function that the application gave for that; no header, body or query that a
client controls can name a tenant. Whatever bytes the headers hold, the answer is an admission or a problem, never another
error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnpike.boundary.asking import Question
from turnpike.boundary.keys import KeyStore, KeyStores, Principal, SettingsKeyStore, is_key
from turnpike.boundary.problem import CHALLENGE, Problem, problem_from, render
from turnpike.boundary.rate_limit import RequestLimits, rate_limit_headers
from turnpike.boundary.rules import NO_RULE, RouteRule
from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.context import LLMRequestContext
from turnpike.control.memory_quota import MemoryQuota
from turnpike.control.quota import Limit, Quota, Verdict
from turnpike.errors import PROBLEM_BASE, ConfigurationError, QuotaUnavailableError, SettingsError
from turnpike.frozen import EMPTY
from turnpike.gateway.effects import run_sync
from turnpike.settings import Settings

__all__ = ["Admission", "Gate", "Headers", "key_store_of"]

Headers = Mapping[str, str] | Iterable[tuple[bytes | str, bytes | str]]
"""Request headers as ASGI's pairs of bytes, as pairs of text, or as a mapping."""

_LOG = logging.getLogger(__name__)
_BEARER = re.compile(r"bearer +(.*)", re.ASCII | re.IGNORECASE)
_OUTAGE_REMINDER_S = 60.0


@dataclass(frozen=True)
class Admission:
    """A request that may go on.

    Attributes:
        principal: who sends it; ``None`` on exempt routes and preflights.
        context: the attribution of every call that the request makes.
        route: the route template.
        headers: response headers that tell the client of its quota.
        is_preflight: whether it passed only because it asks what is allowed (``OPTIONS``); calls made there are refused.
    """

    principal: Principal | None
    context: LLMRequestContext
    route: str
    headers: Mapping[str, str]
    is_preflight: bool = False


class Gate:
    """Decides who may enter. One per application, shared by all of its threads, tasks and forked workers.

    Args:
        settings: keys, header name, limits and exempt routes.
        key_store: where keys are looked up, instead of the settings' ``api_keys`` and ``key_file``.
        quota: what counts requests, instead of this process's memory or the settings' ``redis_url``.
        clock: source of time.
        has_other_identities: whether the application identifies requests itself, so that keys may be absent.

    Raises:
        SettingsError: if a key or a limit in the settings is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        key_store: KeyStore | None = None,
        quota: Quota | None = None,
        clock: Clock = SYSTEM_CLOCK,
        has_other_identities: bool = False,
    ) -> None:
        self.key_header: str = settings.key_header
        """Name of the header that holds the key."""
        self.limits: RequestLimits = RequestLimits(settings)
        """The limits that requests are counted against."""
        store = key_store if key_store is not None else key_store_of(settings, clock)
        self._find: Question[str, Principal | None] | None = None if store is None else Question(store, "find")
        self._own_quota: Any = _quota(settings, clock) if quota is None else None
        self._take: Question[Sequence[Limit], Verdict] = Question(self._own_quota if quota is None else quota, "take")
        self._exempt = frozenset(settings.exempt)
        self._clock = clock
        self._passes_uncounted = settings.on_quota_failure == "open"
        self._bearer = settings.key_header.lower() == "authorization"
        self._has_other_identities = has_other_identities
        self._has_warned = False
        self._reminded_at: float | None = None

    def admit(
        self,
        headers: Headers,
        *,
        route: str,
        method: str,
        rule: RouteRule = NO_RULE,
        principal: Principal | None = None,
    ) -> Admission:
        """Admit a request, and count it against its limits.

        Preflight requests (``OPTIONS``) carry no key by definition, so they and exempt routes pass without one and
        without an identity.

        Args:
            headers: the request's headers.
            route: the route *template*, such as ``/chat/{id}``.
            method: the HTTP method.
            rule: what the handler says about its route.
            principal: who sends the request, where the application knows that by other means than a key.

        Raises:
            Problem: 401 without exactly one known key, 403 without a scope that the rule names, 429 beyond a limit, 500
                if the service has no keys or a rule names an unknown limit, 503 if requests must be counted and cannot be.
        """
        return run_sync(self._admit(headers, route, method, rule, principal, may_wait=False))

    async def admit_async(
        self,
        headers: Headers,
        *,
        route: str,
        method: str,
        rule: RouteRule = NO_RULE,
        principal: Principal | None = None,
    ) -> Admission:
        """Do what ``admit`` does without holding up the event loop while a key store or a quota store answers."""
        return await self._admit(headers, route, method, rule, principal, may_wait=True)

    def check_scopes(self, admission: Admission, scopes: Iterable[str]) -> None:
        """Refuse an admitted request whose principal lacks one of ``scopes``. Nobody has scopes on an exempt route.

        Raises:
            Problem: 403, with the scopes that are required.
        """
        required = tuple(scopes)
        granted = admission.principal.scopes if admission.principal is not None else ()
        if not admission.is_preflight and not set(required) <= set(granted):
            raise _scope_denied(required, admission)

    @property
    def takes_keys(self) -> bool:
        """Whether API keys are looked at: not where the application identifies all requests itself."""
        return self._find is not None or not self._has_other_identities

    def is_exempt(self, route: str, rule: RouteRule) -> bool:
        """Return whether ``route`` needs no key. One that requires scopes always does, whatever else is said about it."""
        return not rule.scopes and (rule.exempt or route in self._exempt)

    async def _admit(
        self,
        headers: Headers,
        route: str,
        method: str,
        rule: RouteRule,
        principal: Principal | None,
        *,
        may_wait: bool,
    ) -> Admission:
        if self.is_exempt(route, rule):
            return Admission(None, LLMRequestContext(), route, EMPTY)
        if method == "OPTIONS":
            return Admission(None, LLMRequestContext(), route, EMPTY, is_preflight=True)
        if principal is None:
            principal = await self._authenticate(headers, may_wait=may_wait)
        announced = await self._count(principal, route, rule, may_wait=may_wait)
        admission = Admission(principal, principal.context, route, announced)
        if rule.scopes:
            self.check_scopes(admission, rule.scopes)
        return admission

    def close(self) -> None:
        """Give back the connections of a quota store that the gate made. It stays usable."""
        if (close := getattr(self._own_quota, "close", None)) is not None:
            close()

    async def aclose(self) -> None:
        """Do what ``close`` does, and give back those of this event loop."""
        if (aclose := getattr(self._own_quota, "aclose", None)) is not None:
            await aclose()
        self.close()

    # ---------------------------------------------------------------------------------------------------- identity

    async def _authenticate(self, headers: Headers, *, may_wait: bool) -> Principal:
        if self._find is None and not self._has_other_identities:
            raise self._no_keys()
        raw_key = self._read_key(headers)
        principal = None
        if raw_key is not None and self._find is not None:
            principal = await self._find.ask(raw_key, may_wait=may_wait)
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
        needs = (
            f"exactly one valid API key. Send it as '{shape}'" if self._find is not None else "an authenticated caller"
        )
        challenge = 'Bearer realm="turnpike"' if self._bearer else CHALLENGE
        return Problem(401, "Unauthorized", f"This request needs {needs}.", headers={"WWW-Authenticate": challenge})

    def _no_keys(self) -> Problem:
        error = SettingsError(
            "No API keys are configured, so every guarded route refuses every request. Set TURNPIKE_API_KEYS="
            "'<key>=<tenant>:<caller>' or APP_API_KEY, write api_keys or key_file in the settings, pass a key_store or "
            "identify where Turnpike is attached, or name routes that need no key under exempt."
        )
        # Said once: anyone can send requests here, and a line for each would let them fill the log.
        level, self._has_warned = (logging.DEBUG if self._has_warned else logging.ERROR), True
        _LOG.log(level, "%s", error)
        return render(error)

    # ---------------------------------------------------------------------------------------------------- counting

    async def _count(self, principal: Principal, route: str, rule: RouteRule, *, may_wait: bool) -> Mapping[str, str]:
        try:
            verdict = await self._take.ask(self.limits.of(principal, route, rule), may_wait=may_wait)
        except QuotaUnavailableError as error:
            self._remind(error)
            if self._passes_uncounted:
                return EMPTY
            raise render(error) from None
        except ConfigurationError as error:
            problem = problem_from(error)
            raise (problem or error) from None
        announced = rate_limit_headers(verdict)
        if not verdict.allowed:
            raise _quota_exceeded(verdict, announced)
        return announced

    def _remind(self, error: QuotaUnavailableError) -> None:
        now, then = self._clock.monotonic(), self._reminded_at
        if then is None or now - then >= _OUTAGE_REMINDER_S:
            self._reminded_at = now
            what = "pass uncounted" if self._passes_uncounted else "are refused"
            _LOG.warning("Requests %s (on_quota_failure): %s", what, error)


def key_store_of(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> KeyStore | None:
    """Return where the settings' ``api_keys`` and the keys of ``key_file`` are looked up; ``None`` if there are neither.

    Raises:
        SettingsError: naming the entry that is wrong.
        ConfigurationError: if the key file is there and cannot be used.
    """
    stores: list[KeyStore] = []
    if settings.api_keys:
        stores.append(SettingsKeyStore(settings.api_keys))
    if settings.key_file is not None:
        from turnpike.boundary.issued_keys import IssuedKeyStore
        from turnpike.boundary.key_file import KeyFile

        key_file = KeyFile(settings.key_file, settings.key_peppers, clock=clock)
        key_file.check()
        stores.append(IssuedKeyStore(key_file, key_file.peppers, clock=clock))
    if len(stores) < 2:
        return stores[0] if stores else None
    return KeyStores(stores)


def _quota(settings: Settings, clock: Clock) -> Quota:
    if settings.redis_url is None:
        return MemoryQuota(clock)
    from turnpike.control.redis_quota import RedisQuota

    return RedisQuota(settings.redis_url)


def _values(headers: Headers, wanted: str) -> list[str]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    length = len(wanted)  # compared first, because a request has many headers and few names as long
    return [_text(value) for name, value in pairs if len(name) == length and _text(name).lower() == wanted]


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _scope_denied(required: tuple[str, ...], admission: Admission) -> Problem:
    return Problem(
        403,
        "Scope denied",
        f"The caller may not do this; it needs: {', '.join(required)}.",
        PROBLEM_BASE + "scope-denied",
        dict(admission.headers),
        {"required": list(required)},
    )


def _quota_exceeded(verdict: Verdict, announced: Mapping[str, str]) -> Problem:
    refused = [standing for standing in verdict.standings if standing.wait_s > 0]
    longest = max(refused, key=lambda standing: standing.wait_s)
    limit = longest.limit
    return Problem(
        429,
        "Quota exceeded",
        f"The limit '{limit.name}' allows {limit.cap} requests in {limit.window_s} s. Try again in {longest.wait_s} s.",
        PROBLEM_BASE + "quota-exceeded",
        {"Retry-After": str(longest.wait_s), **announced},
        {"violated-policies": [standing.limit.name for standing in refused]},
    )
