"""``turnpike demo`` as its reader runs it: one command, no key, no network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")
pytest.importorskip("rich", reason="needs rich: install turnpike[cli]")

from turnpike.demo.servers import STACKS, running_app
from turnpike.errors import ConfigurationError, MissingExtraError


def run_demo(folder: Path, *options: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it printed, with every run of white space as one space."""
    environment = {**os.environ, "TMPDIR": str(folder), "HOME": str(folder), "COLUMNS": "200"}
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "turnpike", "demo", *options],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("stack", list(STACKS))
def test_the_demo_reconciles_its_ledger_with_the_bill_book_and_says_where_it_lies(stack: str, tmp_path: Path) -> None:
    pytest.importorskip(stack, reason=f"needs {stack}: install turnpike[demo]")
    pytest.importorskip(STACKS[stack].server, reason=f"needs {STACKS[stack].server}: install turnpike[demo]")
    code, printed = run_demo(tmp_path, "--stack", stack)
    assert code == 0, printed
    agreed = re.search(
        r"Ledger ([\d,]+) nano-USD, simulator's bill book ([\d,]+) nano-USD: they agree to the nano-dollar", printed
    )
    assert agreed, printed
    assert agreed[1] == agreed[2]
    said = re.search(r"Ledger: (/\S+)", printed)
    assert said, printed
    lines = [json.loads(line) for line in Path(said[1]).read_text("utf-8").splitlines()]
    assert {(line["tenant_id"], line["caller_id"]) for line in lines} == {
        ("acme", "support-bot"),
        ("globex", "web"),
        ("globex", "order-desk"),
        ("initech", "nightly-batch"),
    }
    routes = Counter(line["route"] for line in lines)
    assert routes == {"/answer-routed": 43, "/conversation-turn": 12, "/summarize/stream": 13, "jobs/order-status": 6}
    counted = sum(line["cost_nano_usd"] for line in lines if line["status"] == "success")
    assert counted == int(agreed[1].replace(",", ""))
    assert [line["status"] for line in lines if line["status"] != "success"] == ["cancelled"]
    assert "1 key refused (401), 8 over the rate limit (429)" in printed


def test_a_stack_that_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)
    needed = r"--stack flask needs .* pip install 'turnpike\[demo\]'"
    with pytest.raises(MissingExtraError, match=needed), running_app("flask", {}, tmp_path / "app.log"):
        pass


def test_a_stack_without_an_example_says_which_have_one(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="choose one of: fastapi, flask, django, litestar"),
        running_app("bottle", {}, tmp_path / "app.log"),
    ):
        pass


def test_a_service_that_does_not_start_says_what_it_said(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")
    pytest.importorskip("uvicorn", reason="needs uvicorn: install turnpike[demo]")
    wrong = {"TURNPIKE_RATE_LIMIT": "often"}
    with (
        pytest.raises(ConfigurationError, match=r"(?s)did not start \(exit code 1\)\. .*rate_limit"),
        running_app("fastapi", wrong, tmp_path / "app.log"),
    ):
        pass
