"""The gate: who gets in, who does not, and what each of them is told."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.boundary.admission import Admission, Gate
from turnpike.boundary.keys import KeyStores, Principal
from turnpike.boundary.problem import Problem
from turnpike.boundary.rules import RouteRule
from turnpike.context import LLMRequestContext
from turnpike.control.memory_quota import MemoryQuota
from turnpike.control.quota import Standing, Verdict
from turnpike.errors import QuotaUnavailableError, SettingsError
from turnpike.settings import RateLimit, Settings

KEYS = [{"key": "k-acme", "tenant": "acme", "caller": "web"}, {"key": "k-beta", "tenant": "beta", "rate_limit": 1}]


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class FakeQuota:
    """Allows everything, or is out of order, and notes what it was asked."""

    def __init__(self, taken: list[Any], error: Exception | None = None) -> None:
        self.taken = taken
        self.error = error

    def take(self, limits: Any) -> Verdict:
        self.taken.append(list(limits))
        if self.error is not None:
            raise self.error
        return Verdict(True, tuple(Standing(limit, limit.cap - 1, limit.window_s, 0) for limit in limits))


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
    assert admission.principal.key_id == "acme/web#1"


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
        b'"detail":"The limit \'default\' allows 2 requests in 60 s. Try again in 40 s.",'
        b'"violated-policies":["default"]}'
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


def test_requests_that_are_refused_a_key_are_not_counted_anywhere() -> None:
    taken: list[Any] = []
    gate = Gate(Settings.from_dict({"api_keys": KEYS}), quota=FakeQuota(taken))
    for number in range(100):
        refusal(gate, {"X-API-Key": f"random-{number}"})
    assert taken == []


def test_exempt_routes_pass_without_a_key_and_without_an_identity() -> None:
    admission = admit(make_gate(exempt=["/healthz"]), {}, "/healthz", "GET")
    assert admission == Admission(None, LLMRequestContext(), "/healthz", {})


def test_a_preflight_passes_without_an_identity_and_is_marked_as_one() -> None:
    admission = admit(make_gate(), {}, method="OPTIONS")
    assert admission == Admission(None, LLMRequestContext(), "/chat/{id}", {}, is_preflight=True)


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


# ---------------------------------------------------------------------------------------------------------- several limits


def test_a_tenants_limit_counts_all_of_its_keys() -> None:
    keys = [{"key": "k-1", "tenant": "acme", "caller": "a"}, {"key": "k-2", "tenant": "acme", "caller": "b"}]
    gate = Gate(Settings.from_dict({"api_keys": keys, "tenant_rate_limit": "2/minute"}), clock=ManualClock())
    admit(gate, {"X-API-Key": "k-1"})
    assert admit(gate, {"X-API-Key": "k-2"}).headers == {
        "RateLimit-Policy": '"default";q=60;w=60, "tenant";q=2;w=60',
        "RateLimit": '"default";r=59;t=60, "tenant";r=0;t=60',
    }
    assert refusal(gate, {"X-API-Key": "k-1"}).members == {"violated-policies": ["tenant"]}


def test_a_route_belongs_to_a_class_by_its_template_or_by_its_handlers_mark() -> None:
    taken: list[Any] = []
    limits = {"chat": {"rate": "5/hour", "routes": ["/chat/{id}"]}, "heavy": {"rate": "9/day", "per": "tenant"}}
    gate = Gate(Settings.from_dict({"api_keys": KEYS, "limits": limits}), quota=FakeQuota(taken))
    rule = RouteRule(limits=("heavy", "chat"))
    gate.admit({"X-API-Key": "k-acme"}, route="/chat/{id}", method="GET", rule=rule)
    assert [(limit.name, limit.key, limit.cap, limit.window_s) for limit in taken[0]] == [
        ("default", "default/key:acme/web#1", 60, 60),
        ("heavy", "heavy/tenant:acme", 9, 86400),
        ("chat", "chat/key:acme/web#1", 5, 3600),
    ]


def test_a_limit_that_the_settings_do_not_have_is_the_services_own_fault(caplog: pytest.LogCaptureFixture) -> None:
    gate = make_gate(limits={"chat": "5/hour"})
    with pytest.raises(Problem) as caught:
        gate.admit({"X-API-Key": "k-acme"}, route="/x", method="GET", rule=RouteRule(limits=("chatt",)))
    assert caught.value.status == 500
    assert "names the limit 'chatt', which the settings do not have (they have: chat)" in caplog.text


def test_a_request_that_one_limit_refuses_is_counted_against_none() -> None:
    gate = make_gate(limits={"chat": "1/hour"})
    chat = RouteRule(limits=("chat",))
    gate.admit({"X-API-Key": "k-acme"}, route="/chat", method="GET", rule=chat)
    with pytest.raises(Problem) as caught:
        gate.admit({"X-API-Key": "k-acme"}, route="/chat", method="GET", rule=chat)
    assert caught.value.members == {"violated-policies": ["chat"]}
    assert caught.value.headers["Retry-After"] == "3600"
    assert admit(gate, {"X-API-Key": "k-acme"}).headers["RateLimit"] == '"default";r=58;t=60'


# ------------------------------------------------------------------------------------------------------------------ scopes


def test_without_a_scope_that_the_route_requires_the_answer_is_a_403_that_names_it() -> None:
    gate = make_gate(api_keys=[{"key": "k-1", "tenant": "acme", "scopes": ["llm:call"]}])
    gate.admit({"X-API-Key": "k-1"}, route="/a", method="GET", rule=RouteRule(scopes=("llm:call",)))
    with pytest.raises(Problem) as caught:
        gate.admit({"X-API-Key": "k-1"}, route="/a", method="GET", rule=RouteRule(scopes=("llm:call", "admin")))
    problem = caught.value
    assert problem.body == (
        b'{"type":"urn:turnpike:problem:scope-denied","title":"Scope denied","status":403,'
        b'"detail":"The caller may not do this; it needs: llm:call, admin.","required":["llm:call","admin"]}'
    )
    assert problem.response_headers["RateLimit"] == '"default";r=58;t=60'


def test_a_route_that_requires_a_scope_is_guarded_whatever_else_is_said_about_it() -> None:
    gate = make_gate(exempt=["/admin"])
    with pytest.raises(Problem, match="401"):
        gate.admit({}, route="/admin", method="GET", rule=RouteRule(exempt=True, scopes=("admin",)))


# -------------------------------------------------------------------------------------------------------- other identities


def test_whoever_the_application_knows_needs_no_key() -> None:
    taken: list[Any] = []
    gate = Gate(Settings(), quota=FakeQuota(taken), has_other_identities=True)
    known = Principal(
        tenant="acme",
        caller="u-7",
        rate_limit=RateLimit(5, 1),
        attribution=LLMRequestContext(tenant_id="other", session_id="s-1"),
    )
    admission = gate.admit({}, route="/a", method="GET", principal=known)
    assert admission.context == LLMRequestContext(tenant_id="acme", caller_id="u-7", session_id="s-1")
    assert (taken[0][0].key, taken[0][0].cap) == ("default/caller:4:acme/u-7", 5)
    with pytest.raises(Problem, match="This request needs an authenticated caller"):
        gate.admit({"X-API-Key": "k"}, route="/a", method="GET")


def test_two_principals_are_never_counted_as_one() -> None:
    names = {
        Principal(tenant="a", caller="b/c").counted_as,
        Principal(tenant="a/b", caller="c").counted_as,
        Principal(tenant="a", caller="c", key_id="a/b").counted_as,
        Principal(tenant="a").counted_as,
    }
    assert len(names) == 4


# ------------------------------------------------------------------------------------------------------ stores that may wait


class WaitingStore:
    """Knows one key, and which of its two methods was asked."""

    blocking = True

    def __init__(self) -> None:
        self.threads: list[bool] = []

    def find(self, raw_key: str) -> Principal | None:
        self.threads.append(threading.current_thread() is threading.main_thread())
        return Principal(tenant="own", key_id="7") if raw_key == "k-own" else None


@pytest.mark.anyio
async def test_a_store_that_blocks_is_asked_in_a_worker_thread_where_an_event_loop_runs() -> None:
    store = WaitingStore()
    gate = Gate(Settings(), key_store=KeyStores([store]))
    admission = await gate.admit_async({"X-API-Key": "k-own"}, route="/a", method="GET")
    assert admission.context.tenant_id == "own"
    assert gate.admit({"X-API-Key": "k-own"}, route="/a", method="GET").context.tenant_id == "own"
    assert store.threads == [False, True]


@pytest.mark.anyio
async def test_a_store_that_can_be_awaited_is_awaited() -> None:
    class Store:
        def find(self, _raw_key: str) -> Principal | None:
            raise AssertionError

        async def find_async(self, raw_key: str) -> Principal | None:
            return Principal(tenant=raw_key)

    admission = await Gate(Settings(), key_store=Store()).admit_async({"X-API-Key": "k"}, route="/a", method="GET")
    assert admission.context.tenant_id == "k"


def test_the_first_store_that_knows_a_key_answers_for_it() -> None:
    class Store:
        def __init__(self, tenant: str, keys: str) -> None:
            self.tenant, self.keys = tenant, keys

        def find(self, raw_key: str) -> Principal | None:
            return Principal(tenant=self.tenant) if raw_key in self.keys else None

    gate = Gate(Settings(), key_store=KeyStores([Store("first", "ab"), Store("second", "bc")]))
    tenants = [admit(gate, {"X-API-Key": key}).context.tenant_id for key in "abc"]
    assert tenants == ["first", "first", "second"]
    assert refusal(gate, {"X-API-Key": "d"}).status == 401


# ---------------------------------------------------------------------------------- requests cannot be counted


def test_while_requests_cannot_be_counted_they_pass_and_the_log_says_so_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    quota = FakeQuota([], QuotaUnavailableError("no answer"))
    gate = Gate(Settings.from_dict({"api_keys": KEYS}), quota=quota, clock=clock)
    for _ in range(3):
        assert admit(gate, {"X-API-Key": "k-acme"}).headers == {}
    clock.now += 60.0
    admit(gate, {"X-API-Key": "k-acme"})
    assert [record.getMessage() for record in caplog.records] == [
        "Requests pass uncounted (on_quota_failure): no answer"
    ] * 2


def test_a_service_that_is_closed_then_answers_503_and_says_when_to_come_back() -> None:
    quota = FakeQuota([], QuotaUnavailableError("redis at cache.internal does not answer"))
    gate = Gate(Settings.from_dict({"api_keys": KEYS, "on_quota_failure": "closed"}), quota=quota)
    problem = refusal(gate, {"X-API-Key": "k-acme"})
    assert problem.status == 503
    assert problem.headers["Retry-After"] == "1"
    assert b"cannot count requests" in problem.body
    assert b"internal" not in problem.body


@pytest.mark.anyio
async def test_a_quota_store_of_ones_own_is_left_open_and_the_gates_is_closed() -> None:
    class Closable(FakeQuota):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    own = Closable([])
    gate = Gate(Settings(), quota=own)
    gate.close()
    await gate.aclose()
    assert own.closed == 0
    made = make_gate()
    made._own_quota = Closable([])
    made.close()
    await made.aclose()
    assert made._own_quota.closed == 2


def test_a_quota_store_that_has_counted_nothing_yet_is_the_one_that_is_used() -> None:
    quota = MemoryQuota(ManualClock())
    admit(Gate(Settings.from_dict({"api_keys": KEYS}), quota=quota), {"X-API-Key": "k-acme"})
    assert len(quota) == 1
