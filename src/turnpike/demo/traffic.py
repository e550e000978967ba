"""The demo's traffic: three tenants, and each thing that can go wrong once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

__all__ = ["API_KEYS", "Outcome", "environment", "send_traffic"]

_ACME, _GLOBEX, _INITECH = "demo-key-acme-7f2c91", "demo-key-globex-b81d04", "demo-key-initech-39e6aa"

API_KEYS = (
    {"key": _ACME, "tenant": "acme", "caller": "support-bot", "rate_limit": "600/minute"},
    {"key": _GLOBEX, "tenant": "globex", "caller": "web", "rate_limit": "600/minute"},
    {"key": _INITECH, "tenant": "initech", "caller": "nightly-batch", "rate_limit": "12/minute"},
)
"""The three callers. The last one has a small limit, for the burst."""

_QUESTIONS = (
    "Which invoices are overdue this month?",
    "Explain our refund policy in two sentences.",
    "What changed in the last release?",
    "Draft a reply to a customer whose parcel is late.",
    "List three risks of the migration plan.",
)
_DOCUMENT = "Invoice 4471 covers consulting hours, travel and licences for October. Payment is net thirty days. " * 6


def environment(simulator_url: str, ledger: str) -> dict[str, str]:
    """Return what the example service has to know: where the providers are, who may call, where the ledger lies."""
    import json

    return {
        "OPENAI_BASE_URL": f"{simulator_url}/v1",
        "OPENAI_API_KEY": "simulated",
        "ANTHROPIC_BASE_URL": simulator_url,
        "ANTHROPIC_API_KEY": "simulated",
        "TURNPIKE_API_KEYS": json.dumps(API_KEYS),
        "TURNPIKE_TELEMETRY_PATH": ledger,
        "OTEL_SDK_DISABLED": "true",
    }


@dataclass
class Outcome:
    """What the clients saw."""

    sent: int = 0
    answered: int = 0
    refused_keys: int = 0
    rate_limited: int = 0
    abandoned: int = 0
    retried: int = 0
    failures: list[str] = field(default_factory=list)


class _Clients:
    """HTTP clients of the tenants and the simulator's control endpoint."""

    def __init__(self, app: httpx2.Client, simulator: httpx2.Client, step: Callable[[str], None]) -> None:
        self.app, self.simulator, self.step = app, simulator, step
        self.outcome = Outcome()

    def script(self, **behaviour: object) -> None:
        """Have the simulator do something out of the ordinary with its next request."""
        self.simulator.post("/__script", json={"behaviours": [{"times": 1, **behaviour}]}).raise_for_status()

    def post(self, path: str, key: str, body: dict[str, str]) -> httpx2.Response:
        self.outcome.sent += 1
        return self.app.post(path, json=body, headers={"X-API-Key": key})

    def expect(self, response: httpx2.Response, status: int, what: str) -> bool:
        if response.status_code == status:
            return True
        self.outcome.failures.append(f"{what}: HTTP {response.status_code} instead of {status}")
        return False


def send_traffic(app_url: str, simulator_url: str, step: Callable[[str], None]) -> Outcome:
    """Send all of the demo's requests; ``step`` is told of each as it ends."""
    with (
        httpx2.Client(base_url=app_url, timeout=30.0) as app,
        httpx2.Client(base_url=simulator_url, timeout=30.0) as simulator,
    ):
        clients = _Clients(app, simulator, step)
        _ask_questions(clients)
        _read_streams(clients)
        _use_tools(clients)
        _abandon_a_stream(clients)
        _cause_a_retry(clients)
        _use_a_wrong_key(clients)
        _burst(clients)
        return clients.outcome


STEPS = 30 + 12 + 6 + 1 + 1 + 1 + 20
"""How often ``step`` is called."""


def _ask_questions(clients: _Clients) -> None:
    for number in range(30):
        key = (_ACME, _ACME, _GLOBEX)[number % 3]
        response = clients.post("/answer", key, {"question": f"{_QUESTIONS[number % 5]} ({number})"})
        clients.outcome.answered += clients.expect(response, 200, "question")
        clients.step("questions")


def _read_streams(clients: _Clients) -> None:
    for number in range(12):
        key = (_GLOBEX, _ACME)[number % 2]
        response = clients.post("/summarize/stream", key, {"text": f"{_DOCUMENT}({number})"})
        clients.outcome.answered += clients.expect(response, 200, "stream")
        clients.step("streams")


def _use_tools(clients: _Clients) -> None:
    for number in range(6):
        response = clients.post("/order-status", _GLOBEX, {"question": f"What is the order_status of A-100{number}?"})
        clients.outcome.answered += clients.expect(response, 200, "tool call")
        clients.step("tool calls")


def _abandon_a_stream(clients: _Clients) -> None:
    """Leave in the middle of an answer that arrives slowly."""
    clients.script(gap_ms=40, chunks=100)
    clients.outcome.sent += 1
    headers = {"X-API-Key": _ACME}
    with clients.app.stream("POST", "/summarize/stream", json={"text": _DOCUMENT}, headers=headers) as response:
        for _, _ in zip(range(3), response.iter_raw(), strict=False):
            pass
    clients.outcome.abandoned += 1
    clients.step("an abandoned stream")


def _cause_a_retry(clients: _Clients) -> None:
    clients.script(status=500)
    response = clients.post("/answer", _ACME, {"question": "Is the service up again?"})
    clients.outcome.retried += clients.expect(response, 200, "retry")
    clients.outcome.answered += response.status_code == httpx2.codes.OK
    clients.step("a retry")


def _use_a_wrong_key(clients: _Clients) -> None:
    response = clients.post("/answer", "not-a-key", {"question": "Let me in?"})
    clients.outcome.refused_keys += clients.expect(response, 401, "wrong key")
    clients.step("a refused key")


def _burst(clients: _Clients) -> None:
    """Send twenty at once on a limit of twelve a minute."""
    for number in range(20):
        response = clients.post("/answer", _INITECH, {"question": f"Classify ticket {number}."})
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            clients.outcome.rate_limited += 1
        else:
            clients.outcome.answered += clients.expect(response, 200, "burst")
        clients.step("a burst")
