"""The demo's traffic: three tenants on all routes of an example service, and each thing that can go wrong once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx2

__all__ = ["API_KEYS", "JOB", "JOB_ARGUMENTS", "STEPS", "Outcome", "environment", "send_traffic"]

_ACME, _GLOBEX, _INITECH = "demo-key-acme-7f2c91", "demo-key-globex-b81d04", "demo-key-initech-39e6aa"

API_KEYS = (
    {"key": _ACME, "tenant": "acme", "caller": "support-bot", "rate_limit": "600/minute"},
    {"key": _GLOBEX, "tenant": "globex", "caller": "web", "rate_limit": "600/minute"},
    {"key": _INITECH, "tenant": "initech", "caller": "nightly-batch", "rate_limit": "12/minute"},
)
"""The three callers. The last one has a small limit, for the burst."""

_QUESTIONS = (
    "What is our refund policy?",
    "Which invoices of the last quarter are still unpaid, and by which customers?",
    "Analyze the trade-offs of moving the archive to cold storage.",
    "Draft a short answer to a customer whose parcel is late.",
    "Give me a detailed comparison of the three offers, with the implications of each.",
)
"""Two of them need the expensive model."""
_SAID = ("Hello, it is about order A-1001.", "How can I help?", "It has not arrived.", "It was sent on Monday.") * 4
_STRATEGIES = ("full", "sliding_window", "summarized")
_DOCUMENT = "Invoice 4471 covers consulting hours, travel and licences for October. Payment is net thirty days. " * 6

JOB = "tool_calls.py"
JOB_ARGUMENTS = [f"What is the order_status of A-100{number}?" for number in range(1, 4)]
"""A job beside the service, on the same ledger: questions for which the model has a tool run."""


def environment(simulator_url: str, ledger: str) -> dict[str, str]:
    """Return what the example service has to know: where the providers are, who may call, where the ledger lies."""
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

    def post(self, path: str, key: str, body: Mapping[str, object]) -> httpx2.Response:
        self.outcome.sent += 1
        return self.app.post(path, json=body, headers={"X-API-Key": key})

    def expect(self, response: httpx2.Response, status: int, what: str) -> bool:
        if response.status_code == status:
            return True
        self.outcome.failures.append(f"{what}: HTTP {response.status_code} instead of {status}")
        return False

    def ask(self, what: str, path: str, key: str, body: Mapping[str, object]) -> None:
        """Send a request that is to be answered."""
        self.outcome.answered += self.expect(self.post(path, key, body), 200, what)
        self.step(what)


def send_traffic(
    app_url: str, simulator_url: str, step: Callable[[str], None], job: subprocess.Popen[bytes]
) -> Outcome:
    """Send all of the demo's requests while ``job`` runs; ``step`` is told of each as it ends."""
    with (
        httpx2.Client(base_url=app_url, timeout=30.0) as app,
        httpx2.Client(base_url=simulator_url, timeout=30.0) as simulator,
    ):
        clients = _Clients(app, simulator, step)
        _classify(clients)
        _ask_questions(clients)
        _converse(clients)
        _read_streams(clients)
        # What follows is scripted for the next request, whoever sends it.
        _wait_for(job, clients)
        _abandon_a_stream(clients)
        _cause_a_retry(clients)
        _use_a_wrong_key(clients)
        _burst(clients)
        return clients.outcome


STEPS = 5 + 30 + 9 + 12 + 1 + 1 + 1 + 1 + 20
"""How often ``step`` is called."""


def _classify(clients: _Clients) -> None:
    for question in _QUESTIONS:
        clients.ask("classifications", "/classify-complexity", _ACME, {"message": question})


def _ask_questions(clients: _Clients) -> None:
    for number in range(30):
        key = (_ACME, _ACME, _GLOBEX)[number % 3]
        clients.ask("questions", "/answer-routed", key, {"message": f"{_QUESTIONS[number % 5]} ({number})"})


def _converse(clients: _Clients) -> None:
    for number in range(9):
        strategy = _STRATEGIES[number % 3]
        turn = {
            "conversation_id": f"order-{number}",
            "history": list(_SAID),
            "message": f"When will it be here? ({number})",
            "context_strategy": strategy,
        }
        clients.ask("conversations", "/conversation-turn", (_GLOBEX, _ACME)[number % 2], turn)


def _read_streams(clients: _Clients) -> None:
    for number in range(12):
        clients.ask("streams", "/summarize/stream", (_GLOBEX, _ACME)[number % 2], {"text": f"{_DOCUMENT}({number})"})


def _wait_for(job: subprocess.Popen[bytes], clients: _Clients) -> None:
    """Let the job come to its end."""
    try:
        code = job.wait(30.0)
    except subprocess.TimeoutExpired:
        clients.outcome.failures.append("job: it does not come to its end")
    else:
        if code != 0:
            clients.outcome.failures.append(f"job: exit code {code}")
    clients.step("a job with tool calls")


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
    response = clients.post("/answer-routed", _ACME, {"message": "Is the service up again?"})
    clients.outcome.retried += clients.expect(response, 200, "retry")
    clients.outcome.answered += response.status_code == httpx2.codes.OK
    clients.step("a retry")


def _use_a_wrong_key(clients: _Clients) -> None:
    response = clients.post("/answer-routed", "not-a-key", {"message": "Let me in?"})
    clients.outcome.refused_keys += clients.expect(response, 401, "wrong key")
    clients.step("a refused key")


def _burst(clients: _Clients) -> None:
    """Send twenty at once on a limit of twelve a minute."""
    for number in range(20):
        response = clients.post("/answer-routed", _INITECH, {"message": f"Classify ticket {number}."})
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            clients.outcome.rate_limited += 1
        else:
            clients.outcome.answered += clients.expect(response, 200, "burst")
        clients.step("a burst")
