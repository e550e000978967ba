"""The FastAPI example as its reader runs it: real gateway, real SDKs, and the simulator in the providers' place."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")

from fastapi.testclient import TestClient

from turnpike.testing.simulator import Behaviour, Simulator, ToolCall

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_app.py"
KEYS = "k-acme=acme:web,k-beta=beta:batch"
ACME = {"X-API-Key": "k-acme"}


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
        "TURNPIKE_API_KEYS": KEYS,
        "TURNPIKE_TELEMETRY_PATH": str(ledger),
    }.items():
        monkeypatch.setenv(name, value)
    return ledger


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(environment: Path) -> Iterator[TestClient]:
    with TestClient(load_example().app, headers=ACME) as client:
        yield client


def calls(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]


def test_an_answer_is_attributed_to_the_key_and_to_the_route(
    client: TestClient, simulator: Simulator, environment: Path
) -> None:
    simulator.script(Behaviour(text="A gate on a road."))
    response = client.post("/answer", json={"question": "What is a turnpike?"})
    assert response.json() == {"answer": "A gate on a road.", "model": "gpt-4o-mini", "tenant": "acme"}
    (call,) = calls(environment)
    assert (call["tenant_id"], call["caller_id"], call["route"]) == ("acme", "web", "/answer")
    assert call["status"] in ("ok", "success")
    assert len(simulator.bills()) == 1


def test_a_summary_arrives_as_server_sent_events(client: TestClient, simulator: Simulator, environment: Path) -> None:
    simulator.script(Behaviour(text="Long story short.", chunks=3))
    response = client.post("/summarize/stream", json={"text": "A long story."}, headers={"X-API-Key": "k-beta"})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "ratelimit" in response.headers
    events = [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line]
    assert "".join(event["delta"] for event in events) == "Long story short."
    assert events[-1]["finish_reason"] == "stop"
    (call,) = calls(environment)
    assert (call["tenant_id"], call["route"]) == ("beta", "/summarize/stream")


def test_a_question_about_an_order_runs_the_tool_and_asks_again(
    client: TestClient, simulator: Simulator, environment: Path
) -> None:
    simulator.script(
        Behaviour(tool_calls=(ToolCall("order_status", {"order_id": "A-1001"}),)),
        Behaviour(text="It arrives on Friday."),
    )
    response = client.post("/order-status", json={"question": "Where is A-1001?"})
    assert response.json()["answer"] == "It arrives on Friday."
    _asked, told = simulator.requests()
    assert told.body["messages"][-1]["content"] == "shipped, arrives on Friday"
    assert [call["tenant_id"] for call in calls(environment)] == ["acme", "acme"]


@pytest.mark.parametrize("arguments", ["{}", "not json", '"A-1001"', '{"order_id": ["x"]}'])
def test_whatever_the_model_writes_as_arguments_the_tool_answers(
    client: TestClient, simulator: Simulator, arguments: str
) -> None:
    simulator.script(Behaviour(tool_calls=(ToolCall("order_status", arguments),)), Behaviour(text="Sorry."))
    assert client.post("/order-status", json={"question": "Where is it?"}).json()["answer"] == "Sorry."


def test_a_failing_provider_is_a_problem_that_repeats_none_of_its_words(
    client: TestClient, simulator: Simulator, environment: Path
) -> None:
    simulator.script(Behaviour(status=400, error_message="sk-canary", times=None))
    response = client.post("/answer", json={"question": "What?"})
    assert response.status_code == 502
    assert response.headers["content-type"] == "application/problem+json"
    (call,) = calls(environment)
    assert response.json()["request_id"] == call["request_id"]
    assert "canary" not in response.text + environment.read_text("utf-8")


def test_without_a_key_nothing_is_sent(client: TestClient, simulator: Simulator, environment: Path) -> None:
    assert client.post("/answer", json={"question": "What?"}, headers={"X-API-Key": "k-nobody"}).status_code == 401
    assert client.get("/healthz", headers={"X-API-Key": ""}).status_code == 200
    assert simulator.requests() == []
    assert not environment.exists() or calls(environment) == []


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "TURNPIKE_API_KEYS"])
def test_it_starts_without_keys_and_misses_them_only_when_they_are_needed(
    environment: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv(variable)
    with TestClient(load_example().app, headers=ACME) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        response = client.post("/answer", json={"question": "What?"})
    assert response.status_code == 500
    assert response.json()["type"].endswith(":misconfigured")
    assert variable not in response.text


async def test_a_client_that_leaves_in_mid_stream_is_on_the_ledger(environment: Path, simulator: Simulator) -> None:
    simulator.script(Behaviour(hang="mid_stream", after_events=4, chunks=8))
    body = json.dumps({"text": "A long story."}).encode()
    received, left = asyncio.Event(), False

    async def receive() -> Any:
        nonlocal left
        if not left:
            left = True
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
    app = load_example().app
    await app(scope, receive, send)
    (call,) = calls(environment)
    assert (call["status"], call["tenant_id"], call["finish_reason"]) == ("cancelled", "acme", "client_disconnected")
    await app.state.turnpike.gateway.aclose()
