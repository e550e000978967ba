"""The example project as its reader tries it: tables, a key, Django's own server under WSGI, and the admin.

What its routes answer under ASGI is tested with the other stacks' examples.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

pytest.importorskip("django", reason="needs django: install turnpike[django]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")

from turnpike.demo.servers import examples_folder
from turnpike.testing.simulator import Behaviour, Simulator

_START_TIMEOUT_S = 30.0


@dataclass
class Desk:
    """The reader's terminal, in the repository's root."""

    environment: dict[str, str]
    ledger: Path

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of manage.py."""
        return subprocess.run(
            self._command(*arguments), env=self.environment, capture_output=True, text=True, check=True
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of manage.py that goes on."""
        return subprocess.Popen(
            self._command(*arguments), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(examples_folder() / "django_project" / "manage.py"), *arguments]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def desk(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("django")
    ledger = folder / "telemetry.jsonl"
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("TURNPIKE_", "APP_API", "DJANGO_"))
    }
    variables = {
        "OPENAI_BASE_URL": simulator.openai_base_url,
        "OPENAI_API_KEY": "simulated",
        "ANTHROPIC_BASE_URL": simulator.anthropic_base_url,
        "ANTHROPIC_API_KEY": "simulated",
        "TURNPIKE_TELEMETRY_PATH": str(ledger),
        "DJANGO_DATABASE": str(folder / "db.sqlite3"),
        "DJANGO_DEBUG": "1",
        "DJANGO_SUPERUSER_PASSWORD": "secret",
    }
    desk = Desk({**own, **variables}, ledger)
    desk.manage("migrate")
    desk.manage("createsuperuser", "--noinput", "--username", "root", "--email", "root@example.com")
    return desk


@pytest.fixture(scope="module")
def key(desk: Desk) -> str:
    return desk.manage("turnpike_keys", "create", "--tenant", "acme", "--caller", "web").stdout.strip()


@pytest.fixture(scope="module")
def http(desk: Desk) -> Iterator[httpx2.Client]:
    """The project on Django's own server, which is WSGI."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = desk.start("runserver", "--noreload", f"127.0.0.1:{port}")
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20.0) as client:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while time.monotonic() < deadline and process.poll() is None:
                with suppress(httpx2.TransportError):
                    if client.get("/readyz").status_code == 200:
                        break
            yield client
    finally:
        process.terminate()
        process.wait()


def test_the_project_is_in_order(desk: Desk) -> None:
    assert "no issues" in desk.manage("check").stdout
    assert "turnpike.W002" in desk.manage("check", "--deploy", "--tag", "turnpike").stderr
    assert "No changes" in desk.manage("makemigrations", "--check", "--dry-run").stdout


def test_its_routes_and_what_is_asked_of_them(desk: Desk) -> None:
    lines = [line.split() for line in desk.manage("turnpike_routes").stdout.splitlines()]
    access = {line[1]: line[2] for line in lines[1:]}
    assert {route for route, asked in access.items() if asked == "key"} == {
        "/classify-complexity",
        "/answer-routed",
        "/conversation-turn",
        "/summarize/stream",
    }
    assert access["/admin/turnpike_keys/apikey/"] == access["/healthz"] == "open"


def test_a_key_of_the_database_answers_and_is_billed(
    http: httpx2.Client, simulator: Simulator, desk: Desk, key: str
) -> None:
    simulator.script(Behaviour(text="A gate on a road."))
    question = {"message": "What is a turnpike?"}
    response = http.post("/answer-routed", json=question, headers={"X-API-Key": key})
    assert response.json() == {
        "answer": "A gate on a road.",
        "selected_model": "gpt-4o-mini",
        "routing_decision": "cheap",
        "tenant": "acme",
        "caller": "web",
    }
    assert '"tenant_id":"acme"' in desk.ledger.read_text("utf-8")
    assert http.post("/answer-routed", json=question).status_code == 401
    assert http.post("/answer-routed", json={}, headers={"X-API-Key": key}).status_code == 422


def test_a_summary_arrives_piece_by_piece(http: httpx2.Client, simulator: Simulator, key: str) -> None:
    simulator.script(Behaviour(text="Long story short.", chunks=3, gap_ms=20))
    with http.stream("POST", "/summarize/stream", json={"text": "Long."}, headers={"X-API-Key": key}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert len([line for line in response.iter_lines() if line]) == 4


def test_the_admin_asks_for_its_own_login_and_shows_what_was_spent(http: httpx2.Client, key: str) -> None:
    page = http.get("/admin/", follow_redirects=True)
    token = http.cookies["csrftoken"]
    assert "Log in" in page.text
    form = {"username": "root", "password": "secret", "csrfmiddlewaretoken": token, "next": "/admin/"}
    assert "Site administration" in http.post("/admin/login/", data=form, follow_redirects=True).text
    assert ">acme</a>" in http.get("/admin/turnpike_django/spend/").text
    assert key.split("_")[2] in http.get("/admin/turnpike_keys/apikey/").text
    assert http.get("/static/turnpike_django/spend.css").status_code == 200
