"""On whose account a call goes: bound, explicit, handed over, or nobody's."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from turnpike import Gateway, LLMRequestContext, bind, detached, propagate
from turnpike.envelope import UNATTRIBUTED
from turnpike.errors import UnattributedError
from turnpike.testing.simulator import Simulator

from .conftest import Client, MemoryLedger, sent, settings_for

ADA = LLMRequestContext(tenant_id="acme", caller_id="ada", use_case="chat", session_id="s-1")


def who(envelope: Any) -> tuple[Any, ...]:
    return envelope.tenant_id, envelope.caller_id, envelope.use_case, envelope.session_id


def test_a_bound_identity_is_on_the_envelope(client: Client, ledger: MemoryLedger) -> None:
    with bind(ADA, route="/chat/{id}"):
        envelope = client.ask("Hello", model="gpt-4o-mini").envelope

    assert who(envelope) == ("acme", "ada", "chat", "s-1")
    assert (envelope.attributed, envelope.route) == (True, "/chat/{id}")
    assert ledger.lines[0]["attributed"] is True
    assert envelope.audit_tags == {"session_id": "s-1"}


def test_an_explicit_context_goes_over_the_bound_one_field_by_field(client: Client) -> None:
    with bind(ADA):
        envelope = client.ask(
            "Hello", model="gpt-4o-mini", context=LLMRequestContext(use_case="summary", feature_id="f")
        ).envelope

    assert who(envelope) == ("acme", "ada", "summary", "s-1")
    assert envelope.audit_tags == {"session_id": "s-1", "feature_id": "f"}


def test_an_explicit_context_suffices_where_nobody_is_bound(client: Client) -> None:
    assert who(client.ask("Hello", model="gpt-4o-mini", context=ADA).envelope) == ("acme", "ada", "chat", "s-1")


def test_metadata_names_a_tenant_only_where_nobody_is_bound(client: Client) -> None:
    claimed = {"tenant_id": "evil", "caller_id": "mallory", "session_id": "s-9", "task_id": "t-9"}
    alone = client.ask("Hello", model="gpt-4o-mini", metadata=claimed).envelope
    with bind(tenant_id="acme", caller_id="ada"):
        bound = client.ask("Hello", model="gpt-4o-mini", metadata=claimed).envelope

    assert who(alone) == ("evil", "mallory", None, "s-9")
    assert who(bound) == ("acme", "ada", None, "s-9")
    assert bound.task_id == "t-9"


def test_metadata_names_no_tenant_where_only_a_caller_is_bound(client: Client) -> None:
    with bind(caller_id="ada"):
        envelope = client.ask("Hello", model="gpt-4o-mini", metadata={"tenant_id": "evil"}).envelope

    assert (envelope.tenant_id, envelope.caller_id, envelope.attributed) == (UNATTRIBUTED, "ada", False)


def test_metadata_is_no_source_beside_an_explicit_context(client: Client) -> None:
    envelope = client.ask(
        "Hello", model="gpt-4o-mini", context=LLMRequestContext(caller_id="ada"), metadata={"tenant_id": "evil"}
    ).envelope

    assert (envelope.tenant_id, envelope.caller_id) == (UNATTRIBUTED, "ada")


def test_a_call_of_nobody_is_a_state_of_its_own_and_is_warned_of_once(
    make_gateway: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make_gateway()
    with caplog.at_level(logging.WARNING, "turnpike"):
        envelopes = [gateway.call_sync("Hello", model="gpt-4o-mini").envelope for _ in range(3)]

    assert {(envelope.tenant_id, envelope.attributed) for envelope in envelopes} == {(UNATTRIBUTED, False)}
    warnings = [record.getMessage() for record in caplog.records if "tenant" in record.getMessage()]
    assert len(warnings) == 1
    assert "require_attribution" in warnings[0]


def test_a_call_of_nobody_can_be_refused_before_anything_is_sent(make_gateway: Any, simulator: Simulator) -> None:
    gateway = make_gateway({"require_attribution": True})

    with pytest.raises(UnattributedError, match=r"turnpike\.bind"):
        gateway.call_sync("Hello", model="gpt-4o-mini")
    with bind(caller_id="ada"), pytest.raises(UnattributedError):
        gateway.call_sync("Hello", model="gpt-4o-mini")
    assert simulator.requests() == []
    with bind(tenant_id="acme"):
        assert gateway.call_sync("Hello", model="gpt-4o-mini").envelope.tenant_id == "acme"


def test_a_thread_has_the_identity_only_if_it_was_handed_over(make_gateway: Any) -> None:
    gateway = make_gateway()

    def work() -> str:
        return gateway.call_sync("Hello", model="gpt-4o-mini").envelope.tenant_id

    with ThreadPoolExecutor(1) as pool, bind(tenant_id="acme"):
        assert pool.submit(work).result() == UNATTRIBUTED
        assert pool.submit(propagate(work)).result() == "acme"


def test_threads_at_once_keep_their_identities_apart(make_gateway: Any) -> None:
    gateway, barrier = make_gateway(), threading.Barrier(8)

    def work(tenant: str) -> str:
        with bind(tenant_id=tenant):
            barrier.wait(5)
            return gateway.call_sync("Hello", model="gpt-4o-mini").envelope.tenant_id

    tenants = [f"tenant-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, tenants)) == tenants


@pytest.mark.anyio
async def test_tasks_at_once_keep_their_identities_apart(async_gateway: Gateway) -> None:
    async def work(tenant: str) -> str:
        with bind(tenant_id=tenant):
            stream = async_gateway.stream("Hello", model="gpt-4o-mini")
        async for _ in stream:
            await asyncio.sleep(0)
        return stream.envelope.tenant_id

    tenants = [f"tenant-{number}" for number in range(8)]
    assert await asyncio.gather(*map(work, tenants)) == tenants


class Scope:
    """A request's scope, as the HTTP boundary has one."""

    def __init__(self) -> None:
        self.streams: list[Any] = []
        self.end_reason: str | None = None

    def add(self, stream: Any) -> None:
        self.streams.append(stream)

    def discard(self, stream: Any) -> None:
        pass


