"""Flask with ``turnpike_flask``, once with plain views and once with ``async def`` views."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response, copy_current_request_context, current_app, jsonify, stream_with_context

from turnpike.testing.contract import OWN_HEADER, SESSION_HEADER, STREAM_MEDIA_TYPE, Call, ContractSetup, Route, Stack
from turnpike_flask import Turnpike, context, exempt, gateway, limit, requires

View = Callable[..., Any]


def _call(number: int | None) -> Call:
    return Call(gateway, context, number)


def _answer(route: Route, call: Call, answer: dict[str, Any]) -> Response:
    response = jsonify(answer)
    if route.kind == "response":
        response.status_code = 201
        response.headers[OWN_HEADER[0]] = OWN_HEADER[1]
    if route.kind == "background":
        response.call_on_close(copy_current_request_context(lambda: route.afterwards_sync(call)))
    return response


def _plain_view(route: Route) -> View:
    def as_json(number: int | None = None) -> Response:
        call = _call(number)
        return _answer(route, call, route.answer_sync(call))

    def as_stream() -> Response:
        return Response(stream_with_context(route.body_sync(_call(None))), mimetype=STREAM_MEDIA_TYPE)

    return as_stream if route.kind == "stream" else as_json


def _async_view(route: Route) -> View:
    async def as_json(number: int | None = None) -> Response:
        call = _call(number)
        return _answer(route, call, await route.answer(call))

    async def as_stream() -> Response:
        # The server reads a Flask response without an event loop, so the stream is opened without one as well; and without
        # the proxy, because stream_with_context fails in async views of older Flask releases.
        call = Call(current_app.extensions["turnpike"].gateway, context)
        return Response(await asyncio.to_thread(route.body_sync, call), mimetype=STREAM_MEDIA_TYPE)

    return as_stream if route.kind == "stream" else as_json


def _build(setup: ContractSetup, view_of: Callable[[Route], View]) -> Flask:
    app = Flask("contract")
    for route in setup.routes:
        if route.kind != "websocket":
            view = route.mark(view_of(route), exempt=exempt, limit=limit, requires=requires)
            path = route.path.replace("{number}", "<int:number>")
            app.add_url_rule(path, route.name, view, methods=[route.method])
    identify = setup.identify

    def identify_request(request: Request) -> Any:
        assert identify is not None
        return identify(request.headers.get(SESSION_HEADER))

    Turnpike(app, gateway=setup.gateway, gate=setup.gate, identify=identify_request if identify is not None else None)
    return app


def _stack(name: str, view_of: Callable[[Route], View]) -> Stack:
    templates = {"/call/{number}": "/call/<int:number>"}
    return Stack(name=name, kind="wsgi", build=lambda setup: _build(setup, view_of), templates=templates)


STACKS = (_stack("flask-sync", _plain_view), _stack("flask-async", _async_view))
