"""A thousand calls of fifty tenants at once, through the example on uvicorn: nobody's call becomes another's."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")
pytest.importorskip("aiohttp", reason="needs aiohttp: install turnpike[aiohttp]")
pytest.importorskip("uvicorn", reason="needs uvicorn: install turnpike[demo]")

from turnpike import LLMRequestEnvelope
from turnpike.demo.servers import running_app, running_simulator

pytestmark = pytest.mark.anyio

TENANTS = [f"tenant-{number:02}" for number in range(50)]
ANSWERS, STREAMS = 15, 5  # of each tenant
CALLS = len(TENANTS) * (ANSWERS + STREAMS)
THINKING_MS = 1000
"""How long the provider takes, so that the calls are under way together."""


def service_environment(simulator_url: str, ledger: Path) -> Mapping[str, str]:
    keys = [{"key": f"k-{tenant}", "tenant": tenant, "caller": f"{tenant}-web"} for tenant in TENANTS]
    return {
        "OPENAI_BASE_URL": f"{simulator_url}/v1",
        "OPENAI_API_KEY": "simulated",
        "ANTHROPIC_BASE_URL": simulator_url,
        "ANTHROPIC_API_KEY": "simulated",
        # The SDKs' own HTTP library walks its whole pool for each request: a thousand at once take far longer.
        "TURNPIKE_PROVIDERS": json.dumps({name: {"transport": "aiohttp"} for name in ("openai", "anthropic")}),
        "TURNPIKE_API_KEYS": json.dumps(keys),
        "TURNPIKE_RATE_LIMIT": "100000/minute",
        "TURNPIKE_TELEMETRY_PATH": str(ledger),
    }


async def ask(client: httpx2.AsyncClient, tenant: str, number: int) -> None:
    """Send one request as ``tenant``, and see that the answer is meant for it."""
    words = f"This is question {number} of {tenant}."
    path, body = ("/answer-routed", {"message": words}) if number < ANSWERS else ("/summarize/stream", {"text": words})
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    if path == "/answer-routed":
        assert (response.json()["tenant"], response.json()["caller"]) == (tenant, f"{tenant}-web")
    else:
        assert '"finish_reason":"stop"' in response.text


async def ask_all(app_url: str) -> None:
    """Send all questions at once, each tenant's over connections of its own."""
    async with AsyncExitStack() as stack:
        clients = {}
        tls = httpx2.create_ssl_context()
        for tenant in TENANTS:
            headers = {"X-API-Key": f"k-{tenant}"}
            client = httpx2.AsyncClient(base_url=app_url, headers=headers, timeout=60.0, verify=tls)
            clients[tenant] = await stack.enter_async_context(client)
        # Tenants alternate, so that neighbours in time are never neighbours in tenancy.
        asked = [(tenant, number) for number in range(ANSWERS + STREAMS) for tenant in TENANTS]
        await asyncio.gather(*(ask(clients[tenant], tenant, number) for tenant, number in asked))


def words_of(request: dict[str, Any]) -> str:
    content = request["body"]["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


async def test_every_envelope_has_the_tenant_of_its_key_and_the_books_agree(tmp_path: Path) -> None:
    ledger = tmp_path / "telemetry.jsonl"
    with running_simulator(tmp_path / "simulator.log") as url, httpx2.Client(base_url=url, timeout=30.0) as simulator:
        simulator.post("/__script", json={"default": {"delay_ms": THINKING_MS}}).raise_for_status()
        with running_app("fastapi", service_environment(url, ledger), tmp_path / "app.log") as app_url:
            await ask_all(app_url)
        bills = simulator.get("/__bills").json()
        requests = simulator.get("/__requests").json()
        connections = simulator.get("/__stats").json()["connections"]

    # Every question reached the provider once, and most of them were under way at the same time.
    assert len(bills) == len(requests) == CALLS
    assert connections > CALLS // 2

    lines = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    envelopes = {line["response_id"]: LLMRequestEnvelope.from_dict(line) for line in lines}
    assert len(lines) == CALLS
    assert len({envelope.request_id for envelope in envelopes.values()}) == CALLS
    assert envelopes.keys() == {bill["response_id"] for bill in bills}
    assert Counter(envelope.tenant_id for envelope in envelopes.values()) == dict.fromkeys(TENANTS, ANSWERS + STREAMS)

    # The provider knows whose words it was sent: the envelope of that answer names the same tenant.
    for request, bill in zip(requests, bills, strict=True):
        envelope = envelopes[bill["response_id"]]
        assert words_of(request).endswith(f" of {envelope.tenant_id}.")
        assert envelope.caller_id == f"{envelope.tenant_id}-web"
        assert envelope.cost_nano_usd == bill["cost_nano_usd"]
    assert sum(line["cost_nano_usd"] for line in lines) == sum(bill["cost_nano_usd"] for bill in bills)