def test_a_stream_belongs_to_the_request_it_was_opened_in_unless_detached(streaming: Client) -> None:
    scope = Scope()
    with bind(ADA, route="/chat", streams=scope):
        inside = streaming.open("Hello", model="gpt-4o-mini")
        with detached():
            outside = streaming.open("Hello", model="gpt-4o-mini")

    assert scope.streams == [inside]
    for stream in (inside, outside):
        streaming.close(stream)
    assert who(outside.envelope) == who(inside.envelope) == ("acme", "ada", "chat", "s-1")
    assert outside.envelope.route == "/chat"


@pytest.mark.anyio
async def test_a_stream_that_is_cancelled_with_its_request_says_why_the_request_ended(
    async_gateway: Gateway, simulator: Simulator
) -> None:
    from turnpike.testing.simulator import Behaviour

    simulator.script(Behaviour(hang="after_headers"))
    scope = Scope()

    async def read() -> None:
        async for _ in stream:
            continue

    with bind(ADA, streams=scope):
        stream = async_gateway.stream("Hello", model="gpt-4o-mini")
    task = asyncio.create_task(read())
    await sent(simulator)
    scope.end_reason = "client_disconnected"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert stream.envelope.finish_reason == "client_disconnected"


def test_a_route_given_to_the_call_goes_over_that_of_the_request(client: Client) -> None:
    with bind(ADA, route="/chat/{id}"):
        assert client.ask("Hello", model="gpt-4o-mini", route="/other").envelope.route == "/other"


def test_identity_does_not_reach_the_provider(client: Client, api: dict[str, str], simulator: Simulator) -> None:
    with bind(tenant_id="tenant-canary", caller_id="caller-canary", session_id="session-canary"):
        client.ask("Hello", metadata={"note": "metadata-canary"}, **api)

    [request] = simulator.requests()
    assert "canary" not in repr((request.headers, request.body, request.path))


def test_two_gateways_share_nothing(simulator: Simulator) -> None:
    ledgers = [MemoryLedger(), MemoryLedger()]
    one, two = (Gateway(settings_for(simulator), ledger=ledger) for ledger in ledgers)
    one.call_sync("Hello", model="gpt-4o-mini")
    one.close()
    two.close()

    assert [len(ledger.raw) for ledger in ledgers] == [1, 0]
