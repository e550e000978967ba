"""System checks and the command that lists routes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("django", reason="needs django: install turnpike[django]")

# ruff: noqa: E402 - Django is set up before its models are imported.
from . import django_site

django_site.configure()

from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path
from django.views import View

from turnpike.boundary.admission import Gate
from turnpike.settings import Settings
from turnpike_django import exempt, limit, requires
from turnpike_django.middleware import TurnpikeMiddleware

from .django_bench import OURS, copy_of, urls, who

AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
SHARED = {"REDIS_URL": "redis://localhost/0"}


def found(*, deploy: bool = False, **settings: Any) -> list[str]:
    """The ids of what the checks say of a project that differs from a good one by ``settings``."""
    good = {"MIDDLEWARE": [AUTHENTICATION, OURS], "TURNPIKE": SHARED, "ROOT_URLCONF": urls(path("", copy_of(who)))}
    with override_settings(**{**good, **settings}):
        return sorted(str(message.id) for message in run_checks(tags=["turnpike"], include_deployment_checks=deploy))


def plain(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    return get_response


class Ours(TurnpikeMiddleware):
    """A middleware of the project's own, made of ours."""


def test_a_good_project_is_told_nothing() -> None:
    assert found(deploy=True) == []


def test_e001_says_that_the_middleware_is_missing() -> None:
    assert found(MIDDLEWARE=[AUTHENTICATION, "nowhere.Middleware"]) == ["turnpike.E001"]
    assert found(MIDDLEWARE=[f"{__name__}.Ours"]) == []


@pytest.mark.parametrize(
    "written",
    [
        {"RATE_LIMIT": "often"},
        {"LIMIT": "1/minute"},
        {"KEY_STORE": "nowhere.keys"},
        {"IDENTIFY": "nowhere.identify"},
        {"GATEWAY": "nowhere.gateway"},
        {"API_KEYS": [{"tenant": "acme", "key_env": "NOT_SET"}]},
    ],
)
def test_e002_says_what_is_wrong_with_the_settings(written: dict[str, Any]) -> None:
    # The other checks have nothing to add to it.
    assert found(deploy=True, TURNPIKE={**SHARED, **written}) == ["turnpike.E002"]
    with override_settings(TURNPIKE=written):
        [message] = [each for each in run_checks(tags=["turnpike"]) if each.id == "turnpike.E002"]
    assert message.msg.strip()


def test_e003_names_each_route_whose_limit_the_settings_do_not_have() -> None:
    class Report(View):
        @limit("strict")
        def post(self, request: HttpRequest) -> HttpResponse:
            raise NotImplementedError

    own = urls(path("a", limit("chat")(copy_of(who))), path("api/", include([path("b/<int:n>", Report.as_view())])))
    assert found(ROOT_URLCONF=own) == ["turnpike.E003", "turnpike.E003"]
    assert found(ROOT_URLCONF=own, TURNPIKE={**SHARED, "LIMITS": {"chat": 5, "strict": 1}}) == []
    with override_settings(ROOT_URLCONF=own, TURNPIKE={**SHARED, "LIMITS": {"chat": 5}}):
        [message] = [each for each in run_checks(tags=["turnpike"]) if each.id == "turnpike.E003"]
    assert "/api/b/<int:n>" in message.msg
    assert "strict" in message.msg


def test_w001_warns_of_middleware_below_that_knows_no_async() -> None:
    plain_path = f"{__name__}.plain"
    assert found(MIDDLEWARE=[OURS, plain_path]) == ["turnpike.W001"]
    assert found(MIDDLEWARE=[plain_path, OURS]) == []


def test_w002_warns_in_deployments_that_each_process_counts_for_itself() -> None:
    assert found(TURNPIKE={}, deploy=True) == ["turnpike.W002"]
    assert found(TURNPIKE={}, deploy=False) == []
    assert found(TURNPIKE={"GATE": Gate(Settings())}, deploy=True) == []


def test_w003_warns_where_identify_would_see_no_user() -> None:
    above = [OURS, AUTHENTICATION]
    assert found(MIDDLEWARE=above, TURNPIKE={**SHARED, "IDENTIFY": lambda request: None}) == ["turnpike.W003"]
    assert found(MIDDLEWARE=above) == []


def test_the_routes_command_shows_what_is_asked_of_each_route() -> None:
    own = urls(
        path("open", exempt(copy_of(who))),
        path("chat/<int:n>", limit("chat")(copy_of(who))),
        path("reports", requires("reports:read")(copy_of(who))),
        path("admin/", include([path("x", copy_of(who))])),
    )
    output = io.StringIO()
    with override_settings(ROOT_URLCONF=own, TURNPIKE={"LIMITS": {"chat": 5}, "EXEMPT": ["/admin/*"]}):
        call_command("turnpike_routes", stdout=output)
    lines = [line.split() for line in output.getvalue().splitlines()]
    assert lines == [
        ["METHODS", "ROUTE", "ACCESS", "LIMITS", "SCOPES"],
        ["any", "/admin/x", "open", "-", "-"],
        ["any", "/chat/<int:n>", "key", "default,chat", "-"],
        ["any", "/open", "open", "-", "-"],
        ["any", "/reports", "key", "default", "reports:read"],
    ]


def test_the_routes_command_says_what_is_wrong_with_the_settings() -> None:
    with override_settings(TURNPIKE={"RATE_LIMIT": "often"}), pytest.raises(CommandError, match="rate_limit"):
        call_command("turnpike_routes")
