"""What is Litestar's own about the Litestar example; `tests/examples` holds all four to being one service."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("litestar", reason="needs litestar: install turnpike[litestar]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")

from litestar import Litestar
from litestar.testing import TestClient

from turnpike.testing.simulator import Behaviour, Simulator
from turnpike_litestar import TurnpikePlugin

from .litestar_bench import client_of

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "litestar_app.py"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, simulator: Simulator) -> Path:
    """Lead both SDKs to the simulator; return the ledger's path."""
    simulator.reset()
    ledger = tmp_path / "telemetry.jsonl"
    for name, value in {
        "OPENAI_BASE_URL": simulator.openai_base_url,
        "OPENAI_API_KEY": "test",
        "ANTHROPIC_BASE_URL": simulator.anthropic_base_url,
        "ANTHROPIC_API_KEY": "test",
        "TURNPIKE_API_KEYS": "k-acme=acme:web,k-beta=beta:batch",
        "TURNPIKE_TELEMETRY_PATH": str(ledger),
        "TIKTOKEN_CACHE_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    return ledger


@pytest.fixture
def app(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Litestar:
    """The example, loaded anew so that it reads the environment as it is now."""
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    # Litestar looks into a handler's module, so that has to be where modules are.
    monkeypatch.delitem(sys.modules, EXAMPLE.stem, raising=False)
    loaded: Litestar = importlib.import_module(EXAMPLE.stem).app
    monkeypatch.delitem(sys.modules, EXAMPLE.stem)
    return loaded


@pytest.fixture
def client(app: Litestar) -> Iterator[TestClient[Any]]:
    with client_of(app) as client:
        yield client


def calls(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]


def test_it_is_ready_once_it_has_started(app: Litestar) -> None:
    client = client_of(app, {})
    assert client.get("/healthz").json() == {"status": "ok"}
    unready = client.get("/readyz")
    assert (unready.status_code, unready.json()) == (503, {"status": "not_ready"})
    with client:
        assert client.get("/readyz").json() == {"status": "ready"}


def test_its_routes_work_before_it_has_started(app: Litestar) -> None:
    answer = client_of(app).post("/classify-complexity", json={"message": "What is a turnpike?"})
    assert answer.json() == {"complexity": "simple", "recommended_tier": "cheap", "needs_escalation": False}


def test_an_answer_is_attributed_to_the_key_and_to_the_route(
    client: TestClient[Any], simulator: Simulator, environment: Path
) -> None:
    simulator.script(Behaviour(text="A gate on a road."))
    answer = client.post("/answer-routed", json={"message": "What is a turnpike?"}).json()
    assert (answer["answer"], answer["tenant"], answer["caller"]) == ("A gate on a road.", "acme", "web")
    (call,) = calls(environment)
    assert (call["tenant_id"], call["route"], call["status"]) == ("acme", "/answer-routed", "success")


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", 422), (b"[]", 422), (b'{"message": ""}', 422), (b"{", 400)],
)
def test_a_body_that_is_wrong_is_answered_in_litestars_own_way(
    client: TestClient[Any], simulator: Simulator, sent: bytes, status: int
) -> None:
    response = client.post("/answer-routed", content=sent, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["status_code"]) == (status, status)
    assert simulator.requests() == []


@pytest.fixture
def missing(environment: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A variable that is not set where the example is loaded."""
    variable: str = request.param
    monkeypatch.delenv(variable)
    return variable


@pytest.mark.parametrize("missing", ["OPENAI_API_KEY", "TURNPIKE_API_KEYS"], indirect=True)
def test_it_starts_without_keys_and_misses_them_only_when_they_are_needed(missing: str, app: Litestar) -> None:
    with client_of(app) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        response = client.post("/answer-routed", json={"message": "What?"})
    assert response.status_code == 500
    assert response.json()["type"].endswith(":misconfigured")
    assert missing not in response.text


def test_its_document_shows_which_routes_need_a_key(client: TestClient[Any]) -> None:
    paths = client.get("/schema/openapi.json", headers={"X-API-Key": ""}).json()["paths"]
    assert [path for path, item in paths.items() if "security" not in next(iter(item.values()))] == [
        "/healthz",
        "/readyz",
    ]


async def test_a_client_that_leaves_in_mid_stream_is_on_the_ledger(
    app: Litestar, simulator: Simulator, environment: Path
) -> None:
    simulator.script(Behaviour(hang="mid_stream", after_events=4, chunks=8))
    body = json.dumps({"text": "A long story."}).encode()
    received, asked = asyncio.Event(), False

    async def receive() -> Any:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}
        await received.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            received.set()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/summarize/stream",
        "query_string": b"",
        "headers": [(b"x-api-key", b"k-acme"), (b"content-type", b"application/json")],
    }
    await app(scope, receive, send)  # type: ignore[arg-type]
    await app.plugins.get(TurnpikePlugin).gateway.aclose()
    (call,) = calls(environment)
    assert (call["status"], call["tenant_id"], call["finish_reason"]) == ("cancelled", "acme", "client_disconnected")


def test_the_litestar_command_finds_it_and_shows_its_routes(environment: Path) -> None:
    command = [sys.executable, "-m", "litestar", "--app", "litestar_app:app", "turnpike", "routes"]
    environ = {**os.environ, "LITESTAR_QUIET_CONSOLE": "1"}
    done = subprocess.run(command, cwd=EXAMPLE.parent, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = {line.split()[1]: line.split()[2] for line in done.stdout.splitlines()[1:]}
    assert shown["/healthz"] == shown["/readyz"] == shown["/schema"] == "open"
    assert shown["/answer-routed"] == shown["/summarize/stream"] == "key"
