"""What only the FastAPI example shows: its OpenAPI document, its start, and a client that leaves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")
pytest.importorskip("uvicorn", reason="needs uvicorn: install turnpike[demo]")

from fastapi.testclient import TestClient

from turnpike.testing.simulator import Behaviour, Simulator

from .loaded import load_example
from .served import ACME, serving

pytestmark = pytest.mark.anyio

QUESTION = {"message": "What is a turnpike?"}


@pytest.fixture
def app(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TURNPIKE_API_KEYS", "k-acme=acme:web")
    return load_example("fastapi_app.py").app


def lines_of(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]


def test_the_openapi_document_marks_the_guarded_routes_and_no_others(app: Any) -> None:
    document = app.openapi()
    guarded = {
        path
        for path, operations in document["paths"].items()
        if any(operation.get("security") == [{"TurnpikeKey": []}] for operation in operations.values())
    }
    assert guarded == {"/classify-complexity", "/answer-routed", "/conversation-turn", "/summarize/stream"}
    assert document["paths"].keys() - guarded == {"/healthz", "/readyz"}
    assert document["components"]["securitySchemes"]["TurnpikeKey"]["name"] == "X-API-Key"


def test_it_is_ready_from_its_start_to_its_end_and_answers_before(app: Any, simulator: Simulator) -> None:
    client = TestClient(app, headers=ACME)
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (503, {"status": "not_ready"})
    assert client.get("/healthz").json() == {"status": "ok"}
    simulator.script(Behaviour(text="A gate."))
    assert client.post("/answer-routed", json=QUESTION).json()["answer"] == "A gate."
    with client:
        assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (200, {"status": "ready"})
    assert client.get("/readyz").status_code == 503


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "TURNPIKE_API_KEYS"])
def test_it_starts_without_keys_and_misses_them_only_when_they_are_needed(
    desk: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("TURNPIKE_API_KEYS", "k-acme=acme:web")
    monkeypatch.delenv(variable)
    with TestClient(load_example("fastapi_app.py").app, headers=ACME) as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        response = client.post("/answer-routed", json=QUESTION)
    assert response.status_code == 500
    assert response.json()["type"] == "urn:turnpike:problem:misconfigured"
    assert variable not in response.text


async def test_a_client_that_leaves_in_mid_stream_is_on_the_ledger(
    app: Any, simulator: Simulator, ledger: Path
) -> None:
    simulator.script(Behaviour(hang="mid_stream", after_events=4, chunks=8))
    arriving = [{"type": "http.request", "body": json.dumps({"text": "A long story."}).encode(), "more_body": False}]
    has_begun = asyncio.Event()

    async def receive() -> Any:
        if arriving:
            return arriving.pop()
        await has_begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            has_begun.set()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/summarize/stream",
        "query_string": b"",
        "headers": [(b"x-api-key", b"k-acme"), (b"content-type", b"application/json")],
    }
    await app(scope, receive, send)
    [line] = lines_of(ledger)
    assert (line["status"], line["tenant_id"], line["finish_reason"]) == ("cancelled", "acme", "client_disconnected")
    await app.state.turnpike.aclose()


def test_base_url_alone_leads_the_same_service_to_another_provider(tmp_path: Path, simulator: Simulator) -> None:
    with Simulator() as other:
        other.default(Behaviour(text="From elsewhere."))
        with serving("fastapi", other, tmp_path) as service:
            response = service.http.post("/answer-routed", json=QUESTION, headers=ACME)
            assert response.json()["answer"] == "From elsewhere."
            assert len(service.new_lines()) == 1
        assert len(other.bills()) == 1
    assert simulator.bills() == []
