"""The Litestar adapter with a real gateway: what Litestar does with requests, streams and WebSockets is what is tested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest

pytest.importorskip("litestar", reason="needs litestar: install turnpike[litestar]")

from litestar import Controller, Litestar, Request, Response, Router, WebSocket, asgi, get, post, websocket
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import NotFoundException, WebSocketDisconnect
from litestar.handlers import websocket_listener
from litestar.middleware import ASGIMiddleware
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.params import Body
from litestar.response import ServerSentEvent, Stream

from turnpike.boundary.keys import Principal
from turnpike.context import LLMRequestContext, bind, current_binding
from turnpike.errors import InvalidRequestError, ProviderRateLimitError, UnknownTierError
from turnpike_litestar import DepContext, DepGateway, exempt, limit, requires

from .litestar_bench import ACME, AUDITOR, BETA, Bench, Dependency, client_of, send_as_server

pytestmark = pytest.mark.anyio

ACME_LINE = [(b"x-api-key", b"k-acme")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@post("/chat", status_code=200)
async def chat(gateway: DepGateway) -> str:
    """The handler of tests that are about something else."""
    return (await gateway.call("hi", tier="cheap")).text


# ---------------------------------------------------------------------------------------------------- identity


def test_handlers_get_the_gateway_and_the_identity_of_the_key(bench: Bench) -> None:
    @post("/chat", status_code=200)
    async def answer(gateway: DepGateway, llm_context: DepContext) -> dict[str, Any]:
        text = (await gateway.call("hi", tier="cheap")).text
        return {"text": text, "who": [llm_context.tenant_id, llm_context.caller_id], "same": gateway is bench.gateway}

    response = client_of(bench.app(answer)).post("/chat")
    assert response.json() == {"text": "acme said so", "who": ["acme", "web"], "same": True}


def test_plain_handlers_in_threads_have_the_identity_too(bench: Bench) -> None:
    @post("/chat", sync_to_thread=True)
    def answer(gateway: DepGateway, llm_context: DepContext) -> str:
        return f"{llm_context.caller_id}: {gateway.call_sync('hi', tier='cheap').text}"

    assert client_of(bench.app(answer)).post("/chat").text == "web: acme said so"


def test_dependencies_of_the_applications_own_change_nothing(bench: Bench) -> None:
    async def first() -> str:
        return str(current_binding() and current_binding().context.tenant_id)  # type: ignore[union-attr]

    async def second(llm_context: DepContext) -> AsyncIterator[str]:
        yield str(llm_context.tenant_id)

    @get("/chat")
    async def answer(gateway: DepGateway, first: Dependency, second: Dependency) -> list[str]:
        return [first, second, (await gateway.call("hi", tier="cheap")).text]

    app = bench.app(answer, dependencies={"first": Provide(first), "second": Provide(second)})
    assert client_of(app).get("/chat").json() == ["acme", "acme", "acme said so"]


async def test_nothing_is_left_bound_where_server_and_application_share_a_task(bench: Bench) -> None:
    transport = httpx2.ASGITransport(bench.app(chat))  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://t", headers=ACME) as client:
        assert (await client.post("/chat")).text == "acme said so"
        assert current_binding() is None
        assert (await client.post("/chat", headers=BETA)).text == "beta said so"


def test_what_is_bound_around_the_server_is_nobodys_identity(bench: Bench) -> None:
    @get("/open")
    @exempt
    async def nobody() -> bool:
        binding = current_binding()
        return binding is not None and binding.context == LLMRequestContext()

    with bind(tenant_id="operator"):
        assert client_of(bench.app(nobody), {}).get("/open").json() is True


async def test_a_hundred_requests_at_once_keep_their_identities(bench: Bench) -> None:
    @post("/chat/{number:int}", status_code=200)
    async def answer(request: Request[Any, Any, Any], gateway: DepGateway, llm_context: DepContext) -> list[Any]:
        number = request.path_params["number"]
        await asyncio.sleep(0.001 * (number % 7))
        first = (await gateway.call("hi", tier="cheap")).text
        await asyncio.sleep(0.001 * (number % 5))
        return [number, first, llm_context.tenant_id, (await gateway.call("hi", tier="cheap")).text]

    app = bench.app(answer, plugin=bench.plugin({"rate_limit": "1000/minute"}))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://t") as client:  # type: ignore[arg-type]
        asked = [client.post(f"/chat/{n}", headers=(ACME, BETA)[n % 2]) for n in range(100)]
        answers = [response.json() for response in await asyncio.gather(*asked)]
    who = ("acme", "beta")
    assert answers == [[n, f"{who[n % 2]} said so", who[n % 2], f"{who[n % 2]} said so"] for n in range(100)]


# ------------------------------------------------------------------------------------- streams and background work


def test_each_way_to_stream_is_attributed_and_announces_the_quota(bench: Bench) -> None:
    @get("/async")
    async def of_handler(gateway: DepGateway) -> Stream:
        return Stream(gateway.stream("hi", tier="cheap").text(), media_type="text/plain")

    @get("/late")
    async def of_body(gateway: DepGateway) -> Stream:
        async def body() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            async for piece in gateway.stream("hi", tier="cheap").text():
                yield piece

        return Stream(body, media_type="text/plain")

    @get("/sync", sync_to_thread=True)
    def of_plain_handler(gateway: DepGateway) -> Stream:
        return Stream(gateway.stream_sync("hi", tier="cheap").text(), media_type="text/plain")

    @get("/sync-late", sync_to_thread=True)
    def of_plain_body(gateway: DepGateway) -> Stream:
        def body() -> Iterator[str]:
            yield from gateway.stream_sync("hi", tier="cheap").text()

        return Stream(body(), media_type="text/plain")

    @get("/events")
    async def of_events(gateway: DepGateway) -> ServerSentEvent:
        return ServerSentEvent(gateway.stream("hi", tier="cheap").text())

    client = client_of(bench.app(of_handler, of_body, of_plain_handler, of_plain_body, of_events))
    for path in ("/async", "/late", "/sync", "/sync-late"):
        response = client.get(path)
        assert (response.text, "ratelimit" in response.headers) == ("acme said so", True), path
    assert client.get("/events").text == "data: acme \r\n\r\ndata: said so\r\n\r\n"
    assert {tenant for tenant, _ in bench.callers} == {"acme"}
    assert {request.ending for request in bench.provider.requests} == {"complete"}


def test_background_work_is_attributed(bench: Bench) -> None:
    @post("/notes")
    async def note(gateway: DepGateway) -> Response[str]:
        later = BackgroundTasks(
            [
                BackgroundTask(gateway.call, "async", tier="cheap"),
                BackgroundTask(gateway.call_sync, "sync", tier="cheap"),
            ]
        )
        return Response("noted", background=later)

    assert client_of(bench.app(note)).post("/notes").text == "noted"
    assert bench.callers == [("acme", "/notes")] * 2


async def test_a_stream_whose_client_leaves_is_finished_then(bench: Bench) -> None:
    @get("/stream")
    async def stream(gateway: DepGateway) -> Stream:
        opened = gateway.stream("hi", tier="cheap")

        async def body() -> AsyncIterator[str]:
            await anext(aiter(opened))
            while True:
                yield "x"

        return Stream(body())

    await send_as_server(bench.app(stream), "/stream", ACME_LINE, leaves_after=4)
    (call,) = bench.calls()
    assert (call["status"], call["tenant_id"], call["finish_reason"]) == ("cancelled", "acme", "client_disconnected")
    assert current_binding() is None


async def test_a_sync_body_that_the_framework_never_closes_is_finished_too(bench: Bench) -> None:
    @get("/stream", sync_to_thread=True)
    def stream(gateway: DepGateway) -> Stream:
        def body() -> Iterator[str]:
            opened = iter(gateway.stream_sync("hi", tier="cheap"))
            next(opened)
            while True:
                yield "x"

        return Stream(body())

    await send_as_server(bench.app(stream), "/stream", ACME_LINE, leaves_after=4)
    (call,) = bench.calls()
    assert (call["status"], call["finish_reason"]) == ("cancelled", "client_disconnected")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, "abandoned"), (NotFoundException(), "abandoned"), (ZeroDivisionError(), "request_failed")],
)
def test_a_stream_that_the_handler_never_read_is_finished_at_the_end(
    bench: Bench, error: Exception | None, reason: str
) -> None:
    @get("/unread")
    async def unread(gateway: DepGateway) -> str:
        gateway.stream("hi", tier="cheap")
        if error is not None:
            raise error
        return "ok"

    client_of(bench.app(unread), raises=False).get("/unread")
    (call,) = bench.calls()
    assert call["finish_reason"] == reason


# ------------------------------------------------------------------------------------------------------ routes


def test_the_route_is_the_template_with_its_layers_prefixes(bench: Bench) -> None:
    class Chats(Controller):
        path = "/chats"

        @post(["/{number:int}", "/by-name/{name:str}"], status_code=200)
        async def ask(self, gateway: DepGateway) -> str:
            return (await gateway.call("hi", tier="cheap")).text

    client = client_of(bench.app(Router("/v1", route_handlers=[Chats]), path="/api"))
    assert client.post("/api/v1/chats/7/").text == "acme said so"
    assert client.post("/api/v1/chats/by-name/x").text == "acme said so"
    assert [route for _, route in bench.callers] == ["/api/v1/chats/{number}", "/api/v1/chats/by-name/{name}"]


def test_a_servers_root_path_is_no_part_of_the_route(bench: Bench) -> None:
    assert client_of(bench.app(chat), root_path="/behind/proxy").post("/chat").status_code == 200
    assert bench.callers == [("acme", "/chat")]


def test_mounted_applications_are_guarded_under_the_path_of_their_mount(bench: Bench) -> None:
    @asgi("/mounted", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await bench.gateway.call("hi", tier="cheap")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"mounted"})

    app = bench.app(mounted)
    response = client_of(app).get("/mounted/deep/down")
    assert (response.text, response.headers["ratelimit"]) == ("mounted", '"default";r=59;t=60')
    assert bench.callers == [("acme", "/mounted")]
    assert client_of(app, {}).get("/mounted/deep/down").status_code == 401


def test_an_application_with_a_plugin_mounted_in_another_one_counts_requests_once(bench: Bench) -> None:
    inner = bench.app(chat)
    outer = bench.app(asgi("/inner", is_mount=True, copy_scope=True)(inner))
    response = client_of(outer).post("/inner/chat")
    assert (response.text, response.headers.get_list("ratelimit")) == ("acme said so", ['"default";r=59;t=60'])


# --------------------------------------------------------------------------------------------------- admission


def test_without_a_key_nothing_reaches_the_handler(bench: Bench) -> None:
    response = client_of(bench.app(chat), {}).post("/chat")
    assert (response.status_code, bench.callers) == (401, [])
    assert response.headers["www-authenticate"] == 'ApiKey realm="turnpike"'
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.content == (
        b'{"type":"about:blank","title":"Unauthorized","status":401,'
        b'"detail":"This request needs exactly one valid API key. Send it as \'X-API-Key: <key>\'."}'
    )


@pytest.mark.parametrize(
    "lines", [[b"k-acme", b"k-acme"], [b"k-acme,k-beta"], [b"\xff"], [b""], [b"k" * 9000], [b"k-acme\x00"]]
)
async def test_hostile_headers_are_a_401(bench: Bench, lines: list[bytes]) -> None:
    app = bench.app(get("/chat")(chat.fn))
    sent = await send_as_server(app, "/chat", [(b"x-api-key", line) for line in lines])
    assert sent[0]["status"] == 401


def test_beyond_the_limit_the_answer_is_a_429(bench: Bench) -> None:
    client = client_of(bench.app(chat, plugin=bench.plugin({"rate_limit": "1/minute"})))
    assert client.post("/chat").headers["ratelimit"] == '"default";r=0;t=60'
    response = client.post("/chat")
    assert (response.status_code, response.json()["violated-policies"]) == (429, ["default"])
    assert response.headers["retry-after"] == "60"
    assert response.headers.get_list("ratelimit") == ['"default";r=0;t=60']
    assert client.post("/chat", headers=BETA).status_code == 200


def test_what_litestar_answers_itself_needs_no_key(bench: Bench) -> None:
    client = client_of(bench.app(chat), {})
    assert client.get("/nowhere").status_code == 404
    assert client.get("/chat").status_code == 405
    response = client.options("/chat")
    assert (response.status_code, response.headers["allow"]) == (204, "OPTIONS, POST")


def test_validation_errors_stay_litestars_own_and_come_after_the_key(bench: Bench) -> None:
    @post("/chat")
    async def answer(data: Annotated[dict[str, int], Body()]) -> None: ...

    app = bench.app(answer)
    response = client_of(app).post("/chat", json={"number": "x"})
    assert (response.status_code, "ratelimit" in response.headers) == (400, True)
    assert client_of(app, {}).post("/chat", json={"number": "x"}).status_code == 401


def test_refusals_carry_the_headers_of_cors(bench: Bench) -> None:
    app = bench.app(chat, cors_config=CORSConfig(allow_origins=["https://app.example"]))
    client = client_of(app, {"Origin": "https://app.example"})
    response = client.post("/chat")
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (401, "https://app.example")
    preflight = client.options("/chat", headers={"Access-Control-Request-Method": "POST"})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "https://app.example")


def test_compression_and_litestars_own_rate_limit_work_beside_it(bench: Bench) -> None:
    @get("/long")
    async def long(gateway: DepGateway) -> Stream:
        async def body() -> AsyncIterator[str]:
            for _ in range(3):
                yield (await gateway.call("hi", tier="cheap")).text * 400

        return Stream(body(), media_type="text/plain")

    own = RateLimitConfig(rate_limit=("minute", 1), set_rate_limit_headers=False)
    app = bench.app(long, compression_config=CompressionConfig("gzip"), middleware=[own.middleware])
    client = client_of(app)
    response = client.get("/long")
    assert response.text == "acme said so" * 1200
    assert (response.headers["content-encoding"], "ratelimit" in response.headers) == ("gzip", True)
    refused = client.get("/long")
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/json")


def test_a_cached_response_is_for_those_who_have_a_key(bench: Bench) -> None:
    app = bench.app(get("/chat", cache=True)(chat.fn))
    client = client_of(app)
    assert [client.get("/chat").headers["ratelimit"] for _ in range(2)] == [f'"default";r={n};t=60' for n in (59, 58)]
    assert len(bench.callers) == 1
    assert client_of(app, {}).get("/chat").status_code == 401


class Sessions(ASGIMiddleware):
    """Authentication of the application's own, as its users write it."""

    async def handle(self, scope: Any, receive: Any, send: Any, next_app: Any) -> None:
        names = [value.decode() for name, value in scope["headers"] if name == b"x-session"]
        scope["user"] = names[0] if names else None
        await next_app(scope, receive, send)


