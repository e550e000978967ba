"""Plain WSGI, around which ``turnpike.wsgi.TurnpikeMiddleware`` stands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from turnpike.boundary.rules import exempt, limit, requires, rule_of
from turnpike.context import current_context
from turnpike.testing.contract import OWN_HEADER, STREAM_MEDIA_TYPE, Call, ContractSetup, Feature, Route, Stack
from turnpike.wsgi import Route as Found
from turnpike.wsgi import TurnpikeMiddleware

Environ = dict[str, Any]
Start = Callable[..., Any]
Handler = Callable[[Environ, Start], Iterable[bytes]]


def _answer(
    start: Start, body: bytes, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Iterable[bytes]:
    start(f"{status} {HTTPStatus(status).phrase}", [("Content-Length", str(len(body))), *headers])
    return [body]


def _handler(route: Route, setup: ContractSetup) -> Handler:
    def call_of(environ: Environ) -> Call:
        return Call(setup.gateway, current_context(), environ.get("contract.number"))

    def as_json(environ: Environ, start: Start) -> Iterable[bytes]:
        body = json.dumps(route.answer_sync(call_of(environ))).encode()
        headers = (("Content-Type", "application/json"),)
        if route.kind == "response":
            return _answer(start, body, status=201, headers=(*headers, OWN_HEADER))
        return _answer(start, body, headers=headers)

    def as_stream(environ: Environ, start: Start) -> Iterable[bytes]:
        body = route.body_sync(call_of(environ))
        start("200 OK", [("Content-Type", STREAM_MEDIA_TYPE)])
        return body

    handler = as_stream if route.kind == "stream" else as_json
    return route.mark(handler, exempt=exempt, limit=limit, requires=requires)


class Service:
    """A router, of the kind that every framework has in a better form."""

    def __init__(self, setup: ContractSetup) -> None:
        self._rows = [
            (re.compile(route.path.replace("{number}", r"(?P<number>\d+)")), route, _handler(route, setup))
            for route in setup.routes
            if route.kind != "websocket"
        ]

    def find(self, environ: Environ) -> Found | None:
        for pattern, route, handler in self._rows:
            if match := pattern.fullmatch(environ["PATH_INFO"]):
                environ["contract.handler"] = handler
                environ["contract.number"] = int(number) if (number := match.groupdict().get("number")) else None
                environ["contract.methods"] = {route.method}
                return Found(route.path, rule_of(handler))
        return None

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        if "contract.handler" not in environ:
            return _answer(start, b"Not Found", status=404)
        if environ["REQUEST_METHOD"] not in environ["contract.methods"]:
            return _answer(start, b"", status=405)
        handler: Handler = environ["contract.handler"]
        return handler(environ, start)


def build(setup: ContractSetup) -> TurnpikeMiddleware:
    service = Service(setup)
    identify = setup.identify

    def identify_environ(environ: Environ) -> Any:
        assert identify is not None
        return identify(environ.get("HTTP_X_CONTRACT_SESSION"))

    return TurnpikeMiddleware(
        service,
        gateway=setup.gateway,
        gate=setup.gate,
        identify=identify_environ if identify is not None else None,
        routes=service.find,
    )


STACKS = (
    Stack(name="wsgi", kind="wsgi", build=build, lacks={Feature.BACKGROUND: "nothing runs after a WSGI response"}),
)
