"""The Flask extension itself: how it is attached, where its settings come from, and its commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flask", reason="needs flask: install turnpike[flask]")

from flask import Flask

from turnpike.boundary.admission import Gate
from turnpike.boundary.installation import Installation
from turnpike.errors import ConfigurationError, SettingsError
from turnpike.gateway.client import Gateway
from turnpike.settings import ApiKeySettings, LimitSettings, Settings, TierSettings
from turnpike_flask import Turnpike, context, exempt, gateway, limit, requires
from turnpike_flask.config import settings_from

from .flask_service import ACME, BETA, SETTINGS, Service


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("TURNPIKE_", "FLASK_")) or name in ("APP_API_KEY", "RATE_LIMIT_RPM"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TURNPIKE_LEDGER", "off")


def settings_of(app: Flask) -> Settings:
    installation = app.extensions["turnpike"]
    assert isinstance(installation, Installation)
    return installation.gateway.settings


def configured(settings: Any = None, **config: Any) -> Settings:
    """The settings of an application with this configuration."""
    app = Flask("service")
    app.config.update(config)
    Turnpike(app, settings)
    return settings_of(app)


# ---------------------------------------------------------------------------------------------------- attaching


def test_one_extension_serves_applications_that_share_nothing() -> None:
    turnpike = Turnpike(settings={**SETTINGS, "rate_limit": "1/minute"})

    def create_app() -> Flask:
        app = Flask("service")
        turnpike.init_app(app)
        app.get("/who")(lambda: [context.tenant_id, id(gateway._get_current_object())])  # type: ignore[attr-defined]
        return app

    first, second = create_app(), create_app()
    for app in (first, second):
        answer = app.test_client().get("/who", headers=ACME)
        assert (answer.status_code, answer.json) == (200, ["acme", id(app.extensions["turnpike"].gateway)])
        assert app.test_client().get("/who", headers=ACME).status_code == 429
    assert first.extensions["turnpike"].gateway is not second.extensions["turnpike"].gateway


def test_settings_of_one_application_stand_in_for_those_of_the_extension() -> None:
    turnpike, app, other = Turnpike(settings={"rate_limit": 7}), Flask("service"), Flask("other")
    turnpike.init_app(app)
    turnpike.init_app(other, {"key_header": "X-Key"})
    assert settings_of(app).rate_limit == 7
    assert (settings_of(other).rate_limit, settings_of(other).key_header) == ("60/minute", "X-Key")


def test_attaching_it_twice_is_an_error() -> None:
    app = Flask("service")
    turnpike = Turnpike(app)
    with pytest.raises(ConfigurationError, match="'service' already"):
        turnpike.init_app(app)


def test_an_application_without_turnpike_is_told_what_to_write() -> None:
    app = Flask("bare")
    with app.app_context(), pytest.raises(ConfigurationError, match=r"'bare' has no Turnpike. Call Turnpike\(app\)"):
        _ = gateway.settings


def test_parts_of_ones_own_are_used() -> None:
    settings = Settings.from_dict(SETTINGS)
    own = Gateway(settings)
    gate = Gate(settings)
    app = Flask("service")
    Turnpike(app, gateway=own, gate=gate)
    assert (app.extensions["turnpike"].gateway, app.extensions["turnpike"].gate) == (own, gate)


def test_the_marks_of_the_extension_are_those_of_every_stack() -> None:
    from turnpike.boundary.rules import RouteRule, rule_of

    turnpike = Turnpike()

    def view() -> str:
        return "hello"

    marked = turnpike.limit("chat")(turnpike.requires("llm:call")(view))
    assert marked is view
    assert rule_of(view) == RouteRule(limits=("chat",), scopes=("llm:call",))
    assert rule_of(limit("chat")(requires("llm:call")(lambda: None))) == rule_of(view)
    assert rule_of(turnpike.exempt(lambda: None)) == rule_of(exempt(lambda: None)) == RouteRule(exempt=True)


def test_without_flask_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["flask"] = None
from turnpike.errors import MissingExtraError
try:
    import turnpike_flask
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'turnpike[flask]'" in done.stdout


# ----------------------------------------------------------------------------------------------------- settings


def test_the_configuration_is_laid_over_what_is_written_in_code(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"rate_limit": 1, "key_header": "X-Code", "tiers": {"cheap": "from-code"}}
    monkeypatch.setenv("TURNPIKE_RATE_LIMIT", "3/minute")
    found = configured(settings, TURNPIKE_RATE_LIMIT=2, TURNPIKE_KEY_HEADER="X-Config", SECRET_KEY="other")
    assert (found.tiers, found.key_header, found.rate_limit) == ({"cheap": "from-code"}, "X-Config", "3/minute")


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("RATE_LIMIT", "600/minute", "600/minute"),
        ("RATE_LIMIT", "600", "600"),
        ("TENANT_RATE_LIMIT", "9 per hour", "9 per hour"),
        ("TIMEOUT_S", "2.5", 2.5),
        ("TIMEOUT_S", "30", 30.0),
        ("LEDGER", "false", False),
        ("LEDGER", "0", False),
        ("REQUIRE_ATTRIBUTION", "on", True),
        ("KEY_HEADER", "Authorization", "Authorization"),
        ("KEY_FILE", "keys.json", "keys.json"),
        ("TELEMETRY_PATH", "calls.jsonl", "calls.jsonl"),
        ("DEFAULT_PROVIDER", "openai", "openai"),
        ("ON_QUOTA_FAILURE", "closed", "closed"),
        ("TIERS", '{"cheap": "gpt-4o-mini"}', {"cheap": "gpt-4o-mini"}),
        ("TIERS__writer__model", "gpt-4o", {"writer": TierSettings(model="gpt-4o")}),
        ("LIMITS", '{"chat": {"rate": 5}}', {"chat": LimitSettings(rate=5)}),
        ("EXEMPT", "/healthz, /readyz", ("/healthz", "/readyz")),
        ("EXEMPT", '["/healthz"]', ("/healthz",)),
    ],
)
def test_prefixed_environment_variables_are_read_by_flask(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, expected: Any
) -> None:
    monkeypatch.delenv("TURNPIKE_LEDGER")
    monkeypatch.setenv(f"FLASK_TURNPIKE_{variable}", text)
    app = Flask("service")
    app.config.from_prefixed_env()
    Turnpike(app, {"providers": {"openai": {}}})
    found = getattr(settings_of(app), variable.partition("__")[0].lower())
    assert (str(found), type(found)) == (str(expected), type(expected))
    assert found == expected


def test_keys_may_be_written_as_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_TURNPIKE_API_KEYS", "k-acme=acme:web,k-beta=beta")
    app = Flask("service")
    app.config.from_prefixed_env()
    Turnpike(app)
    app.get("/who")(lambda: f"{context.tenant_id} {context.caller_id}")
    assert [app.test_client().get("/who", headers=each).text for each in (ACME, BETA)] == ["acme web", "beta None"]


def test_secrets_in_the_configuration_stay_secret() -> None:
    app = Flask("service")
    app.config["TURNPIKE_API_KEYS"] = [{"key": "k-canary", "tenant": "acme"}]
    app.config["TURNPIKE_REDIS_URL"] = "redis://:canary@localhost:1/0"
    app.config["TURNPIKE_KEY_PEPPERS"] = "canary-one,canary-two"
    found = Settings.load(settings_from(app, None))
    assert isinstance(found.api_keys[0], ApiKeySettings)
    assert found.redis_url is not None
    assert [pepper.reveal() for pepper in found.key_peppers] == ["canary-one", "canary-two"]
    assert "canary" not in repr(found)


@pytest.mark.parametrize("nothing", [None, ""])
def test_what_is_set_to_nothing_is_not_set(nothing: Any) -> None:
    assert configured({"rate_limit": 7}, TURNPIKE_RATE_LIMIT=nothing).rate_limit == 7


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            {"TURNPIKE_RATELIMIT": 5},
            r"has TURNPIKE_RATELIMIT, which is not a setting\. Did you mean TURNPIKE_RATE_LIMIT",
        ),
        ({"TURNPIKE_ENABLED": False}, r"has TURNPIKE_ENABLED, which is not a setting"),
        ({"TURNPIKE_RATE_LIMIT": "often"}, r"app\.config\['TURNPIKE_RATE_LIMIT'\].*'60/minute'"),
        ({"TURNPIKE_LEDGER": "perhaps"}, r"app\.config\['TURNPIKE_LEDGER'\].*on or off"),
        ({"TURNPIKE_API_KEYS": "k-canary"}, r"app\.config\['TURNPIKE_API_KEYS'\].*key=tenant:caller"),
        ({"TURNPIKE_TIERS": {"cheap": {"modell": "x"}}}, r"tiers.*modell"),
    ],
)
def test_a_wrong_key_or_value_is_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        configured(**config)
    assert "canary" not in str(caught.value)


def test_complete_settings_are_not_silently_preferred_to_the_configuration() -> None:
    with pytest.raises(SettingsError, match="TURNPIKE_KEY_HEADER, but Turnpike was given complete Settings"):
        configured(Settings.from_dict(SETTINGS), TURNPIKE_KEY_HEADER="X-Key")


def test_a_gateway_of_ones_own_brings_its_settings_along() -> None:
    app = Flask("service")
    Turnpike(app, gateway=Gateway(Settings.from_dict({**SETTINGS, "key_header": "X-Key"})))
    assert app.extensions["turnpike"].gate.key_header == "X-Key"


# ----------------------------------------------------------------------------------------------------- commands


def service_with_routes(**marks: Any) -> Service:
    from flask import Blueprint
    from flask.views import MethodView

    service = Service({"exempt": ["/readyz"]})
    chat = Blueprint("chat", __name__, url_prefix="/v1")

    class Item(MethodView):
        def get(self) -> str:
            return "item"

        @requires("items:write")
        def put(self) -> str:
            return "item"

    chat.post("/chat/<int:number>", endpoint="chat")(limit(marks.get("limit", "chat"))(lambda number: str(number)))
    chat.add_url_rule("/item", view_func=Item.as_view("item"))
    service.app.register_blueprint(chat)
    service.app.get("/healthz", endpoint="healthz")(exempt(lambda: "ok"))
    service.app.get("/readyz", endpoint="readyz")(lambda: "ok")
    return service


def test_routes_shows_what_each_route_asks_of_a_request() -> None:
    result = service_with_routes().app.test_cli_runner().invoke(args=["turnpike", "routes"])
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [
            "METHODS  ROUTE                    ACCESS  LIMITS        SCOPES",
            "GET      /healthz                 open    -             -",
            "GET      /readyz                  open    -             -",
            "GET      /static/<path:filename>  open    -             -",
            "POST     /v1/chat/<int:number>    key     default,chat  -",
            "GET      /v1/item                 key     default       -",
            "PUT      /v1/item                 key     default       items:write",
        ],
    )


def test_routes_fails_where_a_limit_has_no_setting() -> None:
    result = service_with_routes(limit="chatt").app.test_cli_runner().invoke(args=["turnpike", "routes"])
    assert result.exit_code == 1
    assert "/v1/chat/<int:number> names the limit 'chatt', which the settings do not have." in result.output


def test_keys_are_those_of_the_applications_own_settings(tmp_path: Path) -> None:
    def create_app() -> Flask:
        app = Flask("service")
        app.config["TURNPIKE_KEY_FILE"] = str(tmp_path / "keys.json")
        app.config["TURNPIKE_KEY_PEPPERS"] = ["pepper-of-the-service"]
        Turnpike(app)
        app.get("/who")(lambda: f"{context.tenant_id}")
        return app

    commands = create_app().test_cli_runner()
    created = commands.invoke(args=["turnpike", "keys", "create", "--tenant", "acme"])
    assert created.exit_code == 0
    assert "acme" in commands.invoke(args=["turnpike", "keys", "list"]).output
    # Old releases of click mix what goes to stderr into it.
    headers = {"X-API-Key": next(line for line in created.stdout.splitlines() if line.startswith("tpk_"))}
    assert create_app().test_client().get("/who", headers=headers).text == "acme"


def test_commands_are_shown_by_flask_itself() -> None:
    result = Service().app.test_cli_runner().invoke(args=["turnpike", "--help"])
    assert result.exit_code == 0
    assert {"keys", "routes"} <= set(result.output.split())