def test_an_application_can_say_itself_who_is_asking(bench: Bench) -> None:
    async def identify(connection: Any) -> Principal | None:
        return Principal(tenant=connection.user, scopes=("reports:read",)) if connection.user else None

    @get("/reports")
    @requires("reports:read")
    async def reports(llm_context: DepContext) -> str | None:
        return llm_context.tenant_id

    client = client_of(bench.app(reports, plugin=bench.plugin(identify=identify), middleware=[Sessions()]), {})
    assert client.get("/reports", headers={"X-Session": "tyrell"}).text == "tyrell"
    assert client.get("/reports", headers=AUDITOR).text == "acme"
    assert client.get("/reports").status_code == 401


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            ProviderRateLimitError("openai", "said sk-canary", retry_after_s=2.5),
            503,
            (
                b'{"type":"urn:turnpike:problem:upstream-rate-limited",'
                b'"title":"The model provider is rate limiting","status":503,'
                b'"detail":"The model provider is not taking more requests at the moment. Try again later."}'
            ),
        ),
        (
            UnknownTierError("cheep", "/fail", ["cheap"]),
            500,
            (
                b'{"type":"urn:turnpike:problem:misconfigured",'
                b'"title":"The service is misconfigured","status":500,'
                b'"detail":"The service is not set up to serve this request. '
                b'Its operator finds the reason in the log."}'
            ),
        ),
        (
            InvalidRequestError("prompt must not be empty"),
            400,
            (
                b'{"type":"urn:turnpike:problem:invalid-request","title":"Invalid request",'
                b'"status":400,"detail":"prompt must not be empty"}'
            ),
        ),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_the_gateways_errors_become_problems(
    bench: Bench, error: Exception, status: int, body: bytes, debug: bool
) -> None:
    @get("/fail")
    async def fail() -> None:
        raise error

    response = client_of(bench.app(fail, debug=debug)).get("/fail")
    assert (response.status_code, response.content) == (status, body)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["ratelimit"] == '"default";r=59;t=60'
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)


