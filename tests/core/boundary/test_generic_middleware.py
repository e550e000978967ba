"""`turnpike.asgi` and `turnpike.wsgi`: the boundary around applications of any framework, or of none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from turnpike import asgi, wsgi
from turnpike.boundary.keys import Principal
from turnpike.boundary.rules import RouteRule, exempt, limit
from turnpike.boundary.starlette_routes import find_route
from turnpike.context import current_binding
from turnpike.errors import InvalidRequestError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings

KEYS = [{"key": "k-acme", "tenant": "acme", "caller": "web"}]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(Settings.from_dict({"api_keys": KEYS, "telemetry_path": str(tmp_path / "l.jsonl")}))


def seen() -> bytes:
    binding = current_binding()
    assert binding is not None
    return json.dumps([binding.context.tenant_id, binding.context.caller_id, binding.route]).encode()


# ------------------------------------------------------------------------------------------------------------------- WSGI


def wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/wrong":
        raise InvalidRequestError("max_tokens must be positive")
    if environ["PATH_INFO"] == "/broken":
        raise ZeroDivisionError
    start_response("200 OK", [("Content-Type", "application/json")])
    return [seen()]


def get(app: Any, path: str, method: str = "GET", **headers: str) -> tuple[str, dict[str, str], bytes]:
    started: list[Any] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        **{f"HTTP_{name}": value for name, value in headers.items()},
    }
    body = b"".join(app(environ, lambda status, head, exc_info=None: started.append((status, dict(head)))))
    return *started[0], body


def test_a_wsgi_application_knows_who_asks_and_on_which_route(gateway: Gateway) -> None:
    app = wsgi.TurnpikeMiddleware(wsgi_app, gateway=gateway, routes=["/chat/{id}"])
    status, headers, body = get(app, "/chat/7", X_API_KEY="k-acme")
    assert (status, json.loads(body)) == ("200 OK", ["acme", "web", "/chat/{id}"])
    assert headers["RateLimit"] == '"default";r=59;t=60'
    assert json.loads(get(app, "/else", X_API_KEY="k-acme")[2])[2] == "unmatched"
    assert app.gateway is gateway


def test_refusals_and_errors_of_a_wsgi_application_are_problems(gateway: Gateway) -> None:
    app = wsgi.TurnpikeMiddleware(wsgi_app, gateway=gateway)
    status, headers, body = get(app, "/chat/7")
    assert status == "401 Unauthorized"
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Content-Length"] == str(len(body))
    status, headers, body = get(app, "/wrong", X_API_KEY="k-acme")
    assert status == "400 Bad Request"
    assert json.loads(body)["detail"] == "max_tokens must be positive"
    assert headers["RateLimit"] == '"default";r=59;t=60'
    with pytest.raises(ZeroDivisionError):
        get(app, "/broken", X_API_KEY="k-acme")


def test_a_function_may_tell_a_wsgi_route_and_identify_may_tell_who_asks(gateway: Gateway) -> None:
    def route_of(environ: dict[str, Any]) -> wsgi.Route:
        return wsgi.Route(environ["PATH_INFO"].upper(), RouteRule(exempt=environ["PATH_INFO"] == "/open"))

    app = wsgi.TurnpikeMiddleware(
        wsgi_app,
        gateway=gateway,
        routes=route_of,
        identify=lambda environ: Principal(tenant=environ["HTTP_X_USER"]) if "HTTP_X_USER" in environ else None,
    )
    assert json.loads(get(app, "/a", X_USER="ann")[2]) == ["ann", None, "/A"]
    assert json.loads(get(app, "/a", X_API_KEY="k-acme")[2]) == ["acme", "web", "/A"]
    assert json.loads(get(app, "/open")[2]) == [None, None, "/OPEN"]


def test_a_path_in_utf_8_is_matched_as_text(gateway: Gateway) -> None:
    app = wsgi.TurnpikeMiddleware(wsgi_app, gateway=gateway, routes=["/straße/{nr}"])
    path = "/straße/7".encode().decode("latin-1")
    assert json.loads(get(app, path, X_API_KEY="k-acme")[2])[2] == "/straße/{nr}"


# ------------------------------------------------------------------------------------------------------------------- ASGI


class Exchange:
    """One connection to an ASGI application."""

    def __init__(self, path: str, *headers: tuple[bytes, bytes], kind: str = "http", **more: Any) -> None:
        self.scope = {"type": kind, "path": path, "headers": list(headers), "method": "GET", **more}
        self.sent: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def run(self, app: Any) -> Exchange:
        await app(self.scope, self.receive, self.send)
        return self

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


ACME = (b"x-api-key", b"k-acme")


async def asgi_app(scope: Any, _receive: Any, send: Any) -> None:
    if scope["path"] == "/wrong":
        raise InvalidRequestError("max_tokens must be positive")
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": seen()})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": seen()})
    if scope["path"] == "/late":
        raise InvalidRequestError("too late for a problem")


@pytest.mark.anyio
async def test_an_asgi_application_knows_who_asks_and_on_which_route(gateway: Gateway) -> None:
    app = asgi.TurnpikeMiddleware(asgi_app, gateway=gateway, routes=["/chat/{id}"])
    exchange = await Exchange("/chat/7", ACME).run(app)
    assert json.loads(exchange.sent[1]["body"]) == ["acme", "web", "/chat/{id}"]
    assert exchange.headers[b"ratelimit"] == b'"default";r=59;t=60'
    mounted = await Exchange("/api/chat/7", ACME, root_path="/api").run(app)
    assert json.loads(mounted.sent[1]["body"])[2] == "/chat/{id}"
    assert current_binding() is None


@pytest.mark.anyio
async def test_refusals_and_errors_of_an_asgi_application_are_problems(gateway: Gateway) -> None:
    app = asgi.TurnpikeMiddleware(asgi_app, gateway=gateway)
    refused = await Exchange("/chat/7").run(app)
    assert refused.sent[0]["status"] == 401
    assert refused.headers[b"content-type"] == b"application/problem+json"
    assert refused.headers[b"content-length"] == str(len(refused.sent[1]["body"])).encode()
    wrong = await Exchange("/wrong", ACME).run(app)
    assert wrong.sent[0]["status"] == 400
    assert wrong.headers[b"ratelimit"] == b'"default";r=59;t=60'
    late = Exchange("/late", ACME)
    with pytest.raises(InvalidRequestError):
        await late.run(app)
    assert late.sent[0]["status"] == 200


@pytest.mark.anyio
async def test_a_websocket_is_admitted_and_knows_who_asks(gateway: Gateway) -> None:
    app = asgi.TurnpikeMiddleware(asgi_app, gateway=gateway, routes=["/ws"])
    exchange = await Exchange("/ws", ACME, kind="websocket").run(app)
    assert exchange.sent[0]["type"] == "websocket.accept"
    assert exchange.headers[b"ratelimit"] == b'"default";r=59;t=60'
    assert json.loads(exchange.sent[1]["bytes"]) == ["acme", "web", "/ws"]


@pytest.mark.anyio
async def test_a_websocket_is_refused_with_a_problem_where_the_server_can_send_one(gateway: Gateway) -> None:
    app = asgi.TurnpikeMiddleware(asgi_app, gateway=gateway)
    plain = await Exchange("/ws", kind="websocket").run(app)
    assert plain.sent == [{"type": "websocket.close", "code": 1008, "reason": "Unauthorized"}]
    able = await Exchange("/ws", kind="websocket", extensions={"websocket.http.response": {}}).run(app)
    assert [message["type"] for message in able.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert able.sent[0]["status"] == 401


@pytest.mark.anyio
async def test_the_gateway_that_the_middleware_made_is_closed_when_the_application_has_shut_down(
    tmp_path: Path,
) -> None:
    order: list[str] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        order.append("application")
        await send({"type": "lifespan.shutdown.complete"})

    settings = Settings.from_dict({"telemetry_path": str(tmp_path / "l.jsonl")})
    for own in (None, Gateway(settings)):
        middleware = asgi.TurnpikeMiddleware(app, settings if own is None else None, gateway=own)

        async def aclose() -> None:
            order.append("gateway")

        middleware.gateway.aclose = aclose  # type: ignore[method-assign]
        await Exchange("", kind="lifespan").run(middleware)
    assert order == ["application", "gateway", "application"]


# --------------------------------------------------------------------------------------------------------- Starlette routes


class Match:
    def __init__(self, value: int) -> None:
        self.value = value


class FakeRoute:
    """What Starlette's routes offer."""

    def __init__(self, path: str, value: int = 2, endpoint: Any = None, routes: Any = None) -> None:
        self.path, self.value, self.endpoint = path, value, endpoint
        if routes is not None:
            self.routes = routes

    def matches(self, _scope: Any) -> tuple[Match, dict[str, Any]]:
        return Match(self.value), {}


def test_the_first_route_that_matches_fully_counts_with_its_mounts_and_its_rule() -> None:
    @limit("chat")
    @exempt
    def endpoint() -> None: ...

    inner = FakeRoute("/{id}", endpoint=endpoint)
    routes = [FakeRoute("/a", 0), FakeRoute("/b", 1), FakeRoute("/chat", routes=[inner]), FakeRoute("/c")]
    assert find_route(routes, {}) == ("/chat/{id}", RouteRule(exempt=True, limits=("chat",)))
    assert find_route(routes[:2], {}) == ("/b", RouteRule())
    assert find_route(routes[:1], {}) is None


def test_a_router_that_is_included_lazily_stands_for_its_routes() -> None:
    class Included(FakeRoute):
        def effective_route_contexts(self) -> list[Any]:
            return [Effective(FakeRoute("/chat/{n}", endpoint=endpoint)), Effective(FakeRoute("/other", 0))]

    class Effective:
        def __init__(self, route: FakeRoute) -> None:
            self.starlette_route = route

    @limit("chat")
    def endpoint() -> None: ...

    assert find_route([Included("")], {}) == ("/chat/{n}", RouteRule(limits=("chat",)))
