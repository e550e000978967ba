"""The FastAPI adapter, with a gateway that only notes who called it: what FastAPI does is what is tested here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Router

from turnpike.context import LLMRequestContext, bind, current_binding
from turnpike_fastapi import DepContext, DepGateway, admitted, install

from .fastapi_service import ACME, BETA, FakeGateway, app_with, client_of, gate_of, raw_request

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def app(gateway: FakeGateway) -> FastAPI:
    return app_with(gateway)


# ---------------------------------------------------------------------------------------------------- identity


def test_handlers_get_the_gateway_and_the_identity_of_the_key(app: FastAPI, gateway: FakeGateway) -> None:
    @app.post("/chat/{number}")
    async def chat(number: int, llm: DepGateway, who: DepContext) -> dict[str, Any]:
        return {"text": await llm.call("hi"), "who": [who.tenant_id, who.caller_id], "same": id(llm) == id(gateway)}

    answer = client_of(app).post("/chat/7").json()
    assert answer == {"text": "acme", "who": ["acme", "web"], "same": True}


def test_the_identity_is_gone_when_the_request_is_over(app: FastAPI) -> None:
    @app.post("/chat")
    async def chat(llm: DepGateway) -> str:
        return str(await llm.call("hi"))

    @app.get("/open")
    async def nobody() -> bool:
        return current_binding() is None

    client = client_of(app)
    assert [client.post("/chat").json(), client.post("/chat", headers=BETA).json()] == ["acme", "beta"]
    assert client.get("/open").json() is True


async def test_nothing_is_left_bound_where_server_and_application_share_a_task(app: FastAPI) -> None:
    @app.post("/chat")
    async def chat(llm: DepGateway) -> str:
        return str(await llm.call("hi"))

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://t", headers=ACME) as client:
        assert (await client.post("/chat")).json() == "acme"
        assert current_binding() is None


def test_sync_handlers_have_the_identity_too(app: FastAPI) -> None:
    @app.post("/chat")
    def chat(llm: DepGateway) -> str:
        return str(llm.call_sync("hi"))

    assert client_of(app).post("/chat").json() == "acme"


def test_streamed_bodies_and_background_tasks_have_the_identity_too(app: FastAPI, gateway: FakeGateway) -> None:
    @app.post("/late")
    async def late(llm: DepGateway, tasks: BackgroundTasks) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            async for piece in llm.stream("hi").text():
                yield piece

        tasks.add_task(llm.call, "async")
        tasks.add_task(llm.call_sync, "sync")
        return StreamingResponse(body())

    assert client_of(app).post("/late").text == "acme acme "
    assert [binding and binding.context.tenant_id for binding in gateway.bindings] == ["acme"] * 3


def test_an_identity_bound_before_the_admission_does_not_take_it_away(app: FastAPI, gateway: FakeGateway) -> None:
    async def with_feature() -> AsyncIterator[None]:
        with bind(feature_id="search"):
            yield

    @app.post("/late", dependencies=[Depends(with_feature), Depends(admitted)])
    async def late(llm: DepGateway) -> StreamingResponse:
        return StreamingResponse(llm.stream("hi").text())

    assert client_of(app).post("/late").text == "acme acme "
    assert gateway.bindings[0] is not None
    assert gateway.bindings[0].context == LLMRequestContext(tenant_id="acme", caller_id="web", feature_id="search")


def test_sync_bodies_have_the_identity_at_every_step(app: FastAPI) -> None:
    @app.post("/late")
    def late(llm: DepGateway) -> StreamingResponse:
        def body() -> Iterator[str]:
            for _ in range(3):
                yield str(llm.call_sync("hi"))

        return StreamingResponse(body())

    assert client_of(app).post("/late").text == "acme" * 3


@pytest.mark.parametrize("style", ["async", "sync"])
def test_handlers_that_yield_server_sent_events_have_the_identity_at_every_step(app: FastAPI, style: str) -> None:
    sse = pytest.importorskip("fastapi.sse", reason="needs a FastAPI whose handlers may yield events (0.135)")

    async def events(llm: DepGateway) -> AsyncIterator[str]:
        for _ in range(2):
            yield await llm.call("hi")

    def events_sync(llm: DepGateway) -> Iterator[str]:
        for _ in range(2):
            yield llm.call_sync("hi")

    handler = events if style == "async" else events_sync
    app.get("/events", response_class=sse.EventSourceResponse)(handler)
    response = client_of(app).get("/events")
    assert [line for line in response.text.splitlines() if line] == ['data: "acme"'] * 2
    assert "ratelimit" in response.headers


def test_a_middleware_that_runs_the_application_in_a_task_of_its_own_changes_nothing(
    app: FastAPI, gateway: FakeGateway
) -> None:
    async def through(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=through)

    @app.post("/stream")
    async def stream(llm: DepGateway) -> StreamingResponse:
        return StreamingResponse(llm.stream("hi").text())

    response = client_of(app).post("/stream")
    assert response.text == "acme acme "
    assert "ratelimit" in response.headers
    assert gateway.streams[0].reasons == ["abandoned"]


async def test_two_hundred_requests_at_once_keep_their_identities(gateway: FakeGateway) -> None:
    app = app_with(gateway, rate_limit="1000/minute")

    @app.post("/chat/{number}")
    async def chat(number: int, llm: DepGateway, who: DepContext) -> list[Any]:
        await asyncio.sleep(0.001 * (number % 7))
        first = await llm.call("hi")
        await asyncio.sleep(0.001 * (number % 5))
        return [number, first, who.tenant_id, await llm.call("hi")]

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://t") as client:
        asked = [client.post(f"/chat/{n}", headers=(ACME, BETA)[n % 2]) for n in range(200)]
        answers = [response.json() for response in await asyncio.gather(*asked)]
    assert answers == [[n, *[("acme", "beta")[n % 2]] * 3] for n in range(200)]


# ------------------------------------------------------------------------------------------------------ routes


def test_the_route_is_the_template_with_its_routers_prefixes(app: FastAPI, gateway: FakeGateway) -> None:
    inner, outer = APIRouter(prefix="/chat"), APIRouter(prefix="/v1", dependencies=[Depends(admitted)])

    @inner.post("/{number}/{rest:path}")
    async def chat(number: int, rest: str, llm: DepGateway) -> None:
        await llm.call("hi")

    outer.include_router(inner)
    app.include_router(outer, prefix="/api")
    assert client_of(app).post("/api/v1/chat/7/a/b").status_code == 200
    assert gateway.route == "/api/v1/chat/{number}/{rest:path}"


def test_the_route_of_a_mounted_application_includes_the_mounts_template(app: FastAPI, gateway: FakeGateway) -> None:
    mounted = FastAPI()
    install(mounted, gateway=app.state.turnpike.gateway, gate=app.state.turnpike.gate)
    router = APIRouter(prefix="/v2")

    @router.post("/chat/{number}")
    async def chat(number: int, llm: DepGateway) -> None:
        await llm.call("hi")

    mounted.include_router(router)
    app.mount("/sub", mounted)
    app.router.routes.append(Mount("/of/{customer}", routes=[Mount("/deep", mounted)]))
    response = client_of(app).post("/sub/v2/chat/7")
    assert (response.status_code, gateway.route) == (200, "/sub/v2/chat/{number}")
    assert response.headers.get_list("ratelimit") == ['"default";r=59;t=60']
    assert client_of(app).post("/of/tyrell/deep/v2/chat/7").status_code == 200
    assert gateway.route == "/of/{customer}/deep/v2/chat/{number}"


def test_a_mount_inside_an_application_of_another_kind_is_named_by_its_path(app: FastAPI, gateway: FakeGateway) -> None:
    mounted = FastAPI()
    install(mounted, gateway=app.state.turnpike.gateway, gate=app.state.turnpike.gate)
    inner = Router(routes=[Mount("/b", mounted)])

    @mounted.post("/chat/{number}")
    async def chat(number: int, llm: DepGateway) -> None:
        await llm.call("hi")

    async def opaque(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    app.mount("/a", opaque)
    assert client_of(app).post("/a/b/chat/7").status_code == 200
    assert gateway.route == "/a/b/chat/{number}"


@pytest.mark.skipif(not hasattr(FastAPI, "frontend"), reason="needs a FastAPI that serves frontends")
def test_a_folder_of_files_is_guarded_without_a_route_of_its_own(gateway: FakeGateway, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    app = FastAPI(dependencies=[Depends(admitted)])
    install(app, gateway=gateway, gate=gate_of())  # type: ignore[arg-type]
    app.frontend("/", directory=tmp_path)
    with client_of(app) as client:
        assert client.get("/").text == "hello"
        assert client.get("/", headers={"X-API-Key": ""}).status_code == 401


def test_a_servers_root_path_is_no_part_of_the_route(app: FastAPI, gateway: FakeGateway) -> None:
    @app.post("/chat")
    async def chat(llm: DepGateway) -> None:
        await llm.call("hi")

    with TestClient(app, headers=ACME, root_path="/behind/proxy") as client:
        assert client.post("/chat").status_code == 200
    assert gateway.route == "/chat"


# ----------------------------------------------------------------------------------------------------- streams


async def test_a_stream_whose_client_leaves_is_finished_then(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/stream")
    async def stream(llm: DepGateway) -> StreamingResponse:
        opened = llm.stream("hi")

        async def body() -> AsyncIterator[str]:
            while opened:
                yield "x"

        return StreamingResponse(body())

    await raw_request(app, "/stream", [(b"x-api-key", b"k-acme")], leaves_after=4)
    assert gateway.streams[0].reasons == ["client_disconnected"]
    assert current_binding() is None


async def test_a_sync_body_that_the_framework_never_closes_is_finished_too(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/stream")
    def stream(llm: DepGateway) -> StreamingResponse:
        def body() -> Iterator[str]:
            opened = llm.stream_sync("hi")
            while opened:
                yield "x"

        return StreamingResponse(body())

    await raw_request(app, "/stream", [(b"x-api-key", b"k-acme")], leaves_after=4)
    assert gateway.streams[0].reasons == ["client_disconnected"]


async def test_a_stream_that_the_body_opened_is_finished_too(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/late")
    async def late(llm: DepGateway) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            llm.stream("hi")
            while True:
                yield "x"

        return StreamingResponse(body())

    await raw_request(app, "/late", [(b"x-api-key", b"k-acme")], leaves_after=4)
    assert gateway.streams[0].reasons == ["client_disconnected"]


def test_a_stream_that_the_handler_never_read_is_finished_at_the_end(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/unread")
    async def unread(llm: DepGateway) -> str:
        llm.stream("hi")
        return "ok"

    assert client_of(app).get("/unread").status_code == 200
    assert gateway.streams[0].reasons == ["abandoned"]


def test_a_stream_of_a_handler_that_raises_is_finished(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/boom")
    async def boom(llm: DepGateway) -> None:
        llm.stream("hi")
        raise ZeroDivisionError

    assert client_of(app, raises=False).get("/boom").status_code == 500
    assert gateway.streams[0].reasons == ["request_failed"]
