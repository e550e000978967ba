"""A running simulator, fresh for each test, and the means to talk to it."""

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from turnpike.testing.simulator import Simulator

HELLO = [{"role": "user", "content": "Hello"}]
KEY = {"authorization": "Bearer sk-test", "x-api-key": "sk-test"}
PATHS = {
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic-messages": "/v1/messages",
}


def body_for(api: str, **fields: Any) -> dict[str, Any]:
    """A minimal valid request of one wire format."""
    minimal: dict[str, dict[str, Any]] = {
        "openai-chat": {"model": "gpt-4o-mini", "messages": HELLO},
        "openai-responses": {"model": "gpt-4o-mini", "input": HELLO},
        "anthropic-messages": {"model": "claude-haiku-4-5", "messages": HELLO, "max_tokens": 1000},
    }
    return {**minimal[api], **fields}


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    with Simulator(clock=lambda: 1_795_000_000.0) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Iterator[Simulator]:
    running.wait_idle()
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def http(simulator: Simulator) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=simulator.url, headers=KEY, timeout=5) as client:
        yield client


@pytest.fixture
def ask(http: httpx2.Client) -> Callable[..., httpx2.Response]:
    def send(api: str = "openai-chat", prefix: str = "", **fields: Any) -> httpx2.Response:
        return http.post(prefix + PATHS[api], json=body_for(api, **fields))

    return send


@pytest.fixture
def raw(simulator: Simulator) -> Callable[..., socket.socket]:
    """Send a request over a bare socket and hand the socket back."""

    def send(api: str = "openai-chat", **fields: Any) -> socket.socket:
        body = json.dumps(body_for(api, **fields)).encode()
        head = f"POST {PATHS[api]} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\nx-api-key: k\r\n"
        connection = socket.create_connection(("127.0.0.1", simulator.port), timeout=5)
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return connection

    return send
