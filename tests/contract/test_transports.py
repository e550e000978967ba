"""The ways to reach an application, and the whole contract behind real servers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from turnpike.context import bind, current_binding
from turnpike.testing.contract import Stack, cases, check_stacks, format_failures, load_stacks
from turnpike.testing.contract.transports import ASGITransport, SocketTransport, Transport, WSGITransport
from turnpike.testing.contract.transports.interface import Leaving

_STACKS = Path(__file__).parent / "stacks"
LINES = [(b"X-Key", b"one"), (b"x-key", b"two\n\xff"), (b"X_Key", b"three")]


# ------------------------------------------------------------------------------------------------------ in process


class Seen:
    """An ASGI application that notes what it is told."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.received: list[str] = []
        self.refused_to_send = False
        self.was_cancelled = False
        self.may_end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        self.scopes.append(scope)
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            # The client may leave as soon as it has this.
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            self.received.append((await receive())["type"])
            await send({"type": "http.response.body", "body": b"second", "more_body": True})
        except OSError:
            self.refused_to_send = True
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


@contextmanager
def asgi(app: Any) -> Iterator[ASGITransport]:
    transport = ASGITransport(app, timeout_s=5)
    try:
        yield transport
    finally:
        transport.close()


@pytest.mark.parametrize(
    ("leaving", "received", "refused", "cancelled"),
    [
        ("told", ["http.disconnect"], False, False),
        ("refused", ["http.disconnect"], True, False),
        ("cancelled", [], False, True),
    ],
)
def test_an_asgi_application_learns_in_three_ways_that_its_client_has_left(
    leaving: Leaving, received: list[str], refused: bool, cancelled: bool
) -> None:
    app = Seen()
    with asgi(app) as transport, transport.stream("GET", "/", leaving=leaving) as streamed:
        assert streamed.read() == b"first"
        streamed.leave()
        assert streamed.result().body == b"first"
        assert not streamed.result().is_complete
    assert (app.received, app.refused_to_send, app.was_cancelled) == (received, refused, cancelled)


def test_asgi_header_lines_arrive_as_they_are() -> None:
    app = Seen()
    with asgi(app) as transport, transport.stream("GET", "/a%20b?c=d", LINES) as streamed:
        streamed.read()
    [scope] = app.scopes
    assert [pair for pair in scope["headers"] if b"key" in pair[0]] == [(name.lower(), value) for name, value in LINES]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")


def test_an_asgi_application_that_raises_or_says_nothing_is_a_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/raise":
            raise ZeroDivisionError

    with asgi(app) as transport:
        raised, silent = transport.request("GET", "/raise"), transport.request("GET", "/")
    assert (raised.status, type(raised.error)) == (500, ZeroDivisionError)
    assert (silent.status, str(silent.error)) == (500, "the application has returned without a response")


def test_a_task_that_outlives_everything_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["state"]["task"] = asyncio.create_task(asyncio.Event().wait())

    transport = ASGITransport(app, timeout_s=0.2)
    transport.request("GET", "/")
    with pytest.raises(AssertionError, match="1 tasks still run"):
        transport.close()


def _say_what_was_bound(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    binding = current_binding()
    bind(tenant_id="left behind").__enter__() if environ["PATH_INFO"] == "/leave" else None
    start_response("200 OK", [("X-Keys", environ.get("HTTP_X_KEY", ""))])
    return [str(binding and binding.context.tenant_id).encode()]


def test_wsgi_header_lines_are_joined_as_servers_do() -> None:
    response = WSGITransport(_say_what_was_bound).request("GET", "/", LINES)
    assert response.values("x-keys") == ["one,two\n\xff"]


def test_a_connection_is_one_thread_or_task_and_each_request_else_is_its_own() -> None:
    with bind(tenant_id="the test's"):
        transport = WSGITransport(_say_what_was_bound)
        with transport.connection(around=bind(tenant_id="around")) as connection:
            assert connection.request("GET", "/").body == b"around"
            bound = connection.bound()
            assert bound is not None
            assert bound.context.tenant_id == "around"
        assert transport.request("GET", "/").body == b"None"


def test_a_wsgi_body_is_asked_for_piece_by_piece_and_closed() -> None:
    done: list[str] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            for number in range(3):
                done.append(str(number))
                yield b"x"
        finally:
            done.append("closed")

    with WSGITransport(app).stream("GET", "/") as streamed:
        assert (streamed.read(), done) == (b"x", ["0"])
        streamed.leave()
        assert not streamed.result().is_complete
    assert done == ["0", "closed"]


# ---------------------------------------------------------------------------------------------- behind real servers


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def wsgiref(_: Stack, app: Any) -> Iterator[Transport]:
    """The standard library's server, with a thread for each request."""
    with make_server("127.0.0.1", 0, app, _Server, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield SocketTransport(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def uvicorn(_: Stack, app: Any) -> Iterator[Transport]:
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(app, log_level="critical", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    assert started.wait(10)
    try:
        yield SocketTransport(f"http://127.0.0.1:{listening.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()


def _keeps_the_contract(
    name: str, serve: Callable[[Stack, Any], AbstractContextManager[Transport]], *, but: tuple[str, ...] = ()
) -> int:
    chosen = [made for made in cases() if not made.id.startswith(but) and made.is_ordinary]
    cells = check_stacks(load_stacks(str(_STACKS / name)), only=chosen, serve=serve)
    assert not [cell for cell in cells if cell.outcome == "FAIL"], format_failures(cells)
    return sum(cell.outcome == "pass" for cell in cells)


def test_the_contract_holds_for_wsgi_behind_the_standard_librarys_server() -> None:
    # It takes underscores for dashes and CR for a line's end, so what the application sees is another request.
    assert _keeps_the_contract("wsgi_stack.py", wsgiref, but=("hostile_headers",)) > 100


def test_the_contract_holds_for_asgi_behind_uvicorn_websockets_included() -> None:
    pytest.importorskip("uvicorn", reason="needs uvicorn: install turnpike[demo]")
    pytest.importorskip("websockets", reason="needs websockets: install websockets")
    passed = _keeps_the_contract("asgi_stack.py", uvicorn)
    assert passed == sum(made.is_ordinary and not made.needs_process for made in cases())