def test_exception_handlers_of_the_applications_own_are_left_to_it(bench: Bench) -> None:
    def as_teapot(_request: Any, _error: Exception) -> Response[str]:
        return Response("teapot", status_code=418)

    @get("/fail")
    async def fail() -> None:
        raise InvalidRequestError("no")

    handlers = {Exception: as_teapot, InvalidRequestError: as_teapot}
    app = bench.app(fail, exception_handlers=handlers)
    assert client_of(app).get("/fail").text == "teapot"
    assert client_of(app, {}).get("/fail").status_code == 401
    assert set(handlers) == {Exception, InvalidRequestError}


# -------------------------------------------------------------------------------------------------- WebSockets


@websocket("/talk")
@limit("chat")
async def talk(socket: WebSocket[Any, Any, Any], gateway: DepGateway, llm_context: DepContext) -> None:
    await socket.accept()
    async for message in socket.iter_data("text"):
        answer = await gateway.call(message, tier="cheap")
        await socket.send_text(f"{llm_context.caller_id}: {answer.text}")


def test_a_websocket_is_admitted_and_attributed(bench: Bench) -> None:
    with client_of(bench.app(talk)).websocket_connect("/talk") as session:
        assert dict(session.extra_headers or ())[b"ratelimit"] == b'"default";r=59;t=60, "chat";r=1;t=60'
        session.send_text("hi")
        assert session.receive_text() == "web: acme said so"
    assert bench.callers == [("acme", "/talk")]


