"""``TURNPIKE``: read live, laid below the environment, and naming the objects that Django projects bring along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

pytest.importorskip("django", reason="needs django: install turnpike[django]")

# ruff: noqa: E402 - Django is set up before its models are imported.
from . import django_site

django_site.configure()

from django.http import HttpRequest
from django.test import override_settings
from django.urls import path

from turnpike.boundary.admission import Gate
from turnpike.boundary.keys import Principal
from turnpike.context import LLMRequestContext, bind
from turnpike.errors import SettingsError, UnattributedError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike_django import conf, context, gateway

from .django_bench import ACME, Bench, ask_async, who

BOTH = pytest.mark.parametrize("kind", ["wsgi", "asgi"])
CHEAP = {"providers": {"openai": {}}, "tiers": {"cheap": "one"}, "LEDGER": False}


class Keys:
    """A key store of the project's own, without arguments."""

    def find(self, raw_key: str) -> Principal | None:
        return Principal(tenant=raw_key.removeprefix("own-")) if raw_key.startswith("own-") else None


keys = Keys()


def by_session(request: HttpRequest) -> Principal | None:
    name = request.headers.get("X-Session")
    return None if name is None else Principal(tenant="staff", caller=name)


async def by_session_async(request: HttpRequest) -> Principal | None:
    return by_session(request)


class BySession:
    """A callable whose answer has to be awaited, which cannot be told from looking at it."""

    def __call__(self, request: HttpRequest) -> Any:
        return by_session_async(request)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gateway.close()


# ------------------------------------------------------------------------------------------------------ live settings


def test_the_gateway_follows_the_settings_as_they_change() -> None:
    with override_settings(TURNPIKE=CHEAP):
        first = conf.installation().gateway
        assert gateway.settings.tiers == {"cheap": "one"}
        with override_settings(TURNPIKE={**CHEAP, "tiers": {"cheap": "two"}}):
            assert gateway.settings.tiers == {"cheap": "two"}
            assert conf.installation().gateway is not first
        assert gateway.settings.tiers == {"cheap": "one"}


def test_what_was_made_for_old_settings_is_closed_and_what_was_given_is_not(bench: Bench) -> None:
    with override_settings(TURNPIKE=CHEAP):
        made = conf.installation().gateway
        with mock.patch.object(made, "close") as closed, override_settings(TURNPIKE={}):
            closed.assert_called_once_with()
    with mock.patch.object(bench.gateway, "close") as closed:
        with override_settings(TURNPIKE={"GATEWAY": bench.gateway}):
            assert conf.installation().gateway is bench.gateway
        closed.assert_not_called()


def test_other_settings_change_nothing() -> None:
    with override_settings(TURNPIKE=CHEAP):
        first = conf.installation()
        with override_settings(DEBUG=True):
            assert conf.installation() is first
        with override_settings(SECRET_KEY="another"):
            assert conf.installation() is not first  # peppers may come from it


def test_the_environment_is_laid_over_the_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNPIKE_RATE_LIMIT", "7/hour")
    with override_settings(TURNPIKE={"RATE_LIMIT": "5/minute", "Tenant_Rate_Limit": "9/minute", "ledger": False}):
        settings = conf.load_settings()
    assert (settings.rate_limit, settings.tenant_rate_limit, settings.ledger) == ("7/hour", "9/minute", False)


def test_without_turnpike_in_the_settings_the_environment_alone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNPIKE_TIERS", '{"cheap": "env"}')
    with override_settings(TURNPIKE=None):
        assert conf.load_settings().tiers == {"cheap": "env"}


def test_a_gateway_alone_brings_its_own_settings(bench: Bench) -> None:
    with override_settings(TURNPIKE={"GATEWAY": bench.gateway}):
        assert conf.load_settings() is bench.gateway.settings


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["rate_limit"], "must be a dict; it is a list"),
        ({"RATE_LIMITS": "1/minute"}, "Unknown setting 'rate_limits'.*Did you mean 'rate_limit'"),
        ({"KEY_STORE": "nowhere.keys"}, r"TURNPIKE\['KEY_STORE'\] names something that cannot be imported"),
        ({"IDENTIFY": "turnpike_django.nobody"}, r"TURNPIKE\['IDENTIFY'\] names something that cannot be imported"),
        ({"GATE": Gate(Settings()), "KEY_STORE": keys}, "a GATE and a KEY_STORE"),
    ],
)
def test_what_is_wrong_is_named(written: Any, message: str) -> None:
    with override_settings(TURNPIKE=written), pytest.raises(SettingsError, match=message):
        conf.installation()


