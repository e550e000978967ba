"""Worker processes seen from the outside: one per subject, kept through a round so that blocks can alternate."""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from overhead.scenarios import Scenario
from overhead.server import FOLDER
from overhead.subjects import Subject

_LONGEST_BLOCK_S = 120.0


class Worker:
    """One subject in a process of its own, in its environment."""

    def __init__(self, subject: Subject, python: Path, server: str, ledger: Path) -> None:
        self.subject = subject
        # -P is not used: the worker finds this package through its working directory.
        command = [str(python), "-m", "overhead.worker", subject.name, server, str(ledger)]
        # A file, not a pipe: some libraries print more than a pipe holds, and would wait for a reader.
        self._noise = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._noise, text=True, cwd=FOLDER
        )
        self.failure: str | None = None
        self.versions: dict[str, str] = self._read().get("versions", {})

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "the pipe was asked for"
        ready, _, _ = select.select([self._process.stdout], [], [], _LONGEST_BLOCK_S)
        if not ready:
            self._process.kill()
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.failure = self._last_words() if ready else f"no answer within {_LONGEST_BLOCK_S:g} s"
        return {"error": self.failure}

    def _last_words(self) -> str:
        self._noise.seek(0)
        return self._noise.read()[-500:].strip() or "the process ended without a word"

    def run(self, scenario: Scenario) -> dict[str, Any]:
        """Measure one block; ``error`` and ``unsupported`` say that there is no figure."""
        if self.failure is not None:
            return {"error": self.failure}
        assert self._process.stdin is not None, "the pipe was asked for"
        try:
            self._process.stdin.write(json.dumps(scenario.as_dict()) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"error": "the process has ended"}
        return self._read()

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._noise.close()
