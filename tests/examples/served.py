"""An example service on a server of its own, the simulator in the vendors' place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from turnpike.demo.servers import running_app
from turnpike.testing.simulator import Simulator

__all__ = ["ACME", "BETA", "Service", "serving"]

ACME = {"X-API-Key": "k-acme"}
BETA = {"X-API-Key": "k-beta"}
_KEYS = "k-acme=acme:web,k-beta=beta:batch"


class Service:
    """The service: its address, and the ledger it writes."""

    def __init__(self, url: str, ledger: Path) -> None:
        self.http = httpx2.Client(base_url=url, timeout=20.0)
        self._ledger = ledger
        self._read = 0

    def new_lines(self) -> list[dict[str, Any]]:
        """The ledger's lines since this was last asked."""
        lines = self._ledger.read_text("utf-8").splitlines() if self._ledger.exists() else []
        new, self._read = lines[self._read :], len(lines)
        return [json.loads(line) for line in new]


@contextmanager
def serving(stack: str, simulator: Simulator, folder: Path) -> Iterator[Service]:
    """Serve the example of ``stack`` as a process of its own; all it is told is in its environment."""
    ledger = folder / "telemetry.jsonl"
    environment = {
        "OPENAI_BASE_URL": simulator.openai_base_url,
        "OPENAI_API_KEY": "simulated",
        "ANTHROPIC_BASE_URL": simulator.anthropic_base_url,
        "ANTHROPIC_API_KEY": "simulated",
        "TURNPIKE_API_KEYS": _KEYS,
        "TURNPIKE_RATE_LIMIT": "1000/minute",
        "TURNPIKE_TELEMETRY_PATH": str(ledger),
    }
    with running_app(stack, environment, folder / "app.log") as url:
        service = Service(url, ledger)
        with service.http:
            yield service
