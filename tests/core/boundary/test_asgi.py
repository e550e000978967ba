"""The ASGI middleware: headers on any response, and an end for every stream, whatever way the request goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from turnpike.boundary.admission import Admission
from turnpike.boundary.asgi import RequestScopeMiddleware, request_scope, send_problem
from turnpike.boundary.problem import Problem
from turnpike.boundary.scope import RequestScope
from turnpike.context import LLMRequestContext, bind, current_binding
from turnpike.errors import ConfigurationError

pytestmark = pytest.mark.anyio

QUOTA = {"RateLimit-Policy": '"default";q=3;w=60', "RateLimit": '"default";r=2;t=60'}
App = Callable[[Any, Any, Any], Awaitable[None]]


class FakeStream:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def finish(self, reason: str, /) -> None:
        self.reasons.append(reason)


class Exchange:
    """One request, with a client that may leave before a given message."""

    def __init__(self, leaves_at: int | None = None) -> None:
        self.scope: dict[str, Any] = {"type": "http"}
        self.sent: list[Any] = []
        self.stream = FakeStream()
        self.leaves_at = leaves_at

    async def receive(self) -> Any:
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if len(self.sent) == self.leaves_at:
            raise OSError("gone")
        self.sent.append(message)

    async def run(self, app: App) -> None:
        async def opening(scope: Any, receive: Any, send: Any) -> None:
            own = request_scope(scope)
            own.admission = Admission(None, LLMRequestContext(), "/", QUOTA)
            own.add(self.stream)
            await app(scope, receive, send)

        await RequestScopeMiddleware(opening)(self.scope, self.receive, self.send)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.sent[0]["headers"])


async def start(send: Any, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def piece(send: Any, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": b"x", "more_body": more})


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    await start(send, [(b"content-type", b"text/plain")])
    await piece(send, more=True)
    await piece(send, more=False)


async def test_the_quota_is_announced_on_the_responses_own_message() -> None:
    exchange = Exchange()
    await exchange.run(answer)
    assert exchange.headers == [
        (b"content-type", b"text/plain"),
        (b"ratelimit-policy", b'"default";q=3;w=60'),
        (b"ratelimit", b'"default";r=2;t=60'),
    ]
    assert [message["type"] for message in exchange.sent] == ["http.response.start"] + 2 * ["http.response.body"]


async def test_a_header_that_the_application_sets_itself_stands() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send, [(b"RateLimit", b"own")])

    exchange = Exchange()
    await exchange.run(app)
    assert [value for name, value in exchange.headers if name.lower() == b"ratelimit"] == [b"own"]


async def test_a_request_that_was_not_admitted_is_passed_on_untouched() -> None:
    exchange = Exchange()
    await RequestScopeMiddleware(answer)(exchange.scope, exchange.receive, exchange.send)
    assert exchange.headers == [(b"content-type", b"text/plain")]


async def test_a_stream_left_over_by_a_complete_response_is_abandoned() -> None:
    exchange = Exchange()
    await exchange.run(answer)
    assert exchange.stream.reasons == ["abandoned"]


async def test_a_client_that_leaves_while_its_response_is_sent_has_disconnected() -> None:
    exchange = Exchange(leaves_at=2)
    with pytest.raises(OSError, match="gone"):
        await exchange.run(answer)
    assert exchange.stream.reasons == ["client_disconnected"]


async def test_a_response_that_just_stops_is_a_client_that_disconnected() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, more=True)
        await receive()

    exchange = Exchange()
    await exchange.run(app)
    assert exchange.stream.reasons == ["client_disconnected"]


async def test_a_stream_that_is_cancelled_because_its_client_left_can_tell_why() -> None:
    known: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        known.append(request_scope(scope).end_reason)
        await start(send)
        await receive()
        known.append(request_scope(scope).end_reason)

    await Exchange().run(app)
    assert known == [None, "client_disconnected"]


async def test_a_request_that_fails_because_its_client_left_was_disconnected() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await receive()
        raise RuntimeError("ClientDisconnect")

    exchange = Exchange()
    with pytest.raises(RuntimeError):
        await exchange.run(app)
    assert exchange.stream.reasons == ["client_disconnected"]


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError("x")])
async def test_an_application_that_raises_has_failed(error: Exception) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise error

    exchange = Exchange()
    with pytest.raises(type(error)):
        await exchange.run(app)
    assert exchange.stream.reasons == ["request_failed"]


async def test_a_server_that_cancels_the_request_finishes_its_streams() -> None:
    started = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send)
        started.set()
        await asyncio.Event().wait()

    exchange = Exchange()
    task = asyncio.create_task(exchange.run(app))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert exchange.stream.reasons == ["client_disconnected"]


async def test_whatever_the_application_leaves_bound_ends_with_the_request() -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        outer = bind(tenant_id="forgotten")
        outer.__enter__()
        request_scope(scope).begin(Admission(None, LLMRequestContext(caller_id="web"), "/", QUOTA))
        outer.__exit__(None, None, None)
        await answer(scope, _receive, send)

    await Exchange().run(app)
    assert current_binding() is None


async def test_a_request_takes_neither_identity_nor_scope_from_what_is_bound_around_it() -> None:
    around = RequestScope()
    around.begin(Admission(None, LLMRequestContext(tenant_id="acme"), "/outer", QUOTA))
    seen: list[Any] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(current_binding())

    await Exchange().run(app)
    around.finish("abandoned")
    assert seen == [None]


async def test_a_mounted_application_shares_the_outer_requests_scope() -> None:
    exchange = Exchange()
    await exchange.run(RequestScopeMiddleware(answer))
    assert len(exchange.headers) == 3
    assert exchange.stream.reasons == ["abandoned"]


async def test_other_connections_are_passed_through() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    exchange = Exchange()
    scope = {"type": "lifespan"}
    await RequestScopeMiddleware(app)(scope, exchange.receive, exchange.send)
    assert seen == [({"type": "lifespan"}, exchange.receive, exchange.send)]


def test_a_request_outside_the_middleware_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"did not come through .*\.RequestScopeMiddleware"):
        request_scope({"type": "http"})


# -------------------------------------------------------------------------------------------------- WebSockets


def socket() -> Exchange:
    exchange = Exchange()
    exchange.scope = {"type": "websocket"}
    return exchange


async def test_the_quota_is_announced_in_a_websockets_handshake() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hi"})
        await send({"type": "websocket.close"})

    exchange = socket()
    await exchange.run(app)
    assert [name for name, _ in exchange.headers] == [b"ratelimit-policy", b"ratelimit"]
    assert "headers" not in exchange.sent[1]
    assert exchange.stream.reasons == ["abandoned"]


async def test_a_websocket_whose_client_leaves_finishes_its_streams() -> None:
    exchange = socket()

    async def receive() -> Any:
        return {"type": "websocket.disconnect", "code": 1001}

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()

    exchange.receive = receive  # type: ignore[method-assign]
    await exchange.run(app)
    assert exchange.stream.reasons == ["client_disconnected"]


PROBLEM = Problem(401, "Unauthorized", "No key.", headers={"WWW-Authenticate": "ApiKey"})


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        ({"type": "http"}, "http.response"),
        ({"type": "websocket", "extensions": {"websocket.http.response": {}}}, "websocket.http.response"),
    ],
)
async def test_a_refusal_is_the_same_response_in_place_of_a_websockets_handshake(
    scope: dict[str, Any], kind: str
) -> None:
    exchange = Exchange()
    await send_problem(PROBLEM, scope, exchange.send)
    begun, body = exchange.sent
    assert (begun["type"], begun["status"], body["type"]) == (f"{kind}.start", 401, f"{kind}.body")
    assert dict(begun["headers"])[b"www-authenticate"] == b"ApiKey"
    assert dict(begun["headers"])[b"content-length"] == str(len(PROBLEM.body)).encode()
    assert (body["body"], body["more_body"]) == (PROBLEM.body, False)


@pytest.mark.parametrize("scope", [{"type": "websocket"}, {"type": "websocket", "extensions": None}])
async def test_a_websocket_is_closed_where_no_response_can_take_the_handshakes_place(scope: dict[str, Any]) -> None:
    exchange = Exchange()
    await send_problem(PROBLEM, scope, exchange.send)
    assert exchange.sent == [{"type": "websocket.close", "code": 1008, "reason": "Unauthorized"}]
