"""Starts the simulator and an example service as processes of their own, and stops them again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx2

from turnpike.errors import ConfigurationError, MissingExtraError

__all__ = ["STACKS", "examples_folder", "running_app", "running_job", "running_simulator"]

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0

_OWN_SETTINGS = ("TURNPIKE_", "APP_API_KEY", "DJANGO_", "FLASK_", "GUNICORN_", "UVICORN_")
"""Variables of the user's that are meant for services of their own."""


@dataclass(frozen=True)
class _Service:
    """How the example of a stack is served."""

    application: str
    """Where the application is, below the folder of the examples."""
    server: str
    """The module that serves it: uvicorn or gunicorn."""

    def command(self, port: int) -> list[str]:
        """Return the command that serves it on ``port`` of this machine."""
        folder = str(examples_folder())
        options = ["--app-dir", folder, "--port", str(port)]
        if self.server == "gunicorn":
            # Threads, because a stream takes one for as long as it lasts.
            options = ["--chdir", folder, "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "8"]
        return [sys.executable, "-m", self.server, *options, "--log-level", "warning", self.application]


STACKS: Mapping[str, _Service] = {
    "fastapi": _Service("fastapi_app:app", "uvicorn"),
    "flask": _Service("flask_app:app", "gunicorn"),
    "django": _Service("django_project.asgi:application", "uvicorn"),
    "litestar": _Service("litestar_app:app", "uvicorn"),
}
"""The stacks that have an example service, by the name of the framework's package."""


def examples_folder() -> Path:
    """Return the folder of the example services: inside the installed package, or beside the sources of a checkout.

    Raises:
        ConfigurationError: if neither is there.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "_examples", package.parent.parent / "examples"):
        if (folder / "fastapi_app.py").is_file():
            return folder
    raise ConfigurationError("The example services are not installed: reinstall turnpike, or run it from a checkout.")


@contextmanager
def running_simulator(log: Path) -> Iterator[str]:
    """Run a simulator for the length of the block; yields its URL."""
    port = _free_port()
    command = [sys.executable, "-m", "turnpike", "simulate", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with _process(command, dict(os.environ), log) as process:
        _wait_until_answering(process, f"{url}/__stats__", "the simulator", log)
        yield url


@contextmanager
def running_app(stack: str, environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run the example service of ``stack`` for the length of the block; yields its URL.

    It is asked to stop at the end of the block and finishes what it has begun.

    Raises:
        ConfigurationError: if there is no such example, or it does not start.
        MissingExtraError: if the framework or its server is not installed.
    """
    service = STACKS.get(stack)
    if service is None:
        raise ConfigurationError(f"There is no example service for '{stack}'; choose one of: {', '.join(STACKS)}.")
    if find_spec(stack) is None or find_spec(service.server) is None:
        raise MissingExtraError(f"turnpike demo --stack {stack}", "demo")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with _process(service.command(port), {**_without_own_settings(), **environment}, log) as process:
        _wait_until_answering(process, f"{url}/readyz", "the example service", log)
        yield url


@contextmanager
def running_job(
    script: str, arguments: list[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an example script beside a service; whoever wants its end waits for it within the block."""
    command = [sys.executable, str(examples_folder() / script), *arguments]
    with _process(command, {**_without_own_settings(), **environment}, log) as process:
        yield process


def _without_own_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OWN_SETTINGS)}


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - our own interpreter and modules
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_answering(process: subprocess.Popen[bytes], url: str, what: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    with httpx2.Client(timeout=2.0) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx2.TransportError):
                if client.get(url).status_code == httpx2.codes.OK:
                    return
            time.sleep(0.05)
    within = f"within {_START_TIMEOUT_S:g} s" if process.poll() is None else f"(exit code {process.returncode})"
    tail = log.read_text("utf-8", "replace")[-800:]
    raise ConfigurationError(f"{what.capitalize()} did not start {within}. Its output:\n{tail}")
