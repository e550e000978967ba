"""The contract's service as an application that a real server imports: ``app``, of the stack that the environment names.

``TURNPIKE_TEST_STACK`` is the name of a stack of ``tests/contract/stacks``, ``TURNPIKE_TEST_TENANTS`` how many tenants there
are, ``TURNPIKE_TEST_PIECES`` in how many pieces the provider streams, and ``TURNPIKE_TEST_PAUSE_S`` how long it takes for
each. Each tenant ``tenant-<n>`` has the key ``k-<n>`` and the caller ``caller-<n>``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from contract_stacks import stack_called  # type: ignore[import-not-found]

from turnpike import Gateway, ProviderBase, ProviderResponse, Settings
from turnpike.boundary.admission import Gate
from turnpike.gateway.provider import ProviderStreamEvent
from turnpike.testing.contract import ContractSetup


def settings(tenants: int) -> dict[str, Any]:
    """Return the service's settings; the ledger's place comes from the environment."""
    keys = [{"key": f"k-{n}", "tenant": f"tenant-{n}", "caller": f"caller-{n}"} for n in range(tenants)]
    return {
        "providers": {"openai": {}},
        "tiers": {"cheap": "gpt-4o-mini"},
        "api_keys": keys,
        "rate_limit": "1000000/second",
        "limits": {"tight": "1000000/second"},
        "exempt": ["/public"],
    }


class SteadyProvider(ProviderBase):
    """Answers all requests alike, at a pace, and remembers none."""

    def __init__(self) -> None:
        pieces = int(os.environ.get("TURNPIKE_TEST_PIECES", "3"))
        self.pause_s = float(os.environ.get("TURNPIKE_TEST_PAUSE_S", "0"))
        self.events = [ProviderStreamEvent(delta=f"{number} ") for number in range(pieces)]
        self.events.append(ProviderStreamEvent(finish_reason="stop", tokens_in=7, tokens_out=pieces))

    @property
    def provider_name(self) -> str:
        return "openai"

    async def complete(self, messages: Any, model: str, max_output_tokens: int) -> ProviderResponse:
        await asyncio.sleep(self.pause_s)
        return ProviderResponse("A gate.", 7, 3, "stop")

    def complete_sync(self, messages: Any, model: str, max_output_tokens: int) -> ProviderResponse:
        time.sleep(self.pause_s)
        return ProviderResponse("A gate.", 7, 3, "stop")

    async def stream(self, messages: Any, model: str, max_output_tokens: int) -> AsyncIterator[ProviderStreamEvent]:
        for event in self.events:
            await asyncio.sleep(self.pause_s)
            yield event

    def stream_sync(self, messages: Any, model: str, max_output_tokens: int) -> Iterator[ProviderStreamEvent]:
        for event in self.events:
            time.sleep(self.pause_s)
            yield event


def build() -> Any:
    """Make the application."""
    written = settings(int(os.environ.get("TURNPIKE_TEST_TENANTS", "2")))
    gateway = Gateway(written)
    gateway.register_provider("openai", SteadyProvider())
    gate = Gate(Settings.load(written))
    return stack_called(os.environ["TURNPIKE_TEST_STACK"]).build(
        ContractSetup(settings=written, gateway=gateway, gate=gate)
    )


app = build()
