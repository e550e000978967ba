"""What the Litestar tests work with: a real gateway over a provider that answers with the name of whoever asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

from litestar import Litestar
from litestar.testing import TestClient

from turnpike.boundary.admission import Gate
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike.testing.fake_provider import FakeAnswer, FakeProvider, FakeRequest
from turnpike_litestar import DepGateway, TurnpikePlugin

# As NamedDependency[str] is written where Litestar has that.
Dependency = Annotated[str, get_args(DepGateway)[1]]
ACME, BETA, AUDITOR = ({"X-API-Key": f"k-{name}"} for name in ("acme", "beta", "auditor"))

KEYS = [
    {"key": "k-acme", "tenant": "acme", "caller": "web"},
    {"key": "k-beta", "tenant": "beta"},
    {"key": "k-auditor", "tenant": "acme", "caller": "auditor", "scopes": ["reports:read"]},
]


def whoever_asks(request: FakeRequest) -> FakeAnswer:
    return FakeAnswer(chunks=(f"{request.context.tenant_id} ", "said so"))


class StoppedClock:
    def monotonic(self) -> float:
        return 1_000.0

    def time(self) -> float:
        return 1_700_000_000.0


class Bench:
    """A gateway, its provider and its ledger."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "telemetry.jsonl"
        self.settings: dict[str, Any] = {
            "api_keys": KEYS,
            "providers": {"openai": {}},
            "tiers": {"cheap": "gpt-4o-mini"},
            "limits": {"chat": "2/minute"},
            "telemetry_path": str(self.ledger),
        }
        self.provider = FakeProvider(whoever_asks)
        self.gateway = Gateway(self.settings)
        self.gateway.register_provider("openai", self.provider)

    def app(self, *handlers: Any, plugin: TurnpikePlugin | None = None, **options: Any) -> Litestar:
        """An application with the plugin, whose own middleware, guards and so on are ``options``."""
        return Litestar(list(handlers), plugins=[plugin or self.plugin()], **options)

    def plugin(
        self, settings: dict[str, Any] | None = None, *, identify: Callable[[Any], Any] | None = None
    ) -> TurnpikePlugin:
        """A plugin over this gateway, for which no time passes; ``settings`` are laid over those of the bench."""
        gate = Gate(
            Settings.from_dict({**self.settings, **(settings or {})}),
            clock=StoppedClock(),
            has_other_identities=identify is not None,
        )
        return TurnpikePlugin(gateway=self.gateway, gate=gate, identify=identify)

    def calls(self) -> list[dict[str, Any]]:
        """The lines of the ledger, those that still waited to be written included."""
        self.gateway.close()
        return [json.loads(line) for line in self.ledger.read_text("utf-8").splitlines()]

    @property
    def callers(self) -> list[tuple[str | None, str | None]]:
        """Tenant and route of each request that has reached the provider."""
        return [(request.context.tenant_id, request.route) for request in self.provider.requests]


def client_of(app: Any, headers: dict[str, str] = ACME, *, raises: bool = True, root_path: str = "") -> TestClient[Any]:
    client = TestClient(app, raise_server_exceptions=raises, root_path=root_path)
    client.headers.update(headers)
    return client


async def send_as_server(
    app: Any, path: str, headers: list[tuple[bytes, bytes]], *, leaves_after: int | None = None
) -> list[Any]:
    """Send a request as a server would; the client leaves once it has had ``leaves_after`` messages."""
    sent: list[Any] = []
    left, asked = asyncio.Event(), False

    async def receive() -> Any:
        nonlocal asked
        if not asked:
            asked = True
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
