"""Problem bodies byte for byte: some written out here, the others as ``turnpike.boundary.problem`` renders them."""

from __future__ import annotations

from collections.abc import Callable

from turnpike.errors import (
    InvalidRequestError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderRateLimitError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaUnavailableError,
    TurnpikeError,
)
from turnpike.testing.contract.bench import Bench, BrokenQuota
from turnpike.testing.contract.expectations import check, equal, same_problem, status
from turnpike.testing.contract.people import BETA, WEB
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.transports import Response

_UNAUTHORIZED = (
    b'{"type":"about:blank","title":"Unauthorized","status":401,"detail":"This request needs exactly one valid API key. '
    b"Send it as 'X-API-Key: <key>'.\"}"
)
_SCOPE_DENIED = (
    b'{"type":"urn:turnpike:problem:scope-denied","title":"Scope denied","status":403,"detail":"The caller may not do this; '
    b'it needs: reports:read.","required":["reports:read"]}'
)
_QUOTA_EXCEEDED = (
    b'{"type":"urn:turnpike:problem:quota-exceeded","title":"Quota exceeded","status":429,"detail":"The limit \'default\' '
    b'allows 1 requests in 60 s. Try again in 60 s.","violated-policies":["default"]}'
)
_QUOTA_UNAVAILABLE = (
    b'{"type":"urn:turnpike:problem:quota-unavailable","title":"Requests cannot be counted at the moment","status":503,'
    b'"detail":"The service cannot count requests at the moment, and lets none pass uncounted. Try again later."}'
)


def _golden(response: Response, code: int, body: bytes, **headers: str) -> None:
    status(response, code)
    equal(response.body, body, "body of the problem")
    expected = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    expected |= {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in expected.items():
        equal(response.values(name), [value], f"header {name}")


@case()
def unauthorized(bench: Bench) -> None:
    """A 401 is these bytes, with a challenge."""
    _golden(bench.send("call", None), 401, _UNAUTHORIZED, WWW_Authenticate='ApiKey realm="turnpike"')


@case()
def scope_denied(bench: Bench) -> None:
    """A 403 is these bytes, and names the scope."""
    _golden(bench.send("scoped", BETA), 403, _SCOPE_DENIED)
    bench.nobody_was_asked()


@case(settings={"rate_limit": "1/minute"})
def quota_exceeded(bench: Bench) -> None:
    """A 429 is these bytes, and says when to come back."""
    status(bench.send("call"), 200)
    fields = {"RateLimit_Policy": '"default";q=1;w=60', "RateLimit": '"default";r=0;t=60'}
    _golden(bench.send("call"), 429, _QUOTA_EXCEEDED, Retry_After="60", **fields)


@case(settings={"on_quota_failure": "closed"}, quota=BrokenQuota)
def quota_unavailable(bench: Bench) -> None:
    """A 503 for want of a count is these bytes, and says when to come back."""
    _golden(bench.send("call"), 503, _QUOTA_UNAVAILABLE, Retry_After="1")


_PROVIDER_ERRORS: dict[str, tuple[Callable[[], ProviderError], int, str | None]] = {
    "rate limit": (lambda: ProviderRateLimitError("fake", "secret words", retry_after_s=6.2), 503, "7"),
    "rate limit without a time": (lambda: ProviderRateLimitError("fake", "secret words"), 503, None),
    "timeout": (lambda: ProviderTimeoutError("fake", "secret words"), 504, None),
    "outage": (lambda: ProviderUnavailableError("fake", "secret words"), 502, None),
    "our credentials": (lambda: ProviderAuthenticationError("fake", "secret words"), 502, None),
}


@case(each=_PROVIDER_ERRORS)
def provider_failed(bench: Bench, make: Callable[[], ProviderError], expected: int, retry_after: str | None) -> None:
    """A failing provider becomes a problem that names the call and says nothing of what the provider said."""
    bench.provider.script(make())
    response = bench.send("call")
    [envelope] = bench.envelopes(1)
    problem = bench.problem_of(make())
    problem.request_id = envelope.request_id
    same_problem(response, problem)
    equal(response.status, expected, "status")
    equal(response.header("Retry-After"), retry_after, "header Retry-After")
    check(b"secret" not in response.body, "the response repeats the provider's words")
    equal(envelope.status, "error", "status of the envelope")


@case()
def provider_failed_and_the_quota_is_announced(bench: Bench) -> None:
    """A problem of an admitted request announces the quota as any other answer does."""
    bench.provider.script(ProviderUnavailableError("fake", "down"))
    expected = bench.admission("call").headers
    response = status(bench.send("call"), 502)
    for name, value in expected.items():
        equal(response.values(name), [value], f"header {name}")


_HANDLER_ERRORS: dict[str, tuple[Callable[[], TurnpikeError]]] = {
    "the request's fault": (lambda: InvalidRequestError("This message is too long: shorten it."),),
    "the store's fault": (lambda: QuotaUnavailableError("the store at secret.example is down"),),
}


@case(each=_HANDLER_ERRORS)
def handler_let_an_error_through(bench: Bench, make: Callable[[], TurnpikeError]) -> None:
    """An error of Turnpike's that a handler lets through becomes its problem."""
    bench.provider.script(make())
    same_problem(bench.send("call"), bench.problem_of(make()))
    bench.provider.script(make())
    same_problem(bench.send("own_response"), bench.problem_of(make()))
    equal(status(bench.send("call", WEB), 200).json()["text"], WEB.name, "who is bound in the next request")
