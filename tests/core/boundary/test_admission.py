"""The gate: who gets in, who does not, and what each of them is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.boundary.admission import Admission, Gate
from turnpike.boundary.keys import Principal
from turnpike.boundary.problem import Problem
from turnpike.context import LLMRequestContext
from turnpike.errors import SettingsError
from turnpike.settings import Settings

KEYS = [{"key": "k-acme", "tenant": "acme", "caller": "web"}, {"key": "k-beta", "tenant": "beta", "rate_limit": 1}]


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


def make_gate(clock: ManualClock | None = None, **settings: Any) -> Gate:
    return Gate(Settings.from_dict({"api_keys": KEYS, **settings}), clock=clock or ManualClock())


def admit(gate: Gate, headers: Any, route: str = "/chat/{id}", method: str = "POST") -> Admission:
    return gate.admit(headers, route=route, method=method)


def refusal(gate: Gate, headers: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        admit(gate, headers)
    return caught.value


def test_a_known_key_is_admitted_as_its_tenant_and_caller() -> None:
    admission = admit(make_gate(), {"X-API-Key": "k-acme"})
    assert admission.context == LLMRequestContext(tenant_id="acme", caller_id="web")
    assert admission.route == "/chat/{id}"
    assert admission.principal is not None
    assert admission.principal.key_id == "api_keys[0]"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", b"k-acme")],
        [("X-Api-Key", "k-acme")],
        [(b"host", b"h"), (b"x-api-key", b"  k-acme\t")],
        {"x-api-key": "k-acme", "accept": "*/*"},
    ],
)
def test_headers_may_come_as_any_stack_has_them(headers: Any) -> None:
    assert admit(make_gate(), headers).context.tenant_id == "acme"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        {"X-API-Key": ""},
        {"X-API-Key": "k-unknown"},
        {"X-API-Key": "k-acme,k-beta"},
        {"X-API-Key": "k-acme\x00"},
        {"X-API-Key": "k-acme\nX-Tenant-Id: rival"},
        {"X-API-Key": "k-acm\u00e9"},
        {"X-API-Key": "\udc80"},
        {"X-API-Key": "k" * 70_000},
        {"X_API_KEY": "k-acme"},
        {"Authorization": "Bearer k-acme"},
        [(b"x-api-key", b"k-acme"), (b"X-API-Key", b"k-acme")],
        [(b"x-api-key", b"\xff\xfe")],
    ],
)
def test_without_exactly_one_known_key_the_answer_is_one_and_the_same_401(headers: Any) -> None:
    problem = refusal(make_gate(), headers)
    assert problem.body == (
        b'{"type":"about:blank","title":"Unauthorized","status":401,'
        b'"detail":"This request needs exactly one valid API key. Send it as \'X-API-Key: <key>\'."}'
    )
    assert problem.response_headers["WWW-Authenticate"] == 'ApiKey realm="turnpike"'


@given(st.lists(st.tuples(st.sampled_from([b"x-api-key", b"X-API-KEY", b"x-tenant-id"]), st.binary(max_size=200))))
def test_hostile_bytes_are_never_more_than_a_401(headers: list[tuple[bytes, bytes]]) -> None:
    assert refusal(make_gate(), headers).status == 401


@given(st.dictionaries(st.text(), st.text()))
def test_hostile_text_is_never_more_than_a_401(headers: dict[str, str]) -> None:
    assert refusal(make_gate(), headers).status == 401


def test_no_header_but_the_key_names_a_tenant() -> None:
    claims = {"X-Tenant-Id": "rival", "X-Caller-Id": "rival", "baggage": "tenant_id=rival"}
    context = admit(make_gate(), {**claims, "X-API-Key": "k-acme"}).context
    assert context == LLMRequestContext(tenant_id="acme", caller_id="web")


def test_another_header_may_hold_the_key() -> None:
    gate = make_gate(key_header="X-Turnpike-Key")
    assert admit(gate, {"x-turnpike-key": "k-acme"}).context.tenant_id == "acme"
    assert b"X-Turnpike-Key: <key>" in refusal(gate, {"X-API-Key": "k-acme"}).body


@pytest.mark.parametrize("value", ["Bearer k-acme", "bearer  k-acme"])
def test_the_authorization_header_takes_a_bearer_token(value: str) -> None:
    assert admit(make_gate(key_header="Authorization"), {"authorization": value}).context.tenant_id == "acme"


@pytest.mark.parametrize("value", ["k-acme", "Basic k-acme", "Bearer", "Bearerk-acme"])
def test_the_authorization_header_takes_nothing_else(value: str) -> None:
    problem = refusal(make_gate(key_header="Authorization"), {"authorization": value})
    assert problem.status == 401
    assert problem.response_headers["WWW-Authenticate"] == 'Bearer realm="turnpike"'


def test_an_admission_tells_what_is_left() -> None:
    gate = make_gate(rate_limit="3/minute")
    assert admit(gate, {"X-API-Key": "k-acme"}).headers == {
        "RateLimit-Policy": '"default";q=3;w=60',
        "RateLimit": '"default";r=2;t=60',
    }


def test_beyond_the_limit_the_answer_is_a_429_that_says_when_to_come_back() -> None:
    clock = ManualClock()
    gate = make_gate(clock, rate_limit="2/minute")
    for _ in range(2):
        admit(gate, {"X-API-Key": "k-acme"})
        clock.now += 10.0
    problem = refusal(gate, {"X-API-Key": "k-acme"})
    assert problem.body == (
        b'{"type":"urn:turnpike:problem:quota-exceeded","title":"Quota exceeded","status":429,'
        b'"detail":"This key may send 2 requests in 60 s. Try again in 40 s.","violated-policies":["default"]}'
    )
    assert problem.response_headers == {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "Retry-After": "40",
        "RateLimit-Policy": '"default";q=2;w=60',
        "RateLimit": '"default";r=0;t=40',
    }
    clock.now += 40.0
    assert admit(gate, {"X-API-Key": "k-acme"}).context.tenant_id == "acme"


def test_each_key_has_its_own_window_and_may_have_its_own_limit() -> None:
    gate = make_gate()
    admit(gate, {"X-API-Key": "k-beta"})
    assert refusal(gate, {"X-API-Key": "k-beta"}).status == 429
    assert admit(gate, {"X-API-Key": "k-acme"}).headers["RateLimit"] == '"default";r=59;t=60'


def test_the_limit_is_the_keys_whatever_the_route_and_the_method() -> None:
    gate = make_gate()
    gate.admit({"X-API-Key": "k-beta"}, route="/a", method="POST")
    with pytest.raises(Problem, match="429"):
        gate.admit({"X-API-Key": "k-beta"}, route="/b", method="GET")


def test_requests_that_are_refused_a_key_leave_no_state() -> None:
    gate = make_gate()
    for number in range(100):
        refusal(gate, {"X-API-Key": f"random-{number}"})
    assert len(gate._limiter) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(("route", "method"), [("/healthz", "GET"), ("/chat/{id}", "OPTIONS")])
def test_exempt_routes_and_preflights_pass_without_a_key_and_without_an_identity(route: str, method: str) -> None:
    admission = admit(make_gate(exempt=["/healthz"]), {}, route, method)
    assert admission == Admission(None, LLMRequestContext(), route, {})


def test_without_any_keys_guarded_routes_are_closed_and_the_log_names_a_cure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate(Settings(exempt=("/healthz",)))
    for _ in range(2):
        problem = refusal(gate, {"X-API-Key": "k-acme"})
        assert problem.status == 500
        assert b"TURNPIKE_API_KEYS" not in problem.body
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "TURNPIKE_API_KEYS" in record.getMessage()
    assert admit(gate, {}, "/healthz").principal is None


def test_keys_may_come_from_a_store_of_ones_own() -> None:
    class Store:
        def find(self, raw_key: str) -> Principal | None:
            return Principal(tenant="own", key_id="7") if raw_key == "k-own" else None

    gate = Gate(Settings(), key_store=Store())
    assert admit(gate, {"X-API-Key": "k-own"}).context.tenant_id == "own"
    assert refusal(gate, {"X-API-Key": "k-acme"}).status == 401


def test_a_wrong_limit_in_settings_made_by_hand_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="'rate_limit': write a rate limit as '60/minute'"):
        Gate(Settings(rate_limit="often"))


def test_no_key_shows_in_what_the_gate_hands_out() -> None:
    gate = make_gate()
    admission = admit(gate, {"X-API-Key": "k-acme"})
    assert "k-acme" not in repr(admission) + repr(vars(gate))
