"""Litestar, with ``async def`` handlers and with plain ones that Litestar runs in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from litestar import Litestar, Request, WebSocket, route, websocket
from litestar.background_tasks import BackgroundTask
from litestar.concurrency import get_asyncio_executor, set_asyncio_executor
from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod
from litestar.exceptions import WebSocketDisconnect
from litestar.response import Response, Stream

from turnpike.testing.contract import OWN_HEADER, STREAM_MEDIA_TYPE, Call, ContractSetup, Feature, Route, Stack
from turnpike_litestar import DepContext, DepGateway, TurnpikePlugin, exempt, limit, requires

Answer = Response[dict[str, Any]]


def _number(request: Request[Any, Any, Any]) -> int | None:
    number: int | None = request.path_params.get("number")
    return number


def _as_response(item: Route, answer: dict[str, Any], after: Callable[[], Any]) -> Answer:
    if item.kind == "response":
        return Response(answer, status_code=201, headers=dict([OWN_HEADER]))
    return Response(answer, status_code=200, background=BackgroundTask(after) if item.kind == "background" else None)


def _async_handler(item: Route) -> Callable[..., Any]:
    async def answer(gateway: DepGateway, llm_context: DepContext, request: Request[Any, Any, Any]) -> Answer:
        call = Call(gateway, llm_context, _number(request))

        async def afterwards() -> None:
            await item.afterwards(call)

        return _as_response(item, await item.answer(call), afterwards)

    async def stream(gateway: DepGateway, llm_context: DepContext) -> Stream:
        return Stream(item.body(Call(gateway, llm_context)), media_type=STREAM_MEDIA_TYPE, status_code=200)

    return stream if item.kind == "stream" else answer


def _sync_handler(item: Route) -> Callable[..., Any]:
    def answer(gateway: DepGateway, llm_context: DepContext, request: Request[Any, Any, Any]) -> Answer:
        call = Call(gateway, llm_context, _number(request))
        return _as_response(item, item.answer_sync(call), lambda: item.afterwards_sync(call))

    def stream(gateway: DepGateway, llm_context: DepContext) -> Stream:
        return Stream(item.body_sync(Call(gateway, llm_context)), media_type=STREAM_MEDIA_TYPE, status_code=200)

    return stream if item.kind == "stream" else answer


def _conversation(item: Route) -> Callable[..., Any]:
    async def converse(socket: WebSocket[Any, Any, Any], gateway: DepGateway, llm_context: DepContext) -> None:
        async def receive() -> str | None:
            try:
                return await socket.receive_text()
            except WebSocketDisconnect:
                return None

        await socket.accept()
        await item.converse(Call(gateway, llm_context), receive, socket.send_text)

    return converse


def _build(setup: ContractSetup, handler_of: Callable[[Route], Callable[..., Any]], **style: Any) -> Litestar:
    def marked(item: Route) -> Callable[..., Any]:
        handler = _conversation(item) if item.kind == "websocket" else handler_of(item)
        return item.mark(handler, exempt=exempt, limit=limit, requires=requires)

    def registered(item: Route) -> Any:
        path = item.path.replace("{number}", "{number:int}")
        if item.kind == "websocket":
            return websocket(path, name=item.name)(marked(item))
        return route(path, http_method=[HttpMethod(item.method)], name=item.name, **style)(marked(item))

    identify = setup.identify

    def identify_connection(connection: ASGIConnection[Any, Any, Any, Any]) -> Any:
        assert identify is not None
        return identify(connection.headers.get(setup.session_header))

    plugin = TurnpikePlugin(
        gateway=setup.gateway, gate=setup.gate, identify=identify_connection if identify is not None else None
    )
    # Litestar's own logging configuration would replace the one by which the cases see what is logged.
    return Litestar([registered(item) for item in setup.routes], plugins=[plugin], logging_config=None)


def build_async(setup: ContractSetup) -> Litestar:
    return _build(setup, _async_handler)


def build_sync(setup: ContractSetup) -> Litestar:
    # By default Litestar shares asyncio's own threads, a handful, and crowds of the contract wait at the provider together.
    executor = setup.resources.enter_context(ThreadPoolExecutor(64))
    setup.resources.callback(set_asyncio_executor, get_asyncio_executor())
    set_asyncio_executor(executor)
    return _build(setup, _sync_handler, sync_to_thread=True)


STACKS = (
    Stack(name="litestar-async", kind="asgi", build=build_async),
    Stack(
        name="litestar-sync",
        kind="asgi",
        build=build_sync,
        lacks={Feature.TASKS: "a plain handler runs in a thread without an event loop"},
    ),
)
