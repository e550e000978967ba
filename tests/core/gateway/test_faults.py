"""What a call does when the provider hangs, drips, breaks off or lies: one error, one envelope, by the deadline."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Self

import pytest

from turnpike import CostQuality, EnvelopeStatus
from turnpike.errors import ProviderError, ProviderProtocolError, ProviderTimeoutError, ProviderUnavailableError
from turnpike.testing.simulator import Behaviour, Simulator

from .conftest import MODELS, Client, MemoryLedger

TIMEOUT_S = 0.25
SLACK_S = 0.75


class Elapsed:
    """Measures a block that must end by its deadline."""

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began


SLOW = {
    "before headers": Behaviour(hang="before_headers"),
    "after headers": Behaviour(hang="after_headers"),
    "in the body": Behaviour(hang="mid_stream", after_events=12, chunks=30),
    "dripping body": Behaviour(text="slow " * 100, bytes_per_write=1, gap_ms=10),
}


@pytest.mark.parametrize(
    ("where", "asked"),
    [
        *[(where, "openai-chat") for where in SLOW],
        ("in the body", "openai-responses"),
        ("in the body", "anthropic-messages"),
    ],
)
def test_the_deadline_holds_wherever_the_provider_is_slow(
    client: Client, simulator: Simulator, ledger: MemoryLedger, where: str, asked: str
) -> None:
    simulator.default(SLOW[where])

    with Elapsed() as elapsed, pytest.raises(ProviderTimeoutError) as caught:
        client.ask("Hello", timeout=TIMEOUT_S, **MODELS[asked])
    assert TIMEOUT_S * 0.8 < elapsed.seconds < TIMEOUT_S + SLACK_S
    envelope = ledger.only
    assert caught.value.envelope == envelope
    assert (envelope.status, envelope.error_type) == (EnvelopeStatus.ERROR, "timeout")
    assert envelope.latency_ms >= TIMEOUT_S * 800


def test_time_spent_before_the_body_counts_towards_the_deadline(
    client: Client, simulator: Simulator, ledger: MemoryLedger
) -> None:
    simulator.default(Behaviour(delay_ms=400, text="slow " * 100, bytes_per_write=1, gap_ms=10))

    with Elapsed() as elapsed, pytest.raises(ProviderTimeoutError):
        client.ask("Hello", timeout=0.5, model="gpt-4o-mini")
    assert elapsed.seconds < 0.8
    assert ledger.only.error_type == "timeout"


def test_a_request_that_was_taken_on_and_timed_out_has_an_unknown_cost(
    client: Client, simulator: Simulator, ledger: MemoryLedger
) -> None:
    simulator.script(Behaviour(hang="after_headers"))

    with pytest.raises(ProviderTimeoutError):
        client.ask("Hello", timeout=0.3, model="gpt-4o-mini")
    envelope = ledger.only
    assert (envelope.cost_nano_usd, envelope.estimated_cost_usd, envelope.tokens_in) == (None, None, None)
    assert envelope.attempts[0].accepted is True
    assert envelope.cost_quality == CostQuality.UNKNOWN


def test_a_reset_before_the_headers_leaves_open_whether_the_request_was_taken_on(
    client: Client, simulator: Simulator, ledger: MemoryLedger, make_gateway: Any
) -> None:
    simulator.default(Behaviour(reset="before_headers"))

    with pytest.raises(ProviderUnavailableError):
        client.ask("Hello", timeout=0.2, model="gpt-4o-mini")
    envelope = ledger.only
    assert envelope.attempts[0].accepted is None
    assert (envelope.cost_nano_usd, envelope.error_type) == (None, "transient_error")


def test_a_server_that_cannot_be_reached_was_asked_nothing_and_costs_nothing(
    make_gateway: Any, unused_port: int
) -> None:
    provider = {"type": "openai", "base_url": f"http://127.0.0.1:{unused_port}/v1", "api_key": "k"}
    ledger = MemoryLedger()
    gateway = make_gateway({"providers": {"chat": provider}}, ledger=ledger)

    with pytest.raises(ProviderUnavailableError, match="could not be reached"):
        gateway.call_sync("Hello", timeout=0.2, model="gpt-4o-mini")
    assert ledger.only.attempts[0].accepted is False
    assert (ledger.only.cost_nano_usd, ledger.only.tokens_in) == (0, 0)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("body", [{"truncate": "close"}, {"truncate": "http_end"}, {"reset": "mid_stream"}])
def test_a_json_answer_that_is_cut_is_an_error_of_unknown_cost(
    make_gateway: Any, api: dict[str, str], simulator: Simulator, body: dict[str, Any]
) -> None:
    ledger = MemoryLedger()
    gateway = make_gateway({"default_policy": {"retry_attempts": 0}}, ledger=ledger)
    simulator.script(Behaviour(**body))

    with pytest.raises(ProviderError) as caught:
        gateway.call_sync("Hello", **api)
    assert caught.value.category == "transient_error"
    envelope = ledger.only
    assert envelope.status == EnvelopeStatus.ERROR
    assert (envelope.cost_nano_usd, envelope.tokens_in, envelope.attempts[0].accepted) == (None, None, True)


@pytest.mark.parametrize("corruption", ["invalid_json"])
def test_a_json_answer_that_is_no_json_is_a_protocol_error(
    make_gateway: Any, api: dict[str, str], simulator: Simulator, corruption: str
) -> None:
    gateway = make_gateway({"default_policy": {"retry_attempts": 0}})
    simulator.script(Behaviour(corrupt=(corruption,)))

    with pytest.raises(ProviderProtocolError) as caught:
        gateway.call_sync("Hello", **api)
    assert caught.value.status == 200


class TestAStreamThatBreaksOff:
    @pytest.mark.parametrize("fault", [{"truncate": "close"}, {"truncate": "http_end"}, {"reset": "mid_stream"}])
    def test_is_an_error_and_never_a_success(
        self,
        streaming: Client,
        api: dict[str, str],
        simulator: Simulator,
        ledger: MemoryLedger,
        fault: dict[str, Any],
    ) -> None:
        simulator.script(Behaviour(chunks=30, after_events=14, **fault))
        stream = streaming.open("Hello", **api)

        with pytest.raises(ProviderError):
            while streaming.next(stream) is not None:
                continue
        envelope = ledger.only
        assert (envelope.status, envelope.error_type) == (EnvelopeStatus.ERROR, "transient_error")
        assert envelope.finish_reason != "stop"
        with pytest.raises(RuntimeError):
            _ = stream.result

    def test_keeps_the_usage_that_was_known_and_calls_it_partial(
        self, streaming: Client, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(Behaviour(chunks=30, input_tokens=1000, truncate="http_end", after_events=14))
        stream = streaming.open("Hello", **MODELS["anthropic-messages"])

        with pytest.raises(ProviderProtocolError):
            while streaming.next(stream) is not None:
                continue
        envelope = ledger.only
        assert envelope.tokens_in == 1000
        assert envelope.cost_quality == CostQuality.PARTIAL
        assert 0 < envelope.cost_nano_usd <= simulator.bills()[0].cost_nano_usd

    def test_has_no_figures_where_none_had_come(
        self, streaming: Client, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(Behaviour(chunks=30, truncate="http_end", after_events=14))
        stream = streaming.open("Hello", **MODELS["openai-chat"])

        with pytest.raises(ProviderProtocolError):
            while streaming.next(stream) is not None:
                continue
        envelope = ledger.only
        assert (envelope.tokens_in, envelope.tokens_out, envelope.cost_nano_usd) == (None, None, None)
        assert envelope.response_id == simulator.bills()[0].response_id

    @pytest.mark.parametrize("event", ["error", "response.failed"])
    def test_with_an_error_event_says_so(
        self, streaming: Client, simulator: Simulator, ledger: MemoryLedger, event: str
    ) -> None:
        simulator.script(Behaviour(chunks=30, after_events=14, error_event=event, error_message="SECRET WORDS"))
        stream = streaming.open("Hello", **MODELS["openai-responses"])

        with pytest.raises(ProviderError) as caught:
            while streaming.next(stream) is not None:
                continue
        assert "SECRET" not in str(caught.value)
        assert (ledger.only.status, ledger.only.attempts[0].accepted) == (EnvelopeStatus.ERROR, True)

    def test_as_incomplete_is_an_answer_that_ended_early(
        self, streaming: Client, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(Behaviour(chunks=30, after_events=14, error_event="response.incomplete"))
        result = streaming.ask("Hello", **MODELS["openai-responses"])

        assert (result.finish_reason, ledger.only.status) == ("content_filter", EnvelopeStatus.OK)


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return 1_790_000_000.0 + self.now_s


class TestTheConsumersOwnTime:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    def test_is_neither_latency_nor_part_of_the_deadline_of_a_sync_stream(
        self, make_gateway: Any, clock: ManualClock, simulator: Simulator
    ) -> None:
        gateway = make_gateway(clock=clock)
        simulator.script(Behaviour(chunks=10, gap_ms=1))
        stream = gateway.stream_sync("Hello", model="gpt-4o-mini", timeout=5)
        for _ in stream:
            clock.now_s += 100

        assert stream.envelope.status == EnvelopeStatus.OK
        assert stream.envelope.latency_ms == 0

    @pytest.mark.anyio
    async def test_is_neither_latency_nor_part_of_the_deadline_of_an_async_stream(
        self, simulator: Simulator, make_gateway: Any, clock: ManualClock
    ) -> None:
        gateway = make_gateway(clock=clock)
        simulator.script(Behaviour(chunks=10, gap_ms=1))
        stream = gateway.stream("Hello", model="gpt-4o-mini", timeout=5)
        async for _ in stream:
            clock.now_s += 100
        await gateway.aclose()

        assert stream.envelope.status == EnvelopeStatus.OK
        assert stream.envelope.latency_ms == 0


def test_an_answer_that_comes_in_time_is_not_hurried(client: Client, simulator: Simulator) -> None:
    simulator.script(Behaviour(text="Hello there", delay_ms=100))

    assert client.ask("Hello", model="gpt-4o-mini", timeout=5).text == "Hello there"


class TestAPoolOfOneConnection:
    """A call that failed must give its connection back, or the next one would wait for it in vain."""

    FAULTS = (
        Behaviour(hang="after_headers"),
        Behaviour(hang="mid_stream", after_events=12, chunks=30),
        Behaviour(truncate="http_end"),
        Behaviour(status=400),
        Behaviour(corrupt=("invalid_json",)),
    )

    @pytest.fixture
    def single(self, simulator: Simulator) -> dict[str, Any]:
        chat = {"type": "openai", "base_url": simulator.openai_base_url, "api_key": "k", "max_connections": 1}
        return {"providers": {"chat": chat}, "default_policy": {"retry_attempts": 0}}

    def test_serves_the_next_synchronous_call(
        self, make_gateway: Any, single: dict[str, Any], simulator: Simulator
    ) -> None:
        gateway = make_gateway(single)
        for fault in self.FAULTS:
            simulator.script(fault, Behaviour(text="Hello"), fault, Behaviour(text="Hello"))
            with pytest.raises(ProviderError):
                gateway.call_sync("Hello", model="gpt-4o-mini", timeout=0.1)
            assert gateway.call_sync("Hello", model="gpt-4o-mini", timeout=5).text == "Hello"
            with contextlib.suppress(ProviderError):
                list(gateway.stream_sync("Hello", model="gpt-4o-mini", timeout=0.1))
            assert gateway.call_sync("Hello", model="gpt-4o-mini", timeout=5).text == "Hello"

    @pytest.mark.anyio
    async def test_serves_the_next_asynchronous_call(
        self, make_gateway: Any, single: dict[str, Any], simulator: Simulator
    ) -> None:
        gateway = make_gateway(single)
        for fault in self.FAULTS:
            simulator.script(fault, Behaviour(text="Hello"), fault, Behaviour(text="Hello"))
            with pytest.raises(ProviderError):
                await gateway.call("Hello", model="gpt-4o-mini", timeout=0.1)
            assert (await gateway.call("Hello", model="gpt-4o-mini", timeout=5)).text == "Hello"
            with contextlib.suppress(ProviderError):
                async for _ in gateway.stream("Hello", model="gpt-4o-mini", timeout=0.1):
                    continue
            assert (await gateway.call("Hello", model="gpt-4o-mini", timeout=5)).text == "Hello"
        await gateway.aclose()