# ------------------------------------------------------------------------------------------------- objects and paths


@BOTH
@pytest.mark.parametrize("store", [keys, Keys, f"{__name__}.keys", f"{__name__}.Keys"], ids=str)
def test_a_key_store_is_an_object_a_class_or_the_path_of_either(bench: Bench, kind: str, store: Any) -> None:
    with bench.project(path("who", who), turnpike={"KEY_STORE": store}) as project:
        server = project.on(kind)
        assert server.request("GET", "/who", [(b"X-API-Key", b"own-gamma")]).json()["tenant"] == "gamma"
        assert server.request("GET", "/who", ACME).status == 401  # the settings' own keys are not asked


@BOTH
@pytest.mark.parametrize(
    "identify",
    [by_session, by_session_async, BySession(), f"{__name__}.by_session_async"],
    ids=lambda each: str(each)[:25],
)
def test_identify_is_a_function_or_a_coroutine_function_however_requests_are_served(
    bench: Bench, kind: str, identify: Any
) -> None:
    with bench.project(path("who", who), turnpike={"IDENTIFY": identify}) as project:
        server = project.on(kind)
        assert server.request("GET", "/who", [(b"X-Session", b"ann")]).json() == {"tenant": "staff", "caller": "ann"}
        assert server.request("GET", "/who", ACME).json() == {"tenant": "acme", "caller": "web"}
        assert server.request("GET", "/who").status == 401


@BOTH
def test_identify_that_returns_something_else_is_a_500_that_tells_the_client_nothing(bench: Bench, kind: str) -> None:
    with bench.project(path("who", who), turnpike={"IDENTIFY": lambda request: "ann"}) as project:
        response = project.on(kind).request("GET", "/who")
    assert (response.status, response.json()["type"]) == (500, "urn:turnpike:problem:misconfigured")
    assert b"Principal" not in response.body


def test_a_gate_of_the_projects_own_admits(bench: Bench) -> None:
    gate = Gate(Settings.from_dict({"api_keys": [{"key": "k-gate", "tenant": "gate"}]}))
    with bench.project(path("who", who), turnpike={"GATE": gate}) as project:
        server = project.wsgi()
        assert server.request("GET", "/who", [(b"X-API-Key", b"k-gate")]).json()["tenant"] == "gate"
        assert server.request("GET", "/who", ACME).status == 401


def test_keys_of_a_file_are_valid_beside_those_of_the_settings(bench: Bench, tmp_path: Any) -> None:
    from turnpike.boundary.key_file import KeyFile

    file = tmp_path / "keys.json"
    issued = KeyFile(file).create(tenant="filed")
    with bench.project(path("who", who), turnpike={"KEY_FILE": str(file)}) as project:
        server = project.wsgi()
        key = issued.key.reveal().encode()
        assert server.request("GET", "/who", [(b"X-API-Key", key)]).json()["tenant"] == "filed"
        assert server.request("GET", "/who", ACME).json()["tenant"] == "acme"


# ------------------------------------------------------------------------------------------------------------ proxies


def test_the_proxy_of_the_gateway_passes_for_it(bench: Bench) -> None:
    with override_settings(TURNPIKE={"GATEWAY": bench.gateway}):
        assert isinstance(gateway, Gateway)
        assert gateway == bench.gateway
        assert hash(gateway) == hash(bench.gateway)
        assert repr(gateway) == "<proxy of Gateway>"


@BOTH
def test_tests_may_patch_the_gateway_through_its_proxy(bench: Bench, kind: str) -> None:
    async def answer(*_: Any, **__: Any) -> Any:
        return mock.Mock(text="patched")

    with bench.project(path("ask", ask_async)) as project:
        with mock.patch.object(gateway, "call", answer):
            assert project.on(kind).request("GET", "/ask", ACME).body == b"patched"
        assert project.on(kind).request("GET", "/ask", ACME).body == b"acme said so"


def test_the_context_is_that_of_the_request_and_outside_of_one_nobodys() -> None:
    with bind(tenant_id="acme"):
        assert context.tenant_id == "acme"
        assert context == LLMRequestContext(tenant_id="acme")
        assert isinstance(context, LLMRequestContext)
    with pytest.raises(UnattributedError):
        _ = context.tenant_id
    assert not isinstance(context, LLMRequestContext)
    assert repr(context) == "<proxy of _Proxy>"
    assert not hasattr(context, "__wrapped__")
