"""A request as the simulator received it, and as it may be shown: secrets masked, header names in lower case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MASK = "***"
_SECRET = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """What a client sent. `path` has its query and its `/opt/` prefix; `body` is the parsed JSON, None if it is none.

    `key` is the fingerprint of the API key; secret headers are masked. `api` is None on an unknown path.
    """

    sequence: int
    method: str
    path: str
    api: str | None
    headers: dict[str, str]
    body: Any
    key: str

    @property
    def model(self) -> str | None:
        """The model asked for."""
        model = self.body.get("model") if isinstance(self.body, dict) else None
        return model if isinstance(model, str) else None

    def as_dict(self) -> dict[str, Any]:
        """The request as `GET /__requests` shows it."""
        names = ("sequence", "method", "path", "api", "headers", "body", "key")
        return {name: getattr(self, name) for name in names}


def masked(headers: dict[str, str]) -> dict[str, str]:
    """The headers with the values of secret ones replaced."""
    return {name: MASK if name in _SECRET else value for name, value in headers.items()}
