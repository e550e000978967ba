"""A real redis-server of the tests' own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    """A port of this machine's loopback on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class RedisProcess:
    """A redis-server that keeps nothing on disk.

    Attributes:
        port: where it listens on 127.0.0.1.
        url: its address.
        admin: a client of redis-py's own to look into it with.
    """

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        redis = pytest.importorskip("redis", reason="needs redis: install turnpike[redis]")
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("needs redis-server: install Debian's redis-server package")
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), "--logfile", ""]
        self._process = subprocess.Popen([program, *own, *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        lines: list[str] = []
        for line in self._process.stdout:
            lines.append(line)
            if "Ready to accept connections" in line:
                break
        else:
            raise AssertionError("redis-server did not start:\n" + "".join(lines))
        self.admin: Any = redis.Redis(port=self.port, protocol=2, socket_timeout=30)

    def pause(self) -> None:
        """Stop it in its tracks: the kernel goes on accepting connections and bytes."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def connections(self) -> int:
        """How many connections were ever accepted."""
        return int(self.admin.info("stats")["total_connections_received"])

    def end(self) -> None:
        self.admin.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
