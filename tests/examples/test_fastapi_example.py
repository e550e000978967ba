"""The FastAPI example as its user meets it: served by uvicorn, asked over HTTP, the simulator in the vendors' place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")
pytest.importorskip("uvicorn", reason="needs uvicorn: install turnpike[demo]")

from turnpike.demo.servers import running_app
from turnpike.testing.simulator import Behaviour, Simulator, ToolCall

ACME = {"X-API-Key": "k-acme"}
BETA = {"X-API-Key": "k-beta"}
KEYS = "k-acme=acme:web,k-beta=beta:batch"


class Service:
    """The example service: its address, and the ledger it writes."""

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
def serving(simulator: Simulator, folder: Path) -> Iterator[Service]:
    """Serve the example as a process of its own; all it is told is in its environment."""
    ledger = folder / "telemetry.jsonl"
    environment = {
        "OPENAI_BASE_URL": simulator.openai_base_url,
        "OPENAI_API_KEY": "simulated",
        "ANTHROPIC_BASE_URL": simulator.anthropic_base_url,
        "ANTHROPIC_API_KEY": "simulated",
        "TURNPIKE_API_KEYS": KEYS,
        "TURNPIKE_RATE_LIMIT": "1000/minute",
        "TURNPIKE_TELEMETRY_PATH": str(ledger),
    }
    with running_app("fastapi", environment, folder / "app.log") as url:
        service = Service(url, ledger)
        with service.http:
            yield service


@pytest.fixture(scope="module")
def service(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(shared_simulator, tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(autouse=True)
def _fresh(service: Service, simulator: Simulator) -> None:
    """Begin with an empty script, an empty bill book and a ledger that has been read."""
    service.new_lines()


def test_it_is_healthy_without_a_key(service: Service) -> None:
    response = service.http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "k-nobody"}, {"X-Tenant": "acme"}])
@pytest.mark.parametrize("path", ["/answer", "/summarize/stream", "/order-status"])
def test_whoever_has_no_key_is_refused_before_anything_is_sent(
    service: Service, simulator: Simulator, path: str, headers: dict[str, str]
) -> None:
    response = service.http.post(path, json={"question": "What?", "text": "What?"}, headers=headers)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert "www-authenticate" in response.headers
    assert simulator.requests() == []
    assert service.new_lines() == []


def test_a_question_is_answered_and_recorded_for_the_tenant_of_its_key(service: Service, simulator: Simulator) -> None:
    simulator.script(Behaviour(text="A gate on a road."))
    response = service.http.post("/answer", json={"question": "What is a turnpike?"}, headers=ACME)
    assert response.json() == {"answer": "A gate on a road.", "model": "gpt-4o-mini", "tenant": "acme"}
    [line] = service.new_lines()
    assert (line["tenant_id"], line["caller_id"], line["route"]) == ("acme", "web", "/answer")
    assert line["cost_nano_usd"] == simulator.bills()[0].cost_nano_usd


def test_a_body_cannot_name_another_tenant(service: Service) -> None:
    asked = {"question": "What?", "tenant": "acme", "tenant_id": "acme", "metadata": {"tenant_id": "acme"}}
    assert service.http.post("/answer?tenant_id=acme", json=asked, headers=BETA).json()["tenant"] == "beta"
    assert [line["tenant_id"] for line in service.new_lines()] == ["beta"]


def test_a_summary_arrives_piece_by_piece(service: Service, simulator: Simulator) -> None:
    simulator.script(Behaviour(text="Long story short.", chunks=3, gap_ms=20))
    with service.http.stream("POST", "/summarize/stream", json={"text": "A long story."}, headers=BETA) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line]
    assert "".join(event["delta"] for event in events) == "Long story short."
    assert len(events) == 4
    assert events[-1] == {"delta": "", "finish_reason": "stop"}
    [line] = service.new_lines()
    assert (line["tenant_id"], line["provider"], line["streaming"]) == ("beta", "anthropic", True)


def test_a_question_about_an_order_runs_the_tool(service: Service, simulator: Simulator) -> None:
    simulator.script(
        Behaviour(tool_calls=(ToolCall("order_status", {"order_id": "A-1001"}),)),
        Behaviour(text="It arrives on Friday."),
    )
    response = service.http.post("/order-status", json={"question": "Where is A-1001?"}, headers=ACME)
    assert response.json()["answer"] == "It arrives on Friday."
    assert simulator.requests()[1].body["messages"][-1]["content"] == "shipped, arrives on Friday"
    lines = service.new_lines()
    assert [line["finish_reason"] for line in lines] == ["tool_calls", "stop"]
    assert sum(line["cost_nano_usd"] for line in lines) == sum(bill.cost_nano_usd or 0 for bill in simulator.bills())


def test_the_openapi_document_marks_the_guarded_routes_and_no_others(service: Service) -> None:
    document = service.http.get("/openapi.json").json()
    guarded = {
        path
        for path, operations in document["paths"].items()
        if any(operation.get("security") == [{"TurnpikeKey": []}] for operation in operations.values())
    }
    assert guarded == {"/answer", "/summarize/stream", "/order-status"}
    assert "/healthz" in document["paths"]
    assert document["components"]["securitySchemes"]["TurnpikeKey"]["name"] == "X-API-Key"


def test_base_url_alone_leads_the_same_service_to_another_provider(tmp_path: Path, simulator: Simulator) -> None:
    with Simulator() as other:
        other.default(Behaviour(text="From elsewhere."))
        with serving(other, tmp_path) as service:
            response = service.http.post("/answer", json={"question": "Where are you?"}, headers=ACME)
            assert response.json()["answer"] == "From elsewhere."
            assert len(service.new_lines()) == 1
        assert len(other.bills()) == 1
    assert simulator.bills() == []