def test_a_listener_has_the_gateway_and_keeps_its_marks(bench: Bench) -> None:
    @websocket_listener("/talk")
    @requires("reports:read")
    async def listen(data: str, gateway: DepGateway) -> str:
        return (await gateway.call(data, tier="cheap")).text

    client = client_of(bench.app(listen))
    with client.websocket_connect("/talk", headers=AUDITOR) as session:
        session.send_text("hi")
        assert session.receive_text() == "acme said so"
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/talk"):
        pass
    assert (refused.value.code, refused.value.detail) == (1008, "Scope denied")


async def talk_as_server(app: Litestar, headers: list[tuple[bytes, bytes]], *, deniable: bool) -> list[Any]:
    sent: list[Any] = []
    waiting = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}]

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        sent.append(message)

    extensions: dict[str, Any] = {"websocket.http.response": {}} if deniable else {}
    scope = {"type": "websocket", "path": "/talk", "headers": headers, "query_string": b"", "extensions": extensions}
    await app({**scope, "subprotocols": []}, receive, send)  # type: ignore[arg-type]
    return sent


async def test_a_websocket_without_a_key_is_refused_with_a_problem_where_the_server_can(bench: Bench) -> None:
    start, body = await talk_as_server(bench.app(talk), [], deniable=True)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert b'"title":"Unauthorized"' in body["body"]
    (close,) = await talk_as_server(bench.app(talk), [], deniable=False)
    assert (close["type"], close["code"], close["reason"]) == ("websocket.close", 1008, "Unauthorized")
    assert bench.callers == []


