"""Every stack under every server that its users run it on: hostile headers, reused connections, clients that leave."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest

from .serving import ASGI_SERVERS, WSGI_SERVERS, Running, Server, ask, is_installed, ledger_of, serving

ASGI_STACKS = {
    "asgi": "turnpike",
    "fastapi-async": "fastapi",
    "litestar-async": "litestar",
    "django-asgi-async": "django",
}
WSGI_STACKS = {"wsgi": "turnpike", "flask-sync": "flask", "django-wsgi-sync": "django"}
PAIRS = [
    *itertools.product(ASGI_STACKS, ASGI_SERVERS),
    *itertools.product(WSGI_STACKS, WSGI_SERVERS),
]
KEY = b"X-API-Key: "
GOOD = KEY + b"k-0"

HOSTILE = {
    "no key": b"",
    "an unknown key": KEY + b"k-nobody",
    "an empty key": KEY,
    "two keys, the good one first": GOOD + b"\r\n" + KEY + b"k-evil",
    "two keys, the good one last": KEY + b"k-evil\r\n" + GOOD,
    "the good key twice": GOOD + b"\r\n" + GOOD,
    "two keys in one line": GOOD + b",k-evil",
    "a name with an underscore": b"X_API_Key: k-0",
    "a space before the colon": b"X-API-Key : k-0",
    "bytes beyond ASCII": KEY + b"k-\xe9",
    "UTF-8": KEY + "k-é".encode(),
    "a NUL": KEY + b"k-0\x00",
    "a control character": KEY + b"k-0\x07",
    "a tab within": KEY + b"k\t-0",
    "a bare line feed before another header": KEY + b"k-evil\nX-Tenant-Id: tenant-1",
    "a bare carriage return": KEY + b"k-0\rk-1",
    "a folded line": KEY + b"k-0\r\n k-1",
    "9 kB": KEY + b"k" * 9_000,
    "70 kB": KEY + b"k" * 70_000,
    "a percent-encoded key": KEY + b"k%2D0",
    "the key in another header": b"Authorization: k-0\r\nCookie: X-API-Key=k-0",
    "a tenant of one's own": b"X-Tenant-Id: tenant-0\r\nX-Turnpike-Tenant: tenant-0\r\nBaggage: tenant_id=tenant-0",
}
REFUSED = {400, 401, 403, 431}
"""403 is what granian and some others answer to a request that they cannot parse; 431 says that a header is too large."""


@pytest.fixture(params=PAIRS, ids=[f"{stack} on {server.name}" for stack, server in PAIRS], scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    stack, server = request.param
    _skip_unless_installed(stack, server)
    folder = tmp_path_factory.mktemp("service")
    with serving(server, stack, folder, TURNPIKE_TEST_PIECES="40", TURNPIKE_TEST_PAUSE_S="0.01") as running:
        yield running, folder


def _skip_unless_installed(stack: str, server: Server) -> None:
    framework = {**ASGI_STACKS, **WSGI_STACKS}[stack]
    pytest.importorskip(framework, reason=f"needs {framework}: install turnpike[{framework}]")
    if not is_installed(server):
        pytest.skip(f"needs {server.module}: install the dependency group 'servers'")


def call(*lines: bytes, path: bytes = b"/call/7", method: bytes = b"POST") -> bytes:
    head = [method + b" " + path + b" HTTP/1.1", b"Host: service", b"Content-Length: 0", *filter(None, lines)]
    return b"\r\n".join([*head, b"Connection: close", b"", b""])


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def body_of(answer: bytes) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = _unchunked(body)
    return body


def _unchunked(body: bytes) -> bytes:
    pieces = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        pieces, body = pieces + body[:length], body[length + 2 :]
    return pieces


def lines_of(folder: Path) -> list[dict[str, Any]]:
    path = ledger_of(folder)
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_a_good_key_is_its_tenant_whatever_else_is_sent(service: tuple[Running, Path]) -> None:
    running, _ = service
    spoofed = (b"X-Tenant-Id: tenant-1", b"X-Turnpike-Tenant: tenant-1", b"Baggage: tenant_id=tenant-1")
    answer = ask(running.port, call(GOOD, *spoofed))
    assert status_of(answer) == 200, running.tail()
    assert json.loads(body_of(answer))["tenant"] == "tenant-0"
    assert b"ratelimit: " in answer.lower()


def test_no_hostile_header_gets_in_or_breaks_anything(service: tuple[Running, Path]) -> None:
    running, folder = service
    before = len(lines_of(folder))
    outcomes = {what: status_of(ask(running.port, call(lines))) for what, lines in HOSTILE.items()}
    # A connection that the server closes without a word is a refusal too.
    assert {what: status for what, status in outcomes.items() if status not in REFUSED | {0}} == {}
    assert len(lines_of(folder)) == before, "a refused request has called a provider"
    assert status_of(ask(running.port, call(GOOD))) == 200, "the server does not serve any more"


def test_a_connection_that_is_used_again_carries_nothing_over(service: tuple[Running, Path]) -> None:
    running, _ = service
    with Client(running.port) as client:
        for _ in range(3):
            assert client.get("/open", None)["bound"] == "nobody"
            assert client.post("/call/1", "k-0")["tenant"] == "tenant-0"
            assert client.get("/open", None)["bound"] == "nobody"
            assert client.post("/call/2", "k-1")["tenant"] == "tenant-1"


def test_a_client_that_leaves_ends_the_call_that_it_was_reading(service: tuple[Running, Path]) -> None:
    running, folder = service
    before = {line["request_id"] for line in lines_of(folder)}
    with closing(socket.create_connection(("127.0.0.1", running.port), 10.0)) as connection:
        connection.sendall(call(GOOD, path=b"/stream"))
        received = b""
        while b"data:" not in received:
            received += connection.recv(4096)
    added = _wait_for_lines(folder, before)
    assert [(line["tenant_id"], line["finish_reason"], line["streaming"]) for line in added] == [
        ("tenant-0", "client_disconnected", True)
    ]


def _wait_for_lines(folder: Path, before: set[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        if added := [line for line in lines_of(folder) if line["request_id"] not in before]:
            return added
        time.sleep(0.02)  # another process is at work: there is nothing to be told by
    raise AssertionError("the call of a client that has left was not recorded")


class Client:
    """A keep-alive connection. Servers that close it anyway get a new one."""

    def __init__(self, port: int) -> None:
        import http.client

        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, key: str | None) -> Any:
        return self._ask("GET", path, key)

    def post(self, path: str, key: str | None) -> Any:
        return self._ask("POST", path, key)

    def _ask(self, method: str, path: str, key: str | None) -> Any:
        headers = {"Content-Length": "0", **({"X-API-Key": key} if key is not None else {})}
        self._connection.request(method, path, headers=headers)
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return json.loads(body)
