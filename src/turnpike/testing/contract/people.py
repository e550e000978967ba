"""Who sends requests to the contract service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turnpike.boundary.keys import Principal
from turnpike.testing.contract.service import SESSION_HEADER
from turnpike.testing.fake_provider import FakeRequest

__all__ = ["AUDITOR", "BATCH", "BETA", "CROWD", "SESSIONS", "WEB", "Person", "key_settings", "session"]


@dataclass(frozen=True)
class Person:
    """Somebody with a key."""

    tenant: str
    caller: str
    scopes: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """The key."""
        return f"contract-key-of-{self.tenant}-{self.caller}".encode()

    @property
    def name(self) -> str:
        """``tenant/caller``, as the service shows who is bound."""
        return f"{self.tenant}/{self.caller}"

    def sent(self, request: FakeRequest) -> bool:
        """Return whether a request that reached the provider was made for this person."""
        return (request.context.tenant_id, request.context.caller_id) == (self.tenant, self.caller)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header line with the key."""
        return [(b"X-API-Key", self.key)]


WEB = Person("acme", "web")
BATCH = Person("acme", "batch")
"""Another caller of the same tenant, with a key of its own."""
BETA = Person("beta", "api")
"""The rival tenant."""
AUDITOR = Person("acme", "auditor", scopes=("reports:read",))
CROWD = tuple(Person(f"tenant-{number}", "app") for number in range(8))
"""Tenants who send requests at the same time."""

_EVERYBODY = (WEB, BATCH, BETA, AUDITOR, *CROWD)

SESSIONS = {
    "alice": Principal(tenant="acme", caller="alice", scopes=("reports:read",)),
    "bob": Principal(tenant="beta"),
}
"""Whom the application itself knows, by the value of the session header."""


def key_settings() -> list[dict[str, Any]]:
    """Return the ``api_keys`` of the service's settings."""
    return [
        {"key": who.key.decode(), "tenant": who.tenant, "caller": who.caller, "scopes": who.scopes}
        for who in _EVERYBODY
    ]


def session(name: str) -> list[tuple[bytes, bytes]]:
    """Return the header line of a session."""
    return [(SESSION_HEADER.encode(), name.encode())]
