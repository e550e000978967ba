"""What an adapter attaches to an application."""

from __future__ import annotations

from typing import Any

import pytest

from turnpike.boundary.admission import Gate
from turnpike.boundary.installation import Installation
from turnpike.boundary.keys import Principal
from turnpike.boundary.problem import Problem
from turnpike.boundary.rules import NO_RULE, RouteRule
from turnpike.boundary.scope import RequestScope
from turnpike.context import LLMRequestContext, current_binding, current_context
from turnpike.errors import ConfigurationError, UnadmittedError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings

KEYS = [{"key": "k-acme", "tenant": "acme", "scopes": ["read"]}]
ACME = {"X-API-Key": "k-acme"}


def installation(tmp_path: Any, **parts: Any) -> Installation:
    ledger = str(tmp_path / "ledger.jsonl")
    return Installation.build(
        Settings.from_dict({"api_keys": KEYS, "telemetry_path": ledger, "providers": {"openai": {}}}), **parts
    )


def admit(
    built: Installation, scope: RequestScope, headers: Any = ACME, method: str = "GET", rule: RouteRule = NO_RULE
) -> LLMRequestContext:
    return built.admit(scope, "the request", headers, route="/a", method=method, rule=rule)


def test_an_admitted_request_is_bound_until_its_scope_is_finished(tmp_path: Any) -> None:
    scope = RequestScope()
    assert admit(installation(tmp_path), scope) == LLMRequestContext(tenant_id="acme")
    binding = current_binding()
    assert binding is not None
    assert (binding.context.tenant_id, binding.route, binding.streams) == ("acme", "/a", scope)
    scope.finish("done")
    assert current_binding() is None


def test_a_request_is_counted_once_and_its_scopes_are_looked_at_each_time(tmp_path: Any) -> None:
    built, scope = installation(tmp_path), RequestScope()
    admit(built, scope)
    admit(built, scope, rule=RouteRule(scopes=("read",)))
    with pytest.raises(Problem, match="403"):
        admit(built, scope, rule=RouteRule(scopes=("write",)))
    assert scope.headers["RateLimit"] == '"default";r=59;t=60'
    scope.finish("done")


def test_who_the_application_knows_comes_before_the_key(tmp_path: Any) -> None:
    asked: list[Any] = []

    def identify(request: Any) -> Principal | None:
        asked.append(request)
        return Principal(tenant="session") if len(asked) == 1 else None

    built = installation(tmp_path, identify=identify)
    for tenant in ("session", "acme"):
        scope = RequestScope()
        assert admit(built, scope).tenant_id == tenant
        scope.finish("done")
    assert asked == ["the request"] * 2


def test_nobody_is_asked_for_on_exempt_routes_and_preflights(tmp_path: Any) -> None:
    def identify(_request: Any) -> Principal | None:
        raise AssertionError

    built = installation(tmp_path, identify=identify)
    for method, rule in (("OPTIONS", NO_RULE), ("GET", RouteRule(exempt=True))):
        scope = RequestScope()
        assert admit(built, scope, {}, method, rule) == LLMRequestContext()
        scope.finish("done")


def test_a_call_on_behalf_of_a_preflight_is_refused_before_anything_is_sent(tmp_path: Any) -> None:
    built, scope = installation(tmp_path), RequestScope()
    admit(built, scope, {}, "OPTIONS")
    with pytest.raises(UnadmittedError, match="OPTIONS"):
        built.gateway.call_sync("Hello", model="gpt-4o-mini")
    scope.finish("done")
    assert not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.anyio
async def test_identities_may_be_awaited_where_an_event_loop_runs(tmp_path: Any) -> None:
    async def identify(_request: Any) -> Principal | None:
        return Principal(tenant="awaited")

    built, scope = installation(tmp_path, identify=identify), RequestScope()
    await built.admit_async(scope, None, {}, route="/a", method="GET")
    assert current_context().tenant_id == "awaited"
    scope.finish("done")
    with pytest.raises(ConfigurationError, match="identify is a coroutine function"):
        admit(built, RequestScope())


def test_anything_but_a_principal_is_named(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="it returned a str"):
        admit(installation(tmp_path, identify=lambda _request: "acme"), RequestScope())


def test_a_gate_has_its_own_keys() -> None:
    with pytest.raises(ConfigurationError, match="either a gate or a key_store"):
        Installation.build(gate=Gate(Settings()), key_store=object())  # type: ignore[arg-type]


def test_a_gateway_of_ones_own_brings_its_settings_and_is_not_closed(tmp_path: Any) -> None:
    gateway = Gateway(Settings.from_dict({"api_keys": KEYS, "telemetry_path": str(tmp_path / "l.jsonl")}))
    closed: list[bool] = []
    gateway.close = lambda: closed.append(True)  # type: ignore[method-assign]
    built = Installation.build(gateway=gateway)
    scope = RequestScope()
    assert admit(built, scope).tenant_id == "acme"
    scope.finish("done")
    built.close()
    assert closed == []
