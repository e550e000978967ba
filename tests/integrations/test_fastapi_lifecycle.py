"""What a FastAPI application documents, checks when it starts, and closes when it stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")

from fastapi import APIRouter, Depends, FastAPI, Request, Security, WebSocket
from fastapi.security import HTTPBearer

from turnpike.errors import ConfigurationError
from turnpike.gateway.client import Gateway
from turnpike_fastapi import DepContext, DepGateway, admitted, exempt, install, limit, requires

from .fastapi_service import KEYS, FakeGateway, app_with, client_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def app(gateway: FakeGateway) -> FastAPI:
    return app_with(gateway)


# ----------------------------------------------------------------------------------- OpenAPI, start and shutdown


@pytest.mark.parametrize("header", ["X-API-Key", "X-Own-Key"])
def test_only_guarded_routes_are_documented_as_needing_a_key(gateway: FakeGateway, header: str) -> None:
    app = FastAPI()
    install(app, {"api_keys": KEYS, "key_header": header}, gateway=gateway)  # type: ignore[arg-type]

    @app.post("/chat")
    async def chat(llm: DepGateway) -> None: ...

    @app.get("/healthz")
    def healthz() -> None: ...

    for _ in range(2):
        document = client_of(app).get("/openapi.json").json()
        assert document["paths"]["/chat"]["post"]["security"] == [{"TurnpikeKey": []}]
        assert "security" not in document["paths"]["/healthz"]["get"]
        scheme = document["components"]["securitySchemes"]["TurnpikeKey"]
        assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", header)
    assert client_of(app, {header: "k-acme"}).post("/chat").status_code == 200


def test_an_application_without_guarded_routes_documents_no_key(app: FastAPI) -> None:
    assert "components" not in app.openapi()


def test_the_gateway_that_install_makes_is_closed_after_the_applications_own_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    async def aclose(_gateway: Gateway) -> None:
        order.append("gateway closed")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, str]]:
        order.append("started")
        yield {"from": "lifespan"}
        order.append("application stopped")

    monkeypatch.setattr(Gateway, "aclose", aclose)
    app = FastAPI(lifespan=lifespan)
    install(app, {"api_keys": KEYS, "ledger": False})

    @app.get("/state")
    async def state(request: Request, llm: DepGateway) -> list[Any]:
        return [isinstance(llm, Gateway), getattr(request.state, "from", None)]

    assert client_of(app).get("/state").json() == [True, None]
    assert order == []
    with client_of(app) as client:
        assert client.get("/state").json() == [True, "lifespan"]
    assert order == ["started", "application stopped", "gateway closed"]


def test_a_gateway_of_ones_own_is_not_closed(app: FastAPI, gateway: FakeGateway) -> None:
    with client_of(app):
        pass
    assert gateway.closed == 0


def test_without_settings_the_environment_is_read_when_install_is_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("APP_API_KEY", "k-env")
    monkeypatch.setenv("TURNPIKE_TELEMETRY_PATH", str(tmp_path / "ledger.jsonl"))
    app = FastAPI()
    install(app)

    @app.get("/who")
    async def who(who: DepContext) -> str | None:
        return who.tenant_id

    assert client_of(app, {"X-API-Key": "k-env"}).get("/who").json() == "app"


def test_the_openapi_document_leaves_exempt_routes_open_and_tells_the_scopes_of_the_others(
    gateway: FakeGateway,
) -> None:
    app = app_with(gateway, exempt=["/v1/files/{path:path}"])
    router = APIRouter(prefix="/v1", dependencies=[Depends(admitted)])

    @router.get("/status")
    @exempt
    async def status() -> None: ...

    @router.get("/files/{path:path}")
    async def files(path: str) -> None: ...

    @router.get("/own", dependencies=[Security(HTTPBearer())])
    @exempt
    async def own() -> None: ...

    @router.post("/reports", dependencies=[Security(admitted, scopes=["llm:call"])])
    @requires("reports:read", "llm:call")
    async def reports() -> None: ...

    @router.get("/reports")
    async def list_reports() -> None: ...

    app.include_router(router)
    for _ in range(2):
        paths = app.openapi()["paths"]
        assert "security" not in paths["/v1/status"]["get"]
        assert "security" not in paths["/v1/files/{path}"]["get"]
        assert paths["/v1/own"]["get"]["security"] == [{"HTTPBearer": []}]
        [demanded] = paths["/v1/reports"]["post"]["security"]
        assert sorted(demanded["TurnpikeKey"]) == ["llm:call", "reports:read"]
        assert paths["/v1/reports"]["get"]["security"] == [{"TurnpikeKey": []}]


def test_a_key_in_the_authorization_header_is_documented_as_a_bearer_token(gateway: FakeGateway) -> None:
    app = app_with(gateway, key_header="Authorization")
    app.get("/chat", dependencies=[Depends(admitted)])(lambda: None)
    for _ in range(2):
        scheme = app.openapi()["components"]["securitySchemes"]["TurnpikeKey"]
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert client_of(app, {"Authorization": "Bearer k-acme"}).get("/chat").status_code == 200


def mark_of(*marks: Any) -> Any:
    """A handler of its own with these marks: they stay on the function that they are put on."""

    async def handler() -> None: ...

    for mark in marks:
        mark(handler)
    return handler


@pytest.mark.parametrize("mounted", [False, True])
def test_a_limit_that_the_settings_do_not_have_is_found_when_the_application_starts(
    gateway: FakeGateway, mounted: bool
) -> None:
    outer = app = app_with(gateway, limits={"chat": "10/minute"})
    if mounted:
        outer = app_with(gateway)
        outer.mount("/inner", app)
    router = APIRouter(prefix="/v1", dependencies=[Depends(admitted)])
    router.get("/fine")(mark_of(limit("chat")))
    router.get("/chat/{number}")(mark_of(limit("chatt")))
    app.include_router(router)
    with pytest.raises(ConfigurationError, match=r"'/v1/chat/\{number\}' names the limit 'chatt'"), client_of(outer):
        pass


@pytest.mark.parametrize("mark", [limit("chat"), requires("llm:call")])
@pytest.mark.parametrize("websocket", [False, True])
def test_a_mark_on_a_route_that_nothing_guards_is_found_when_the_application_starts(
    gateway: FakeGateway, mark: Any, websocket: bool
) -> None:
    app = app_with(gateway, limits={"chat": "10/minute"})
    handler = mark_of(mark)
    if websocket:
        app.websocket("/chat")(handler)
    else:
        app.get("/chat")(handler)
    with pytest.raises(ConfigurationError, match=r"'/chat' is marked .* nothing guards it"), client_of(app):
        pass


def test_guarded_and_exempt_marks_let_the_application_start(gateway: FakeGateway) -> None:
    app = app_with(gateway, limits={"chat": "10/minute"})
    app.get("/open")(mark_of(exempt))

    @app.get("/by-gateway")
    @limit("chat")
    async def by_gateway(llm: DepGateway) -> None: ...

    @app.websocket("/by-context")
    @requires("llm:call")
    async def by_context(socket: WebSocket, who: DepContext) -> None: ...

    app.get("/by-scopes", dependencies=[Security(admitted, scopes=["llm:call"])])(mark_of(limit("chat")))
    with client_of(app) as client:
        assert client.get("/open").status_code == 200


def test_install_returns_what_it_has_put_together(gateway: FakeGateway) -> None:
    app = FastAPI()
    installation = install(app, {"api_keys": KEYS}, gateway=gateway)  # type: ignore[arg-type]
    assert installation is app.state.turnpike
    assert installation.gateway is gateway  # type: ignore[comparison-overlap]
