"""A thousand calls of fifty tenants through one gateway: no envelope is missing, doubled or somebody else's."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from turnpike import Gateway, bind
from turnpike.testing.simulator import Simulator

from .conftest import MODELS, MemoryLedger, settings_for

CALLS, TENANTS = 1000, 50


def assert_books_agree(ledger: MemoryLedger, simulator: Simulator, asked: dict[str, str]) -> None:
    """The ledger's lines are the calls that were made, and their sum is the provider's."""
    envelopes = ledger.envelopes
    assert len(envelopes) == len(asked)
    assert {envelope.request_id: envelope.tenant_id for envelope in envelopes} == asked
    assert Counter(envelope.tenant_id for envelope in envelopes) == Counter(asked.values())
    simulator.wait_idle(bills=len(asked))
    bills = simulator.bills()
    assert len(bills) == len(asked)
    assert {bill.response_id for bill in bills} == {envelope.response_id for envelope in envelopes}
    assert sum(envelope.cost_nano_usd for envelope in envelopes) == sum(bill.cost_nano_usd for bill in bills)
    assert all(envelope.status == "ok" for envelope in envelopes)


@pytest.mark.anyio
async def test_a_thousand_calls_at_once(simulator: Simulator) -> None:
    ledger = MemoryLedger()
    settings = settings_for(simulator)
    for provider in settings["providers"].values():
        # httpcore looks through its whole pool for every request, so a smaller one serves a thousand of them faster.
        provider["max_connections"] = 40
    gateway = Gateway(settings, ledger=ledger)
    apis = list(MODELS.values())

    async def ask(number: int) -> tuple[str, str]:
        tenant, options = f"tenant-{number % TENANTS}", apis[number % len(apis)]
        with bind(tenant_id=tenant):
            if number % 4:
                return (await gateway.call(f"prompt {number}", **options)).request_id, tenant
            stream = gateway.stream(f"prompt {number}", **options)
        async for _ in stream:
            continue
        return stream.request_id, tenant

    asked = dict(await asyncio.gather(*map(ask, range(CALLS))))
    await gateway.aclose()

    assert len(asked) == CALLS
    assert_books_agree(ledger, simulator, asked)


def test_hundreds_of_calls_in_threads(make_gateway: Any, simulator: Simulator) -> None:
    ledger = MemoryLedger()
    gateway = make_gateway(ledger=ledger)

    def ask(number: int) -> tuple[str, str]:
        tenant = f"tenant-{number % TENANTS}"
        with bind(tenant_id=tenant):
            return gateway.call_sync(f"prompt {number}", model="gpt-4o-mini").request_id, tenant

    with ThreadPoolExecutor(16) as pool:
        asked = dict(pool.map(ask, range(300)))

    assert len(asked) == 300
    assert_books_agree(ledger, simulator, asked)
