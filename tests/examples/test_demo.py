"""``turnpike demo`` as its reader runs it: one command, no key, no network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")
pytest.importorskip("uvicorn", reason="needs uvicorn: install turnpike[demo]")
pytest.importorskip("rich", reason="needs rich: install turnpike[cli]")


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


def test_the_demo_reconciles_its_ledger_with_the_bill_book_and_says_where_it_lies(tmp_path: Path) -> None:
    code, printed = run_demo(tmp_path)
    assert code == 0, printed
    agreed = re.search(
        r"Ledger ([\d,]+) nano-USD, simulator's bill book ([\d,]+) nano-USD: they agree to the nano-dollar", printed
    )
    assert agreed, printed
    assert agreed[1] == agreed[2]
    said = re.search(r"Ledger: (/\S+)", printed)
    assert said, printed
    lines = [json.loads(line) for line in Path(said[1]).read_text("utf-8").splitlines()]
    assert {line["tenant_id"] for line in lines} == {"acme", "globex", "initech"}
    counted = sum(line["cost_nano_usd"] for line in lines if line["status"] == "success")
    assert counted == int(agreed[1].replace(",", ""))
    assert [line["status"] for line in lines if line["status"] != "success"] == ["cancelled"]
    assert "401" in printed
    assert "429" in printed
