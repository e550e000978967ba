"""Starts the simulator and the example service as processes of their own, and stops them again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

from turnpike.errors import ConfigurationError, MissingExtraError

__all__ = ["examples_folder", "running_app", "running_simulator"]

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0


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
    with _process(command, dict(os.environ), log), httpx2.Client() as client:
        _wait_until_answering(client, f"{url}/__stats__", "the simulator", log)
        yield url


@contextmanager
def running_app(stack: str, environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run the example service of ``stack`` for the length of the block; yields its URL.

    It is asked to stop at the end of the block and finishes what it has begun.
    """
    if stack != "fastapi":
        raise ConfigurationError(f"There is no example service for '{stack}'; choose fastapi.")
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise MissingExtraError("turnpike demo", "demo") from None
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(examples_folder()), "fastapi_app:app"]
    command += ["--port", str(port), "--log-level", "warning"]
    url = f"http://127.0.0.1:{port}"
    with _process(command, {**_without_own_settings(), **environment}, log), httpx2.Client() as client:
        _wait_until_answering(client, f"{url}/healthz", "the example service", log)
        yield url


def _without_own_settings() -> dict[str, str]:
    """Return the environment without the user's Turnpike settings, which are meant for services of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TURNPIKE_", "APP_API_KEY"))}


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - our own interpreter and modules
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_answering(client: httpx2.Client, url: str, what: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if client.get(url, timeout=2.0).status_code == httpx2.codes.OK:
                return
        except httpx2.TransportError:
            time.sleep(0.05)
    tail = log.read_text("utf-8", "replace")[-800:]
    raise ConfigurationError(f"{what.capitalize()} did not start within {_START_TIMEOUT_S:g} s. Its output:\n{tail}")
