"""What the tests of the Flask adapter share: a gateway over a fake provider, its ledger as a list, and two tenants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike.testing.fake_provider import FakeProvider
from turnpike_flask import Turnpike

SETTINGS: dict[str, Any] = {
    "tiers": {"cheap": "fake-model"},
    "default_policy": {"max_output_tokens": 100, "retry_attempts": 0},
    "api_keys": [
        {"key": "k-acme", "tenant": "acme", "caller": "web", "scopes": ["llm:call", "reports:read"]},
        {"key": "k-beta", "tenant": "beta"},
    ],
    "limits": {"chat": "2/minute", "search": "5/minute"},
}
ACME = {"X-API-Key": "k-acme"}
BETA = {"X-API-Key": "k-beta"}


class Lines:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.read: list[dict[str, Any]] = []

    def check(self) -> None: ...

    def append(self, line: bytes) -> bool:
        self.read.append(json.loads(line))
        return True


class Service:
    """An application, the gateway that its views reach, and what came of their calls."""

    def __init__(self, settings: Mapping[str, Any] | None = None, *, app: Flask | None = None, **parts: Any) -> None:
        self.app = Flask("service") if app is None else app
        self.app.testing = True
        self.settings = Settings.from_dict({**SETTINGS, **(settings or {})})
        self.provider = FakeProvider("One two three.")
        self.ledger = Lines()
        self.gateway = Gateway(self.settings, ledger=self.ledger)
        self.gateway.register_provider("openai", self.provider)
        self.turnpike = Turnpike(self.app, self.settings, gateway=self.gateway, **parts)

    def client(self, headers: Mapping[str, str] = ACME) -> FlaskClient:
        """A client that sends ``headers`` with each request."""
        client = self.app.test_client()
        client.environ_base.update({f"HTTP_{name.upper().replace('-', '_')}": text for name, text in headers.items()})
        return client

    @property
    def tenants(self) -> list[str | None]:
        """Who was bound where each call reached the provider."""
        return [request.context.tenant_id for request in self.provider.requests]
