"""What the tests of the FastAPI adapter share: a gateway that only notes who called it, and two tenants."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from turnpike.boundary.admission import Gate
from turnpike.context import Binding, current_binding
from turnpike.settings import Settings
from turnpike_fastapi import install

KEYS = [
    {"key": "k-acme", "tenant": "acme", "caller": "web", "scopes": ["llm:call", "reports:read"]},
    {"key": "k-beta", "tenant": "beta"},
]
ACME = {"X-API-Key": "k-acme"}
BETA = {"X-API-Key": "k-beta"}


class FakeStream:
    """A stream of two pieces that remembers how it ended."""

    def __init__(self, tenant: str | None) -> None:
        self.tenant = tenant
        self.reasons: list[str] = []
        self.left = 2

    def finish(self, reason: str, /) -> None:
        self.reasons.append(reason)

    def piece(self) -> str:
        self.left -= 1
        return f"{self.tenant} "

    def text(self) -> FakeStream:
        return self

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> str:
        if not self.left:
            raise StopAsyncIteration
        return self.piece()


class FakeGateway:
    """Notes the binding under which each call is made, as the gateway itself would read it."""

    def __init__(self) -> None:
        self.settings = Settings.from_dict({"api_keys": KEYS})
        self.bindings: list[Binding | None] = []
        self.streams: list[FakeStream] = []
        self.closed = 0

    def call_sync(self, _prompt: str = "") -> str:
        binding = current_binding()
        self.bindings.append(binding)
        return "nobody" if binding is None else str(binding.context.tenant_id)

    async def call(self, _prompt: str = "") -> str:
        await asyncio.sleep(0)
        return self.call_sync()

    def stream(self, _prompt: str) -> FakeStream:
        stream = FakeStream(self.call_sync())
        self.streams.append(stream)
        binding = self.bindings[-1]
        if binding is not None and binding.streams is not None:
            binding.streams.add(stream)
        return stream

    stream_sync = stream

    async def aclose(self) -> None:
        self.closed += 1

    @property
    def route(self) -> str | None:
        binding = self.bindings[-1]
        return None if binding is None else binding.route


def app_with(gateway: FakeGateway, **settings: Any) -> FastAPI:
    """Return an application in which Turnpike is installed."""
    app = FastAPI()
    install(app, gateway=gateway, gate=gate_of(**settings))  # type: ignore[arg-type]
    return app


def gate_of(**settings: Any) -> Gate:
    return Gate(Settings.from_dict({"api_keys": KEYS, **settings}))


def client_of(app: FastAPI, headers: dict[str, str] = ACME, *, raises: bool = True) -> TestClient:
    return TestClient(app, headers=headers, raise_server_exceptions=raises)


async def raw_request(
    app: FastAPI, path: str, headers: list[tuple[bytes, bytes]], leaves_after: int | None = None
) -> list[Any]:
    """Send a request as a server would; the client leaves once it has had ``leaves_after`` messages."""
    sent: list[Any] = []
    left = asyncio.Event()

    async def receive() -> Any:
        if leaves_after is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == leaves_after:
            left.set()
        await asyncio.sleep(0)

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    return sent
