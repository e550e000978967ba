"""The Flask example as its reader runs it: real gateway, real SDKs, and the simulator in the providers' place."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("flask", reason="needs flask: install turnpike[flask]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")

from flask.testing import FlaskClient
from werkzeug.test import create_environ, run_wsgi_app

from turnpike.testing.simulator import Behaviour, Simulator

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask_app.py"
ACME = {"X-API-Key": "k-acme"}
TURN = {"conversation_id": "c-1", "message": "And then?", "context_strategy": "full"}


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


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flask_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example(environment: Path) -> Iterator[ModuleType]:
    module = load_example()
    yield module
    module.app.extensions["turnpike"].close()


@pytest.fixture
def client(example: ModuleType) -> FlaskClient:
    client: FlaskClient = example.app.test_client()
    client.environ_base["HTTP_X_API_KEY"] = "k-acme"
    return client


def calls(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]


def test_it_is_up_and_ready_without_a_key(client: FlaskClient) -> None:
    del client.environ_base["HTTP_X_API_KEY"]
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/readyz").json == {"status": "ready"}


def test_it_is_not_ready_before_the_vocabulary_was_looked_for(
    client: FlaskClient, example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "is_loaded", lambda _model: False)
    response = client.get("/readyz")
    assert (response.status_code, response.json) == (503, {"status": "not_ready"})


def test_a_question_is_classified_without_a_call(client: FlaskClient, simulator: Simulator) -> None:
    simple = client.post("/classify-complexity", json={"message": "What is a turnpike?"}).json
    hard = client.post("/classify-complexity", json={"message": "Evaluate the trade-offs of turnpikes."}).json
    assert simple == {"complexity": "simple", "recommended_tier": "cheap", "needs_escalation": False}
    assert hard == {"complexity": "complex", "recommended_tier": "expensive", "needs_escalation": True}
    assert simulator.requests() == []


def test_an_answer_comes_from_the_model_that_the_question_needs(
    client: FlaskClient, simulator: Simulator, environment: Path
) -> None:
    simulator.script(Behaviour(text="A gate on a road."))
    assert client.post("/answer-routed", json={"message": "What is a turnpike?"}).json == {
        "answer": "A gate on a road.",
        "selected_model": "gpt-4o-mini",
        "routing_decision": "cheap",
        "tenant": "acme",
        "caller": "web",
    }
    client.post("/answer-routed", json={"message": "Evaluate turnpikes."}, headers={"X-API-Key": "k-beta"})
    cheap, expensive = calls(environment)
    assert (cheap["tenant_id"], cheap["caller_id"], cheap["route"]) == ("acme", "web", "/answer-routed")
    assert (cheap["complexity"], cheap["routing_decision"], cheap["needs_escalation"]) == ("simple", "cheap", False)
    assert (expensive["tenant_id"], expensive["model_selected"]) == ("beta", "gpt-4o")


def test_a_turn_of_a_conversation_says_what_of_the_history_was_used(
    client: FlaskClient, simulator: Simulator, environment: Path
) -> None:
    simulator.script(Behaviour(text="The end."))
    history = ["Tell me a story.", {"role": "assistant", "content": "Once upon a time."}]
    answer = client.post("/conversation-turn", json={**TURN, "history": history}).json
    assert answer is not None
    tokens = answer.pop("context_tokens_used")
    assert tokens > 0
    assert answer == {
        "answer": "The end.",
        "turn_index": 2,
        "context_strategy_applied": "full",
        "tenant": "acme",
        "caller": "web",
    }
    (sent,) = simulator.requests()
    assert [message["role"] for message in sent.body["messages"]] == ["user", "assistant", "user"]
    (call,) = calls(environment)
    assert (call["conversation_id"], call["turn_index"], call["context_strategy"]) == ("c-1", 2, "full")
    assert (call["context_strategy_applied"], call["context_tokens_used"]) == ("full", tokens)


def test_a_history_that_is_too_long_is_a_413(client: FlaskClient, simulator: Simulator) -> None:
    response = client.post("/conversation-turn", json={**TURN, "history": ["word " * 20_000]})
    assert (response.status_code, response.content_type) == (413, "application/problem+json")
    assert simulator.requests() == []


def test_a_summary_arrives_as_server_sent_events(client: FlaskClient, simulator: Simulator, environment: Path) -> None:
    simulator.script(Behaviour(text="Long story short.", chunks=3))
    with client.post("/summarize/stream", json={"text": "A long story."}, headers={"X-API-Key": "k-beta"}) as response:
        assert response.content_type.startswith("text/event-stream")
        assert "RateLimit" in response.headers
        events = [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line]
    assert "".join(event["delta"] for event in events) == "Long story short."
    assert events[-1]["finish_reason"] == "stop"
    (call,) = calls(environment)
    assert (call["tenant_id"], call["route"]) == ("beta", "/summarize/stream")


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/answer-routed", b""),
        ("/answer-routed", b"{"),
        ("/answer-routed", b"[]"),
        ("/answer-routed", b'{"message": ""}'),
        ("/answer-routed", b'{"message": "\xff"}'),
        ("/classify-complexity", b'{"message": 1}'),
        ("/summarize/stream", b'{"texts": "x"}'),
        ("/conversation-turn", json.dumps({**TURN, "conversation_id": ""}).encode()),
        ("/conversation-turn", json.dumps({**TURN, "context_strategy": "none"}).encode()),
        ("/conversation-turn", json.dumps({**TURN, "history": [{"role": "system", "content": "x"}]}).encode()),
    ],
)
def test_a_body_that_is_wrong_is_a_422(client: FlaskClient, simulator: Simulator, path: str, sent: bytes) -> None:
    response = client.post(path, data=sent, content_type="application/json")
    assert (response.status_code, response.content_type) == (422, "application/problem+json")
    assert simulator.requests() == []


def test_a_failing_provider_is_a_problem_that_repeats_none_of_its_words(
    client: FlaskClient, simulator: Simulator, environment: Path
) -> None:
    simulator.script(Behaviour(status=400, error_message="sk-canary", times=None))
    response = client.post("/answer-routed", json={"message": "What?"})
    assert (response.status_code, response.content_type) == (502, "application/problem+json")
    (call,) = calls(environment)
    assert response.json is not None
    assert response.json["request_id"] == call["request_id"]
    assert "canary" not in response.text + environment.read_text("utf-8")


def test_a_stream_that_fails_at_once_is_a_problem_too(client: FlaskClient, simulator: Simulator) -> None:
    simulator.script(Behaviour(status=401))
    assert client.post("/summarize/stream", json={"text": "A long story."}).status_code == 502


def test_without_a_key_nothing_is_sent(client: FlaskClient, simulator: Simulator, environment: Path) -> None:
    for path in ("/classify-complexity", "/answer-routed", "/conversation-turn", "/summarize/stream"):
        assert client.post(path, json={"message": "What?"}, headers={"X-API-Key": "k-nobody"}).status_code == 401
    assert simulator.requests() == []
    assert not environment.exists() or calls(environment) == []


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "TURNPIKE_API_KEYS"])
def test_it_starts_without_keys_and_misses_them_only_when_they_are_needed(
    environment: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv(variable)
    client = load_example().app.test_client()
    assert client.get("/healthz").json == {"status": "ok"}
    response = client.post("/answer-routed", json={"message": "What?"}, headers=ACME)
    assert response.status_code == 500
    assert response.json["type"].endswith(":misconfigured")
    assert variable not in response.text


def test_a_client_that_leaves_in_mid_stream_is_on_the_ledger(
    example: ModuleType, environment: Path, simulator: Simulator
) -> None:
    simulator.script(Behaviour(text="one two three four", chunks=4))
    environ = create_environ("/summarize/stream", method="POST", json={"text": "A long story."}, headers=ACME)
    body, status, _headers = run_wsgi_app(example.app, environ)
    assert status == "200 OK"
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    (call,) = calls(environment)
    assert (call["status"], call["tenant_id"], call["finish_reason"]) == ("cancelled", "acme", "client_disconnected")


def test_the_flask_command_finds_it_and_shows_its_routes(environment: Path) -> None:
    command = [sys.executable, "-m", "flask", "--app", "examples/flask_app", "turnpike", "routes"]
    environ = {**os.environ, "FLASK_TURNPIKE_RATE_LIMIT": "5/minute"}
    done = subprocess.run(command, cwd=EXAMPLE.parents[1], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = {line.split()[1]: line.split()[2] for line in done.stdout.splitlines()[1:]}
    assert shown["/healthz"] == shown["/readyz"] == "open"
    assert shown["/answer-routed"] == shown["/summarize/stream"] == "key"
