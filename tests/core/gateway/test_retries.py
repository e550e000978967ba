"""When a request is sent again, how long the gateway waits first, and what the envelope says about it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnpike import EnvelopeStatus
from turnpike.errors import (
    ProviderAuthenticationError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from turnpike.gateway import effects
from turnpike.gateway.retry import FIRST_BACKOFF_S, MAX_BACKOFF_S, next_delay_s, parse_retry_after
from turnpike.testing.simulator import Behaviour, Simulator

from .conftest import Client, MemoryLedger


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the gateway waited between attempts; no test really waits."""
    waited: list[float] = []

    async def sleep(_self: Any, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(effects.AsyncEffects, "sleep", sleep)
    monkeypatch.setattr(effects.SyncEffects, "sleep", sleep)
    return waited


def test_a_rate_limited_request_is_sent_again_after_what_the_provider_asks_for(
    client: Client, api: dict[str, str], simulator: Simulator, ledger: MemoryLedger, waits: list[float]
) -> None:
    simulator.script(Behaviour(status=429, retry_after="7"), Behaviour(text="Hello"))
    result = client.ask("Hello", **api)

    assert result.text == "Hello"
    assert waits == [7.0]
    envelope = ledger.only
    assert (envelope.status, envelope.retry_count, envelope.error_type) == (EnvelopeStatus.OK, 1, None)
    first, second = envelope.attempts
    assert (first.number, first.status, first.error_type, first.http_status) == (1, "error", "rate_limit", 429)
    assert (first.accepted, first.cost_nano_usd, first.retry_after_s) == (False, 0, 7.0)
    assert (second.number, second.status, second.http_status, second.accepted) == (2, "ok", 200, True)
    assert envelope.cost_nano_usd == second.cost_nano_usd == simulator.bills()[1].cost_nano_usd
    assert envelope.tokens_in == second.tokens_in == simulator.bills()[1].usage.all_input
    assert len(simulator.requests()) == 2


@pytest.mark.parametrize("value", ["0", "0.0", "0.02"])
def test_a_short_retry_after_is_honoured_to_the_letter(
    client: Client, simulator: Simulator, waits: list[float], value: str
) -> None:
    simulator.script(Behaviour(status=429, retry_after=value), Behaviour(text="Hello"))

    assert client.ask("Hello", model="gpt-4o-mini").text == "Hello"
    assert waits == [wait for wait in [float(value)] if wait]


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "soon", "1e999", "", None])
def test_an_unusable_retry_after_leaves_the_gateway_s_own_backoff(
    client: Client, simulator: Simulator, waits: list[float], value: str | None
) -> None:
    simulator.script(Behaviour(status=429, retry_after=value), Behaviour(text="Hello"))

    assert client.ask("Hello", model="gpt-4o-mini").text == "Hello"
    [wait] = waits
    assert 0 < wait <= FIRST_BACKOFF_S


def test_a_retry_after_may_be_a_date(client: Client, simulator: Simulator, waits: list[float]) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    simulator.script(Behaviour(status=503, retry_after=date), Behaviour(text="Hello"))

    assert client.ask("Hello", model="gpt-4o-mini").text == "Hello"
    [wait] = waits
    assert 15 < wait <= 20


