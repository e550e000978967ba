"""Plain ASGI, around which ``turnpike.asgi.TurnpikeMiddleware`` stands: the example for the other stack files."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from turnpike.asgi import Route as Found
from turnpike.asgi import TurnpikeMiddleware
from turnpike.boundary.rules import exempt, limit, requires, rule_of
from turnpike.context import current_context
from turnpike.testing.contract import OWN_HEADER, STREAM_MEDIA_TYPE, Call, ContractSetup, Route, Stack

Message = dict[str, Any]
Handler = Callable[["Request"], Awaitable[None]]


class Request:
    """One connection, with the few answers that the service gives."""

    def __init__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send

    @property
    def number(self) -> int | None:
        number: int | None = self.scope.get("number")
        return number

    async def answer(self, body: bytes, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> None:
        await self._start(status, (("content-length", str(len(body))), *headers))
        await self.send({"type": "http.response.body", "body": body})

    async def stream(self, body: AsyncIterator[bytes]) -> None:
        """Send ``body`` until its end, or until the client has left."""
        sending = asyncio.ensure_future(self._send_all(body))
        leaving = asyncio.ensure_future(self._client_leaves())
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait((sending, leaving))
        if not sending.cancelled():
            sending.result()

    async def _send_all(self, body: AsyncIterator[bytes]) -> None:
        await self._start(200, (("content-type", STREAM_MEDIA_TYPE),))
        async for piece in body:
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    async def _client_leaves(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _start(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})


def _handler(route: Route, setup: ContractSetup) -> Handler:
    def call_of(request: Request) -> Call:
        return Call(setup.gateway, current_context(), request.number)

    async def as_json(request: Request) -> None:
        answer = await route.answer(call_of(request))
        headers = (("content-type", "application/json"),)
        if route.kind == "response":
            await request.answer(json.dumps(answer).encode(), status=201, headers=(*headers, OWN_HEADER))
        else:
            await request.answer(json.dumps(answer).encode(), headers=headers)
        if route.kind == "background":
            await route.afterwards(call_of(request))

    async def as_stream(request: Request) -> None:
        await request.stream(route.body(call_of(request)))

    async def as_conversation(request: Request) -> None:
        async def receive() -> str | None:
            message: Message = await request.receive()
            return message.get("text") if message["type"] == "websocket.receive" else None

        async def send(text: str) -> None:
            await request.send({"type": "websocket.send", "text": text})

        await request.receive()
        await request.send({"type": "websocket.accept"})
        await route.converse(call_of(request), receive, send)

    handlers = {"stream": as_stream, "websocket": as_conversation}
    return route.mark(handlers.get(route.kind, as_json), exempt=exempt, limit=limit, requires=requires)


class Service:
    """A router, of the kind that every framework has in a better form."""

    def __init__(self, setup: ContractSetup) -> None:
        self._rows = [
            (re.compile(route.path.replace("{number}", r"(?P<number>\d+)")), route, _handler(route, setup))
            for route in setup.routes
        ]

    def find(self, scope: dict[str, Any]) -> Found | None:
        for pattern, route, handler in self._rows:
            if match := pattern.fullmatch(scope["path"]):
                scope["handler"] = handler
                scope["number"] = int(number) if (number := match.groupdict().get("number")) else None
                scope["methods"] = {route.method}
                return Found(route.path, rule_of(handler))
        return None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        request = Request(scope, receive, send)
        if "handler" not in scope:
            await request.answer(b"Not Found", status=404)
        elif scope["type"] == "http" and scope["method"] not in scope["methods"]:
            await request.answer(b"", status=405)
        else:
            await scope["handler"](request)


async def _live(receive: Any, send: Any) -> None:
    while (message := await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": f"{message['type']}.complete"})


def build(setup: ContractSetup) -> TurnpikeMiddleware:
    service = Service(setup)
    identify = setup.identify

    def identify_scope(scope: dict[str, Any]) -> Any:
        assert identify is not None
        values = [value for name, value in scope["headers"] if name == setup.session_header.lower().encode()]
        return identify(values[0].decode("latin-1") if values else None)

    return TurnpikeMiddleware(
        service,  # type: ignore[arg-type]
        gateway=setup.gateway,
        gate=setup.gate,
        identify=identify_scope if identify is not None else None,
        routes=service.find,
    )


STACKS = (Stack(name="asgi", kind="asgi", build=build),)