async def test_an_error_of_the_gateways_closes_a_websocket_with_its_title(bench: Bench) -> None:
    bench.provider.default(ProviderRateLimitError("openai", "said sk-canary"))
    accepted, closed = await talk_as_server(bench.app(talk), ACME_LINE, deniable=True)
    assert accepted["type"] == "websocket.accept"
    assert (closed["code"], closed["reason"]) == (1011, "The model provider is rate limiting")


async def test_an_error_before_a_websocket_is_open_refuses_it(bench: Bench) -> None:
    @websocket("/talk")
    async def hasty(socket: WebSocket[Any, Any, Any], gateway: DepGateway) -> None:
        await gateway.call("hi", tier="cheap")

    bench.provider.default(ProviderRateLimitError("openai", "said sk-canary"))
    start, body = await talk_as_server(bench.app(hasty), ACME_LINE, deniable=True)
    assert (start["status"], b"canary" in body["body"]) == (503, False)


async def test_other_errors_close_a_websocket_as_litestar_does(bench: Bench) -> None:
    @websocket("/talk")
    async def broken(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        raise ZeroDivisionError

    _accepted, closed = await talk_as_server(bench.app(broken), ACME_LINE, deniable=True)
    assert (closed["code"], closed["reason"]) == (4500, "Internal Server Error")
