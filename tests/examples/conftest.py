"""What the examples run in: the simulator in the vendors' place, a ledger of their own, no way to the network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from turnpike.gateway import client, cost_model, policies, provider
from turnpike.pricing import PriceBook
from turnpike.testing.simulator import Simulator


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:
    """A provider with an empty script and an empty bill book."""
    shared_simulator.reset()
    return shared_simulator


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Where a gateway writes whose settings do not say: ``desk`` puts the home folder here."""
    return tmp_path / ".turnpike" / "telemetry.jsonl"


@pytest.fixture
def environment(simulator: Simulator, ledger: Path) -> dict[str, str]:
    """The variables that lead both SDKs to the simulator, and the ledger into the test's own folder."""
    return {
        "OPENAI_BASE_URL": simulator.openai_base_url,
        "OPENAI_API_KEY": "simulated",
        "ANTHROPIC_BASE_URL": simulator.anthropic_base_url,
        "ANTHROPIC_API_KEY": "simulated",
        "TURNPIKE_TELEMETRY_PATH": str(ledger),
        "OTEL_SDK_DISABLED": "true",
    }


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], tmp_path: Path) -> Path:
    """This process as a reader's fresh interpreter: own variables and folder, an untouched default gateway, offline."""
    own = {"HOME": str(tmp_path), "ACME_KEY": "k-acme", "BETA_KEY": "k-beta"}
    for name, value in {**environment, **own}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "_default", None)
    monkeypatch.setattr(provider, "_PROVIDERS", {})
    monkeypatch.setattr(policies, "_ROUTE_POLICIES", {})
    monkeypatch.setattr(cost_model, "DEFAULT_BOOK", PriceBook())
    monkeypatch.setattr(cost_model, "MODEL_PRICING", cost_model.get_pricing())
    _stay_on_loopback(monkeypatch)
    return tmp_path


def _stay_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise AssertionError(f"an example wants to connect to {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
