"""Real servers, each with the command that its users type, and applications run under them as processes of their own."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Server:
    """A server and how it is started.

    Attributes:
        name: as the tests call it.
        module: what has to be installed.
        command: from a port to the arguments after ``python -m``, for the application ``service_app:app``.
    """

    name: str
    module: str
    command: Callable[[int], list[str]]


def _gunicorn(*options: str) -> Callable[[int], list[str]]:
    return lambda port: [
        "gunicorn",
        "service_app:app",
        "--bind",
        f"127.0.0.1:{port}",
        "--log-level",
        "warning",
        *options,
    ]


ASGI_SERVERS = (
    Server(
        "uvicorn", "uvicorn", lambda port: ["uvicorn", "service_app:app", "--port", str(port), "--log-level", "warning"]
    ),
    Server("hypercorn", "hypercorn", lambda port: ["hypercorn", "service_app:app", "--bind", f"127.0.0.1:{port}"]),
    Server(
        "granian",
        "granian",
        lambda port: [
            "granian",
            "--interface",
            "asgi",
            "service_app:app",
            "--port",
            str(port),
            "--log-level",
            "warning",
        ],
    ),
)
WSGI_SERVERS = (
    Server("gunicorn-sync", "gunicorn", _gunicorn("--worker-class", "sync")),
    Server("gunicorn-gthread", "gunicorn", _gunicorn("--worker-class", "gthread", "--threads", "4")),
    Server("gunicorn-gevent", "gevent", _gunicorn("--worker-class", "gevent")),
    Server(
        "gunicorn-preload",
        "gunicorn",
        _gunicorn("--preload", "--workers", "2", "--worker-class", "gthread", "--threads", "4"),
    ),
    Server("waitress", "waitress", lambda port: ["waitress", "--listen", f"127.0.0.1:{port}", "service_app:app"]),
)


def is_installed(server: Server) -> bool:
    """Return whether the server can be started here."""
    return importlib.util.find_spec(server.module) is not None


@dataclass
class Running:
    """A server at work."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        """Ask the server to stop, as a deployment does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"the server did not stop within {STOP_TIMEOUT_S:g} s:\n{self.tail()}") from None

    def tail(self) -> str:
        """Return the end of what the server has written."""
        return self.log.read_text("utf-8", "replace")[-3000:]


@contextmanager
def serving(server: Server, stack: str, folder: Path, **environment: str) -> Iterator[Running]:
    """Run the contract's service of ``stack`` under ``server`` for the length of the block; the ledger is in ``folder``."""
    port = _free_port()
    log = folder / "server.log"
    env = _environment(folder, {"TURNPIKE_TEST_STACK": stack, **environment})
    with log.open("wb") as output:
        process = subprocess.Popen(  # a group of its own, so that workers can be stopped with it
            [sys.executable, "-m", *server.command(port)],
            cwd=HERE,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(port, log, process)
    try:
        _wait_until_answering(running)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ledger_of(folder: Path) -> Path:
    """Return where a service that runs with ``folder`` writes its ledger."""
    return folder / "telemetry.jsonl"


def _environment(folder: Path, own: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TURNPIKE_", "APP_API_KEY"))}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
        "PYTHONDEVMODE": "",
        "TURNPIKE_TELEMETRY_PATH": str(ledger_of(folder)),
        "OPENAI_API_KEY": "simulated",
        "OTEL_SDK_DISABLED": "true",
        **own,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_answering(running: Running) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and running.process.poll() is None:
        try:
            if ask(running.port, b"GET /open HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n").startswith(
                b"HTTP/1.1 200"
            ):
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{running.tail()}")


def ask(port: int, request: bytes, *, timeout_s: float = 10.0) -> bytes:
    """Send the bytes of a request and return all that comes back until the server closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
        connection.sendall(request)
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass  # a server that refuses what is still being sent may reset what it has answered
    return received
