"""The simulator in a process of its own: started here, told what to do over its control paths."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

FOLDER = Path(__file__).resolve().parent.parent


class ServerProcess:
    """Runs ``turnpike.testing.simulator`` under the interpreter of an environment that has Turnpike."""

    def __init__(self, python: str) -> None:
        self._python = python
        self.url = ""

    def __enter__(self) -> Self:
        command = [self._python, "-m", "overhead.server"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=FOLDER)
        assert self._process.stdout is not None, "the pipe was asked for"
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise SystemExit("The simulator did not start; install turnpike[testing] in the environment 'turnpike'.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def behave(self, options: str) -> None:
        """Forget the books of the calls so far, and answer from now on as ``options`` say."""
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/__reset", method="POST")):
            pass
        with urllib.request.urlopen(f"{self.url}/__set__/{options}"):
            pass

    def cpu_s(self) -> float:
        """CPU seconds that the server has used."""
        import json

        with urllib.request.urlopen(f"{self.url}/__stats__") as answer:
            return float(json.load(answer)["cpu_s"])


def main() -> None:
    from turnpike.testing.simulator import Simulator, serve

    def ready(simulator: Simulator) -> None:
        print(simulator.url, flush=True)

    serve("127.0.0.1", 0, ready=ready)


if __name__ == "__main__":
    main()