@pytest.mark.parametrize("value", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_retry_after_beyond_the_deadline_is_not_waited_for(
    client: Client, simulator: Simulator, waits: list[float], ledger: MemoryLedger, value: str
) -> None:
    simulator.script(Behaviour(status=429, retry_after=value))

    with pytest.raises(ProviderRateLimitError) as caught:
        client.ask("Hello", model="gpt-4o-mini")
    assert waits == []
    assert caught.value.retry_after_s > 60
    assert caught.value.envelope == ledger.only
    assert len(simulator.requests()) == 1


def test_a_server_error_is_tried_again(
    client: Client, api: dict[str, str], simulator: Simulator, waits: list[float], ledger: MemoryLedger
) -> None:
    simulator.script(Behaviour(status=500), Behaviour(status=503), Behaviour(text="Hello"))

    assert client.ask("Hello", **api).text == "Hello"
    assert len(waits) == 2
    assert ledger.only.retry_count == 2
    assert [attempt.http_status for attempt in ledger.only.attempts] == [500, 503, 200]


def test_when_retries_are_used_up_the_last_error_is_raised_and_the_sdk_has_added_none(
    client: Client, api: dict[str, str], simulator: Simulator, waits: list[float], ledger: MemoryLedger
) -> None:
    simulator.default(Behaviour(status=500))

    with pytest.raises(ProviderUnavailableError) as caught:
        client.ask("Hello", **api)
    assert len(simulator.requests()) == 3
    assert len(waits) == 2
    envelope = ledger.only
    assert caught.value.envelope == envelope
    assert (envelope.status, envelope.error_type) == (EnvelopeStatus.ERROR, "transient_error")
    assert (envelope.retry_count, len(envelope.attempts)) == (2, 3)
    assert (envelope.tokens_in, envelope.tokens_out, envelope.cost_nano_usd) == (0, 0, 0)
    assert envelope.estimated_cost_usd == 0.0
    assert all(attempt.accepted is False for attempt in envelope.attempts)


@pytest.mark.parametrize(
    ("status", "category", "kind"),
    [
        (400, "invalid_request", ProviderRequestError),
        (401, "auth_error", ProviderAuthenticationError),
        (403, "auth_error", ProviderAuthenticationError),
        (404, "invalid_request", ProviderRequestError),
        (422, "invalid_request", ProviderRequestError),
    ],
)
def test_what_cannot_get_better_is_sent_once(
    client: Client,
    api: dict[str, str],
    simulator: Simulator,
    ledger: MemoryLedger,
    status: int,
    category: str,
    kind: Any,
) -> None:
    simulator.script(Behaviour(status=status))

    with pytest.raises(kind) as caught:
        client.ask("Hello", **api)
    assert (caught.value.category, caught.value.status, caught.value.provider) == (category, status, api["provider"])
    assert len(simulator.requests()) == 1
    envelope = ledger.only
    assert (envelope.status, envelope.error_type, envelope.retry_count) == (EnvelopeStatus.ERROR, category, 0)
    assert (envelope.cost_nano_usd, envelope.tokens_in) == (0, 0)
    assert envelope.attempts[0].accepted is False


def test_a_client_of_the_user_s_own_does_not_retry_either(
    make_gateway: Any, simulator: Simulator, waits: list[float]
) -> None:
    import openai

    from turnpike import OpenAIProvider

    simulator.default(Behaviour(status=500))
    with openai.OpenAI(base_url=simulator.openai_base_url, api_key="k", max_retries=5) as own:
        gateway = make_gateway({"default_policy": {"retry_attempts": 1}})
        gateway.register_provider("mine", OpenAIProvider(sync_client=own))
        with pytest.raises(ProviderUnavailableError):
            gateway.call_sync("Hello", provider="mine", model="gpt-4o-mini")
    assert len(simulator.requests()) == 2
    assert len(waits) == 1


def test_a_policy_without_retries_sends_once(make_gateway: Any, simulator: Simulator) -> None:
    simulator.default(Behaviour(status=500))
    gateway = make_gateway({"default_policy": {"retry_attempts": 0}})

    with pytest.raises(ProviderUnavailableError):
        gateway.call_sync("Hello", model="gpt-4o-mini")
    assert len(simulator.requests()) == 1


class TestAStream:
    @pytest.mark.parametrize(
        "fault",
        [
            Behaviour(status=529),
            Behaviour(reset="before_headers"),
            Behaviour(reset="after_headers"),
            Behaviour(error_event="error", after_events=0),
            Behaviour(truncate="http_end", after_events=1),
        ],
        ids=["refused", "reset before headers", "reset after headers", "error event", "cut"],
    )
    def test_is_begun_again_before_its_first_token(
        self,
        streaming: Client,
        api: dict[str, str],
        simulator: Simulator,
        waits: list[float],
        fault: Behaviour,
        ledger: MemoryLedger,
    ) -> None:
        simulator.script(fault, Behaviour(text="Hello there"))

        assert streaming.ask("Hello", **api).text == "Hello there"
        assert (ledger.only.status, ledger.only.retry_count) == (EnvelopeStatus.OK, 1)
        assert len(waits) == 1

    @pytest.mark.parametrize(
        "fault",
        [
            {"reset": "mid_stream"},
            {"truncate": "close"},
            {"truncate": "http_end"},
            {"error_event": "error"},
        ],
        ids=["reset", "connection closed", "cut", "error event"],
    )
    def test_is_never_begun_again_after_it(
        self,
        streaming: Client,
        api: dict[str, str],
        simulator: Simulator,
        waits: list[float],
        fault: dict[str, Any],
        ledger: MemoryLedger,
    ) -> None:
        # So many events that the first text is among them in every format.
        simulator.script(Behaviour(chunks=30, after_events=12, **fault))
        stream = streaming.open("Hello", **api)

        assert streaming.next(stream).delta
        with pytest.raises(ProviderError):
            while streaming.next(stream) is not None:
                continue
        assert waits == []
        assert len(simulator.requests()) == 1
        assert (ledger.only.status, ledger.only.retry_count) == (EnvelopeStatus.ERROR, 0)

    def test_that_was_billed_before_it_was_begun_again_has_an_incomplete_sum(
        self, streaming: Client, simulator: Simulator, waits: list[float], ledger: MemoryLedger
    ) -> None:
        simulator.script(Behaviour(reset="after_headers"), Behaviour(text="Hello"))
        streaming.ask("Hello", model="gpt-4o-mini")

        envelope = ledger.only
        assert [attempt.accepted for attempt in envelope.attempts] == [True, True]
        assert envelope.attempts[0].cost_nano_usd is None
        assert envelope.cost_nano_usd == simulator.bills()[1].cost_nano_usd
        assert envelope.cost_quality == "partial"
        assert "attempt_without_cost" in envelope.cost_notes


def test_nothing_is_sent_again_when_the_deadline_has_passed(
    client: Client, simulator: Simulator, ledger: MemoryLedger
) -> None:
    simulator.default(Behaviour(hang="before_headers"))

    with pytest.raises(ProviderTimeoutError) as caught:
        client.ask("Hello", model="gpt-4o-mini", timeout=0.15)
    assert (caught.value.category, caught.value.envelope) == ("timeout", ledger.only)
    simulator.wait_idle()
    assert len(simulator.requests()) == 1
    assert ledger.only.error_type == "timeout"


finite = st.floats(0, 1e9)


class TestTheArithmetic:
    @settings(deadline=None)
    @given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text() | finite.map(str)))
    def test_any_header_is_a_usable_number_or_nothing(self, headers: dict[str, str]) -> None:
        found = parse_retry_after(headers)

        assert found is None or 0 <= found < float("inf")

    @settings(deadline=None)
    @given(finite)
    def test_seconds_are_read_as_written(self, seconds: float) -> None:
        assert parse_retry_after({"retry-after": repr(seconds)}) == seconds

    @settings(deadline=None)
    @given(st.integers(0, 10**9))
    def test_milliseconds_go_before_seconds(self, milliseconds: int) -> None:
        headers = {"retry-after": "5", "retry-after-ms": str(milliseconds)}

        assert parse_retry_after(headers) == milliseconds / 1000

    @settings(deadline=None)
    @given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(-(10**6), 10**6))  # noqa: DTZ001
    def test_a_date_is_counted_from_now_and_never_negative(self, naive: datetime, offset_s: int) -> None:
        now = naive.replace(microsecond=0, tzinfo=UTC)
        headers = {"retry-after": format_datetime(now + timedelta(seconds=offset_s), usegmt=True)}

        assert parse_retry_after(headers, now) == max(0, offset_s)

    @settings(deadline=None)
    @given(st.integers(1, 10**6), st.none() | finite, st.floats(-10, 1e9), st.randoms(use_true_random=False))
    def test_a_wait_fits_into_the_time_left(
        self, failures: int, asked: float | None, remaining: float, rng: random.Random
    ) -> None:
        delay = next_delay_s(failures, asked, remaining, rng)

        assert delay is None or 0 <= delay < remaining
        if delay is not None and asked is not None:
            assert delay == asked
        if delay is not None and asked is None:
            assert delay <= MAX_BACKOFF_S

    @settings(deadline=None)
    @given(st.integers(1, 20), st.randoms(use_true_random=False))
    def test_our_own_wait_doubles_up_to_its_bound(self, failures: int, rng: random.Random) -> None:
        ceiling = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (failures - 1))

        assert next_delay_s(failures, None, 1e9, rng) <= ceiling
