"""The Litestar plugin: what routes say of themselves, the OpenAPI document, the commands, start and shutdown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("litestar", reason="needs litestar: install turnpike[litestar]")

from click.testing import CliRunner
from litestar import Controller, Litestar, Router, WebSocket, get, route, websocket
from litestar.cli._utils import LitestarEnv
from litestar.cli.main import litestar_group
from litestar.di import Provide
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketListener, websocket_listener, websocket_stream
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components

from turnpike.boundary.admission import Gate
from turnpike.boundary.keys import Principal
from turnpike.errors import ConfigurationError, SettingsError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike_litestar import DepContext, DepGateway, TurnpikePlugin, exempt, limit, requires, requires_scopes

from .litestar_bench import ACME, AUDITOR, KEYS, Bench, Dependency, client_of


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@get("/chat")
async def chat(gateway: DepGateway) -> str:
    return (await gateway.call("hi", tier="cheap")).text


def left(app: Litestar, path: str) -> str:
    """What the ``RateLimit`` field says of a path, for whoever has the scopes too."""
    return str(client_of(app, AUDITOR).get(path).headers.get("ratelimit", ""))


# ------------------------------------------------------------------------------------------------- rules of routes


def test_flags_are_inherited_and_the_closest_layer_wins(bench: Bench) -> None:
    async def handler() -> None: ...

    open_router = Router(
        "/open",
        route_handlers=[get("/")(handler), get("/shut", opt={"turnpike_exempt": False})(handler)],
        opt={"turnpike_exempt": True},
    )
    limited = Router(
        "/limited",
        route_handlers=[get("/")(handler), get("/more", turnpike_limit=["chat", "slow"])(handler)],
        opt={"turnpike_limit": "chat"},
    )
    plugin = bench.plugin({"limits": {"chat": "5/minute", "slow": "3/minute"}})
    app = bench.app(open_router, limited, plugin=plugin)
    nobody = client_of(app, {})
    assert [nobody.get(path).status_code for path in ("/open", "/open/shut")] == [200, 401]
    assert left(app, "/limited") == '"default";r=59;t=60, "chat";r=4;t=60'
    assert left(app, "/limited/more") == '"default";r=58;t=60, "chat";r=3;t=60, "slow";r=2;t=60'


def test_decorators_mark_functions_methods_and_controllers(bench: Bench) -> None:
    @exempt
    class Health(Controller):
        path = "/health"

        @get()
        async def check(self) -> None: ...

    class Chats(Controller):
        path = "/chats"

        @get("/a")
        @limit("chat")
        async def in_loop(self) -> None: ...

        @get("/b", sync_to_thread=True)
        @limit("chat")
        def in_thread(self) -> None: ...

    @get("/reports", opt={"turnpike_limit": "chat"})
    @requires("reports:read")
    async def reports() -> None: ...

    app = bench.app(Health, Chats, reports, plugin=bench.plugin({"limits": {"chat": "9/minute"}}))
    assert client_of(app, {}).get("/health").status_code == 200
    assert ['"chat";r=8' in left(app, "/chats/a"), '"chat";r=7' in left(app, "/chats/b")] == [True, True]
    refused = client_of(app).get("/reports")
    assert (refused.status_code, refused.json()["required"]) == (403, ["reports:read"])
    assert client_of(app, AUDITOR).get("/reports").status_code == 200


def test_marks_hold_on_every_kind_of_websocket_handler(bench: Bench) -> None:
    @websocket("/plain")
    @requires("reports:read")
    async def plain(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close()

    @websocket_listener("/listener")
    @requires("reports:read")
    def listener(data: str) -> str:
        return data

    class Listener(WebsocketListener):
        path = "/class"

        @requires("reports:read")
        async def on_receive(self, data: str) -> str:
            return data

    @requires("reports:read")
    class MarkedListener(WebsocketListener):
        path = "/marked-class"

        async def on_receive(self, data: str) -> str:
            return data

    @websocket_stream("/stream")
    @requires("reports:read")
    async def stream() -> AsyncGenerator[str, None]:
        yield "x"

    paths = ("/plain", "/listener", "/class", "/marked-class", "/stream")
    client = client_of(bench.app(plain, listener, Listener, MarkedListener, stream))
    for path in paths:
        with pytest.raises(WebSocketDisconnect, match="Scope denied"), client.websocket_connect(path):
            pass
        with client.websocket_connect(path, headers=AUDITOR):
            pass


def test_a_guard_holds_for_its_layer_and_below(bench: Bench) -> None:
    router = Router("/reports", route_handlers=[get("/")(chat.fn)], guards=[requires_scopes("reports:read")])
    app = bench.app(router, chat)
    refused = client_of(app).get("/reports")
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:turnpike:problem:scope-denied")
    assert refused.headers["ratelimit"] == '"default";r=59;t=60'
    assert client_of(app, AUDITOR).get("/reports").text == "acme said so"
    assert client_of(app).get("/chat").text == "acme said so"
    assert client_of(app, {}).options("/reports").status_code == 204


@pytest.mark.parametrize(
    "said",
    [
        {"guards": [requires_scopes("reports:read")]},
        {"opt": {"turnpike_scopes": "reports:read"}},
        {"opt": {"turnpike_limit": ["chat"]}},
    ],
)
def test_a_route_that_is_exempt_and_demands_something_is_an_error(bench: Bench, said: dict[str, Any]) -> None:
    @get("/open")
    @exempt
    async def handler() -> None: ...

    with pytest.raises(ConfigurationError, match=r"'/v1/open' is exempt.*: (reports:read|chat)\. Take"):
        bench.app(Router("/v1", route_handlers=[handler], **said))


def test_a_flag_can_be_taken_back_below(bench: Bench) -> None:
    @get("/open", opt={"turnpike_limit": [], "turnpike_scopes": []})
    @exempt
    async def handler() -> None: ...

    app = bench.app(handler, chat, opt={"turnpike_limit": "chat", "turnpike_scopes": "reports:read"})
    nobody = client_of(app, {})
    assert [nobody.get(path).status_code for path in ("/open", "/schema", "/chat")] == [200, 200, 401]
    assert [client_of(app, who).get("/chat").status_code for who in (ACME, AUDITOR)] == [403, 200]


def test_a_guard_of_the_application_holds_for_the_pages_of_its_document_too(bench: Bench) -> None:
    app = bench.app(chat, guards=[requires_scopes("reports:read")])
    assert [client_of(app, who).get("/schema").status_code for who in ({}, ACME, AUDITOR)] == [401, 403, 200]


def test_a_guard_of_the_applications_own_may_ask_ours(bench: Bench) -> None:
    reads = requires_scopes("reports:read")

    async def on_some_days(connection: Any, handler: Any) -> None:
        await reads(connection, handler)

    app = bench.app(get("/reports", guards=[on_some_days])(chat.fn))
    assert [client_of(app, who).get("/reports").status_code for who in (ACME, AUDITOR)] == [403, 200]


def test_a_guard_without_the_plugin_refuses_everybody() -> None:
    @get("/reports", guards=[requires_scopes("reports:read")])
    async def reports() -> None: ...

    assert client_of(Litestar([reports]), AUDITOR, raises=False).get("/reports").status_code == 500


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"turnpike_limit": "chatt"}, r"'/v1/\{number\}' names the limit 'chatt', which the settings do not have"),
        ({"turnpike_limits": "chat"}, "unknown opt flag 'turnpike_limits'.*turnpike_limit"),
        ({"turnpike_limit": 5}, "wrong opt flag 'turnpike_limit': write a name"),
        ({"turnpike_scopes": [5]}, "wrong opt flag 'turnpike_scopes'"),
        ({"turnpike_exempt": "yes"}, "wrong opt flag 'turnpike_exempt': write True or False"),
    ],
)
def test_what_a_route_says_wrongly_is_an_error_when_the_application_is_made(
    bench: Bench, flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        bench.app(Router("/v1", route_handlers=[get("/{number:int}", opt=flags)(chat.fn)]))


def test_routes_that_are_added_later_are_checked_too(bench: Bench) -> None:
    @get("/late")
    @limit("nonsense")
    async def late() -> None: ...

    with pytest.raises(ConfigurationError, match="'nonsense'"):
        bench.app(chat).register(late)


# ----------------------------------------------------------------------------------------------- OpenAPI document


@pytest.mark.parametrize("header", ["X-API-Key", "X-Own-Key", "Authorization"])
def test_only_guarded_routes_are_documented_as_needing_a_key(bench: Bench, header: str) -> None:
    @get("/health")
    @exempt
    async def health() -> None: ...

    plugin = bench.plugin({"key_header": header, "exempt": ["/status"]})
    app = bench.app(
        chat,
        health,
        get("/status")(chat.fn),
        get("/reports", guards=[requires_scopes("reports:read")])(chat.fn),
        plugin=plugin,
    )
    document = client_of(app, {}).get("/schema/openapi.json").json()
    security = {path: item["get"].get("security") for path, item in document["paths"].items()}
    assert security == {
        "/chat": [{"TurnpikeKey": []}],
        "/health": None,
        "/status": None,
        "/reports": [{"TurnpikeKey": ["reports:read"]}],
    }
    scheme = document["components"]["securitySchemes"]["TurnpikeKey"]
    if header == "Authorization":
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    else:
        assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", header)


def test_the_applications_own_document_stays_as_it_is(bench: Bench) -> None:
    @get("/chat")
    async def handler() -> None: ...

    config = OpenAPIConfig("Own", "1", components=Components(headers={}), path="/docs")
    with_plugin, without = bench.app(handler, openapi_config=config), Litestar([handler], openapi_config=config)
    assert client_of(with_plugin, {}).get("/docs/openapi.json").json()["info"]["title"] == "Own"
    assert config.openapi_router is None
    document = client_of(without, {}).get("/docs/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert "security" not in document["paths"]["/chat"]["get"]


def test_pages_with_a_router_of_their_own_are_guarded_like_any_other(bench: Bench) -> None:
    config = OpenAPIConfig("Own", "1", openapi_router=Router("/docs", route_handlers=[]))
    app = bench.app(chat, openapi_config=config)
    assert [client_of(app, who).get("/docs/openapi.json").status_code for who in ({}, ACME)] == [401, 200]


# -------------------------------------------------------------------------------------------------------- commands


own_warnings = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
"""Older versions of Litestar configure rich-click in a way of which that warns."""


def run(app: Litestar, *words: str) -> str:
    env = LitestarEnv(app_path="app:app", app=app, cwd=Path.cwd())
    litestar_group._prepare_done = False
    return CliRunner().invoke(litestar_group, words, obj=env, catch_exceptions=False).output


@own_warnings
def test_the_routes_command_shows_what_each_route_asks_for(bench: Bench) -> None:
    @route("/asked", http_method="OPTIONS")
    async def asked() -> None: ...

    @websocket_listener("/talk")
    @limit("chat")
    async def talk(data: str) -> str:
        return data

    app = bench.app(
        chat,
        asked,
        talk,
        get("/reports/{number:int}", turnpike_scopes="reports:read")(chat.fn),
        get("/health", turnpike_exempt=True)(chat.fn),
        openapi_config=None,
    )
    assert [line.split() for line in run(app, "turnpike", "routes").splitlines()] == [
        ["METHODS", "ROUTE", "ACCESS", "LIMITS", "SCOPES"],
        ["GET", "/chat", "key", "default", "-"],
        ["GET", "/health", "open", "-", "-"],
        ["GET", "/reports/{number}", "key", "default", "reports:read"],
        ["WEBSOCKET", "/talk", "key", "default,chat", "-"],
    ]


@own_warnings
def test_the_keys_command_manages_the_applications_own_key_file(bench: Bench, tmp_path: Path) -> None:
    gateway = Gateway({**bench.settings, "key_file": str(tmp_path / "keys.json"), "key_peppers": ["p" * 32]})
    gateway.register_provider("openai", bench.provider)
    app = Litestar([chat], plugins=[TurnpikePlugin(gateway=gateway)])
    shown = run(app, "turnpike", "keys", "create", "--tenant", "gamma")
    key = next(line for line in shown.splitlines() if line.startswith("tpk_live_"))
    assert "gamma" in run(app, "turnpike", "keys", "list")
    # Another worker, which has not looked at the file yet.
    app = Litestar([chat], plugins=[TurnpikePlugin(gateway=gateway)])
    assert client_of(app, {"X-API-Key": key}).get("/chat").text == "gamma said so"


# --------------------------------------------------------------------------------------- settings, start and shutdown


def test_the_gateway_is_at_hand_outside_of_handlers(bench: Bench) -> None:
    assert bench.app(chat).plugins.get(TurnpikePlugin).gateway is bench.gateway


def test_applications_in_one_process_have_their_own_keys_and_gateways(tmp_path: Path) -> None:
    first, second = Bench(tmp_path), Bench(tmp_path)
    apps = [
        bench.app(chat, plugin=bench.plugin({"api_keys": [{"key": f"k-{number}", "tenant": f"tenant-{number}"}]}))
        for number, bench in enumerate((first, second))
    ]
    answers = [[client_of(app, {"X-API-Key": f"k-{n}"}).get("/chat").status_code for n in (0, 1)] for app in apps]
    assert answers == [[200, 401], [401, 200]]
    assert (first.callers, second.callers) == ([("tenant-0", "/chat")], [("tenant-1", "/chat")])


def test_the_gateway_that_the_plugin_makes_is_closed_after_the_applications_own_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    async def aclose(_gateway: Gateway) -> None:
        order.append("gateway closed")

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        order.append("started")
        yield
        order.append("lifespan over")

    monkeypatch.setattr(Gateway, "aclose", aclose)
    app = Litestar(
        plugins=[TurnpikePlugin({"api_keys": KEYS, "ledger": False})],
        lifespan=[lifespan],
        on_shutdown=[lambda: order.append("stopped")],
    )
    with client_of(app):
        pass
    assert order == ["started", "lifespan over", "stopped", "gateway closed"]


def test_one_plugin_may_serve_several_applications(bench: Bench) -> None:
    plugin = bench.plugin()
    apps = [bench.app(chat, plugin=plugin) for _ in range(2)]
    assert [client_of(app).get("/chat").headers["ratelimit"] for app in apps] == [
        '"default";r=59;t=60',
        '"default";r=58;t=60',
    ]


def test_a_gateway_of_ones_own_is_not_closed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def aclose(_gateway: Gateway) -> None:
        raise AssertionError("it is not the plugin's to close")

    monkeypatch.setattr(Gateway, "aclose", aclose)
    with client_of(bench.app(chat)) as client:
        assert client.get("/chat").status_code == 200


def test_keys_come_from_the_applications_own_store_or_gate(bench: Bench) -> None:
    class Store:
        def find(self, raw_key: str) -> Principal | None:
            return Principal(tenant="gamma") if raw_key == "k-gamma" else None

    of_store = bench.app(chat, plugin=TurnpikePlugin(gateway=bench.gateway, key_store=Store()))
    gate = Gate(Settings.from_dict({}), key_store=Store())
    of_gate = bench.app(chat, plugin=TurnpikePlugin(gateway=bench.gateway, gate=gate))
    for app in (of_store, of_gate):
        statuses = [client_of(app, {"X-API-Key": key}).get("/chat").status_code for key in ("k-gamma", "k-acme")]
        assert statuses == [200, 401]


def test_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match="key_hedder"):
        TurnpikePlugin({"key_hedder": "X-Key"})


def test_without_settings_the_environment_is_read_when_the_plugin_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APP_API_KEY", "k-env")
    monkeypatch.setenv("TURNPIKE_TELEMETRY_PATH", str(tmp_path / "ledger.jsonl"))

    @get("/who")
    async def who(llm_context: DepContext) -> str | None:
        return llm_context.tenant_id

    app = Litestar([who], plugins=[TurnpikePlugin()])
    assert client_of(app, {"X-API-Key": "k-env"}).get("/who").text == "app"


def test_dependencies_of_the_same_name_are_left_to_the_application(bench: Bench) -> None:
    @get("/gateway")
    async def name(gateway: Dependency) -> str:
        return gateway

    app = bench.app(name, dependencies={"gateway": Provide(lambda: "payments", sync_to_thread=False)})
    assert client_of(app).get("/gateway").text == "payments"


def test_annotations_may_be_imported_for_type_checkers_only(bench: Bench, tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"__name__": __name__}
    source = """
from __future__ import annotations
from typing import TYPE_CHECKING
from litestar import get
if TYPE_CHECKING:
    from turnpike_litestar import DepContext, DepGateway

@get("/chat")
async def handler(gateway: DepGateway, llm_context: DepContext) -> str:
    return f"{llm_context.caller_id}: {(await gateway.call('hi', tier='cheap')).text}"
"""
    exec(compile(source, "handlers.py", "exec"), namespace)
    assert client_of(bench.app(namespace["handler"])).get("/chat").text == "web: acme said so"


def test_without_litestar_the_adapter_says_what_to_install() -> None:
    code = "import sys; sys.modules['litestar'] = None; import turnpike_litestar"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in run.stderr
    assert "pip install 'turnpike[litestar]'" in run.stderr
