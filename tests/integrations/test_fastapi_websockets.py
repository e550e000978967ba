"""WebSocket routes of a FastAPI application: admitted like any other, refused before they are accepted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")

from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from turnpike.boundary.keys import Principal
from turnpike.boundary.problem import Problem
from turnpike.context import LLMRequestContext, current_binding
from turnpike.errors import ProviderTimeoutError
from turnpike_fastapi import DepContext, DepGateway, admitted, exempt, install, limit, requires

from .fastapi_service import ACME, BETA, KEYS, FakeGateway, app_with, client_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def app(gateway: FakeGateway) -> FastAPI:
    app = app_with(gateway, limits={"chat": "1/minute"})
    router = APIRouter(prefix="/v1", dependencies=[Depends(admitted)])

    @router.websocket("/chat/{number}")
    async def chat(socket: WebSocket, number: int, llm: DepGateway, who: DepContext) -> None:
        await socket.accept()
        async for message in socket.iter_text():
            await socket.send_text(f"{message} {number}: {await llm.call(message)} {who.caller_id}")

    @router.websocket("/tight")
    @limit("chat")
    async def tight(socket: WebSocket) -> None:
        await socket.accept()

    @router.websocket("/scoped", dependencies=[Security(admitted, scopes=["llm:call"])])
    @requires("reports:read")
    async def scoped(socket: WebSocket) -> None:
        await socket.accept()

    @router.websocket("/open")
    @exempt
    async def anyone(socket: WebSocket, who: DepContext) -> None:
        await socket.accept()
        await socket.send_text(str(who.tenant_id))

    app.include_router(router)
    return app


async def converse(
    app: FastAPI, path: str, headers: dict[str, str], *, extensions: tuple[str, ...] = ("websocket.http.response",)
) -> list[Any]:
    """Connect as a server would, and leave at once; return what was sent."""
    arriving = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0)
        return arriving.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "query_string": b"",
        "subprotocols": [],
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "extensions": {name: {} for name in extensions},
    }
    await app(scope, receive, send)
    return sent


def test_each_message_is_answered_on_the_account_of_the_key_that_opened_the_socket(
    app: FastAPI, gateway: FakeGateway
) -> None:
    with client_of(app) as client, client.websocket_connect("/v1/chat/7") as socket:
        answers = []
        for message in ("one", "two"):
            socket.send_text(message)
            answers.append(socket.receive_text())
    assert answers == ["one 7: acme web", "two 7: acme web"]
    assert gateway.route == "/v1/chat/{number}"


def test_two_sockets_at_once_keep_their_identities(app: FastAPI) -> None:
    with (
        client_of(app) as client,
        client.websocket_connect("/v1/chat/1") as acme,
        client.websocket_connect("/v1/chat/2", headers=BETA) as beta,
    ):
        for socket in (acme, beta, acme):
            socket.send_text("hi")
        answers = [acme.receive_text(), beta.receive_text(), acme.receive_text()]
    assert answers == ["hi 1: acme web", "hi 2: beta None", "hi 1: acme web"]


async def test_the_quota_is_announced_in_the_handshake_and_counted_once(app: FastAPI) -> None:
    accepted = (await converse(app, "/v1/chat/7", ACME))[0]
    assert accepted["type"] == "websocket.accept"
    assert dict(accepted["headers"])[b"ratelimit"] == b'"default";r=59;t=60'
    assert current_binding() is None


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/v1/chat/7", {}, 401), ("/v1/chat/7", {"X-API-Key": "k-nobody"}, 401), ("/v1/scoped", BETA, 403)],
)
def test_whoever_is_refused_gets_the_problem_in_place_of_the_handshake(
    app: FastAPI, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, client_of(app, headers).websocket_connect(path):
        pass
    response = refused.value
    assert response.status_code == response.json()["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert ("www-authenticate" in response.headers) == (status == 401)


def test_beyond_a_limit_a_socket_is_refused(app: FastAPI) -> None:
    with client_of(app).websocket_connect("/v1/tight"):
        pass
    with pytest.raises(WebSocketDenialResponse) as refused, client_of(app).websocket_connect("/v1/tight"):
        pass
    assert (refused.value.status_code, refused.value.json()["violated-policies"]) == (429, ["chat"])


async def test_a_server_that_can_send_no_response_there_closes_with_a_policy_violation(app: FastAPI) -> None:
    sent = await converse(app, "/v1/chat/7", {}, extensions=())
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "Unauthorized"}]


def test_an_exempt_socket_is_open_to_everyone(app: FastAPI) -> None:
    with client_of(app, {}).websocket_connect("/v1/open") as socket:
        assert socket.receive_text() == "None"


def test_an_application_that_knows_its_users_knows_them_on_sockets_too(gateway: FakeGateway) -> None:
    def by_cookie(connection: Any) -> Principal | None:
        return Principal(tenant=connection.cookies["user"]) if "user" in connection.cookies else None

    app = FastAPI()
    install(app, {"api_keys": KEYS}, gateway=gateway, identify=by_cookie)  # type: ignore[arg-type]

    @app.websocket("/chat")
    async def chat(socket: WebSocket, who: DepContext) -> None:
        await socket.accept()
        await socket.send_text(str(who.tenant_id))

    with client_of(app, {"cookie": "user=ann"}).websocket_connect("/chat") as socket:
        assert socket.receive_text() == "ann"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ProviderTimeoutError("openai", "said sk-canary"), 1011, "The model provider did not answer in time"),
        (Problem(429, "Quota exceeded", "Wait."), 1008, "Quota exceeded"),
    ],
)
def test_the_gateways_errors_close_a_socket_that_is_open(
    app: FastAPI, error: Exception, code: int, reason: str
) -> None:
    @app.websocket("/fail")
    async def fail(socket: WebSocket, llm: DepGateway) -> None:
        await socket.accept()
        raise error

    with pytest.raises(WebSocketDisconnect) as closed, client_of(app).websocket_connect("/fail") as socket:
        socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (code, reason)


def test_an_error_after_the_socket_was_closed_has_nobody_left_to_tell(app: FastAPI) -> None:
    @app.websocket("/fail")
    async def fail(socket: WebSocket, llm: DepGateway) -> None:
        await socket.accept()
        await socket.close(1000)
        raise ProviderTimeoutError("openai", "no answer")

    with pytest.raises(WebSocketDisconnect) as closed, client_of(app).websocket_connect("/fail") as socket:
        socket.receive_text()
    assert closed.value.code == 1000


async def test_a_stream_that_a_socket_leaves_open_is_finished_with_it(app: FastAPI, gateway: FakeGateway) -> None:
    @app.websocket("/stream")
    async def stream(socket: WebSocket, llm: DepGateway) -> None:
        await socket.accept()
        llm.stream("hi")
        await socket.receive()

    await converse(app, "/stream", ACME)
    assert gateway.streams[0].reasons == ["client_disconnected"]


def test_tests_can_replace_the_admission_of_sockets(app: FastAPI) -> None:
    app.dependency_overrides[admitted] = lambda: LLMRequestContext(tenant_id="tester", caller_id="ann")
    with client_of(app, {}).websocket_connect("/v1/chat/7") as socket:
        socket.send_text("hi")
        assert socket.receive_text() == "hi 7: tester ann"
