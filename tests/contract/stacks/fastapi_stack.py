"""FastAPI, with ``async def`` handlers and with plain ones, which it runs in threads."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse, StreamingResponse

from turnpike.testing.contract import OWN_HEADER, STREAM_MEDIA_TYPE, Call, ContractSetup, Feature, Route, Stack
from turnpike_fastapi import DepContext, DepGateway, admitted, exempt, install, limit, requires

Handler = Callable[..., Any]


async def call(llm: DepGateway, who: DepContext) -> Call:
    return Call(llm, who)


async def numbered_call(number: int, llm: DepGateway, who: DepContext) -> Call:
    return Call(llm, who, number)


def _async_handler(route: Route) -> Handler:
    asked = Annotated[Call, Depends(numbered_call if "{number}" in route.path else call)]

    async def as_json(call: asked) -> Any:
        return await route.answer(call)

    async def as_response(call: asked) -> Any:
        return JSONResponse(await route.answer(call), 201, dict([OWN_HEADER]))

    async def as_stream(call: asked) -> Any:
        return StreamingResponse(route.body(call), media_type=STREAM_MEDIA_TYPE)

    async def with_background(call: asked, tasks: BackgroundTasks) -> Any:
        tasks.add_task(route.afterwards, call)
        return await route.answer(call)

    return {"json": as_json, "response": as_response, "stream": as_stream, "background": with_background}[route.kind]


def _sync_handler(route: Route) -> Handler:
    asked = Annotated[Call, Depends(numbered_call if "{number}" in route.path else call)]

    def as_json(call: asked) -> Any:
        return route.answer_sync(call)

    def as_response(call: asked) -> Any:
        return JSONResponse(route.answer_sync(call), 201, dict([OWN_HEADER]))

    def as_stream(call: asked) -> Any:
        return StreamingResponse(route.body_sync(call), media_type=STREAM_MEDIA_TYPE)

    def with_background(call: asked, tasks: BackgroundTasks) -> Any:
        tasks.add_task(route.afterwards_sync, call)
        return route.answer_sync(call)

    return {"json": as_json, "response": as_response, "stream": as_stream, "background": with_background}[route.kind]


def _conversation(route: Route) -> Handler:
    async def converse(socket: WebSocket, call: Annotated[Call, Depends(call)]) -> None:
        async def receive() -> str | None:
            try:
                return await socket.receive_text()
            except WebSocketDisconnect:
                return None

        await socket.accept()
        await route.converse(call, receive, socket.send_text)

    return converse


def build(handler_of: Callable[[Route], Handler], setup: ContractSetup) -> FastAPI:
    app, known = FastAPI(), setup.identify

    def identify(connection: HTTPConnection) -> Any:
        assert known is not None
        return known(connection.headers.get(setup.session_header))

    install(app, gateway=setup.gateway, gate=setup.gate, identify=identify if known is not None else None)
    router = APIRouter(dependencies=[Depends(admitted)])
    for route in setup.routes:
        mark = partial(route.mark, exempt=exempt, limit=limit, requires=requires)
        if route.kind == "websocket":
            router.add_api_websocket_route(route.path, mark(_conversation(route)))
        else:
            router.add_api_route(route.path, mark(handler_of(route)), methods=[route.method])
    app.include_router(router)
    return app


STACKS = (
    Stack(name="fastapi-async", kind="asgi", build=partial(build, _async_handler)),
    Stack(
        name="fastapi-sync",
        kind="asgi",
        build=partial(build, _sync_handler),
        lacks={Feature.TASKS: "plain handlers run in threads, where no task can be started"},
    ),
)
