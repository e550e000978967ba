"""Providers that answer by means of their own: subclasses of ``ProviderBase``, and the bare mocks of existing tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar
from unittest.mock import AsyncMock, Mock

import pytest

from turnpike import EnvelopeStatus, Gateway, ProviderBase, ProviderResponse, RoutePolicy
from turnpike.errors import UnsupportedOptionError
from turnpike.gateway.provider import ProviderStreamEvent

from .conftest import WAYS, Client, MemoryLedger


class Echo(ProviderBase):
    """Answers with what it was asked."""

    def __init__(self, **answer: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.options: list[dict[str, Any]] = []
        self.answer = {"tokens_in": 1000, "tokens_out": 500, "finish_reason": "stop", **answer}

    @property
    def provider_name(self) -> str:
        return "echo"

    async def complete(self, *arguments: Any, **options: Any) -> ProviderResponse:
        self.calls.append(arguments)
        self.options.append(options)
        await asyncio.sleep(0)
        return ProviderResponse("you said: " + arguments[0][-1]["content"], **self.answer)


class Failing(Echo):
    """Fails so many times before it answers."""

    def __init__(self, error: BaseException, times: int = 1, *, retryable: Any = True, category: Any = "rate_limit"):
        super().__init__()
        self.error, self.left, self._retryable, self._category = error, times, retryable, category

    async def complete(self, *arguments: Any, **options: Any) -> ProviderResponse:
        if self.left:
            self.left -= 1
            raise self.error
        return await super().complete(*arguments, **options)

    def is_retryable(self, error: BaseException) -> Any:
        if isinstance(self._retryable, Exception):
            raise self._retryable
        return self._retryable

    def categorize_error(self, error: BaseException) -> Any:
        if isinstance(self._category, Exception):
            raise self._category
        return self._category


@pytest.fixture(params=WAYS)
def custom(request: pytest.FixtureRequest) -> Iterator[Client]:
    gateway = Gateway({}, ledger=MemoryLedger())
    gateway.register_route_policy("/echo", RoutePolicy(100, 2, False, {"cheap": "gpt-4o-mini"}, "echo"))
    with asyncio.Runner() as runner:
        yield Client(gateway, request.param, runner)


def ask(custom: Client, provider: Any, prompt: Any = "Hello", **options: Any) -> Any:
    custom.gateway.register_provider("echo", provider)
    return custom.ask(prompt, **{"route": "/echo", "model": "gpt-4o-mini", **options})


def ledger_of(custom: Client) -> MemoryLedger:
    sink = custom.gateway._services.ledger
    assert isinstance(sink, MemoryLedger)
    return sink


def test_a_provider_is_called_with_three_positional_arguments_and_priced_by_its_counts(custom: Client) -> None:
    provider = Echo()
    result = ask(custom, provider)

    assert result.text == "you said: Hello"
    assert provider.calls == [([{"role": "user", "content": "Hello"}], "gpt-4o-mini", 100)]
    assert provider.options == [{}]
    envelope = ledger_of(custom).only
    assert (envelope.tokens_in, envelope.tokens_out, envelope.tokens_total) == (1000, 500, 1500)
    assert envelope.cost_nano_usd == 1000 * 150 + 500 * 600
    assert (envelope.finish_reason, envelope.provider_selected, envelope.provider_api) == ("stop", "echo", None)
    assert envelope.status == EnvelopeStatus.OK


def test_unknown_counts_stay_unknown_and_the_answer_is_returned(custom: Client) -> None:
    result = ask(custom, Echo(tokens_in=None, tokens_out=None))

    assert result.text == "you said: Hello"
    assert (result.tokens_in, result.tokens_out, result.estimated_cost_usd) == (None, None, None)
    assert ledger_of(custom).only.cost_source == "degraded_unknown"


@pytest.mark.parametrize("count", [-1, 1.5, "12", True, float("nan")])
def test_a_count_that_is_none_is_unknown(custom: Client, count: Any) -> None:
    result = ask(custom, Echo(tokens_in=count))

    assert (result.tokens_in, result.text) == (None, "you said: Hello")
    assert ledger_of(custom).only.tokens_in is None


def test_a_model_without_a_price_costs_nobody_the_answer(custom: Client) -> None:
    result = ask(custom, Echo(), model="frobnicator-9")

    assert (result.text, result.estimated_cost_usd, result.tokens_in) == ("you said: Hello", None, 1000)


def test_the_model_that_answered_is_on_the_envelope(custom: Client) -> None:
    result = ask(custom, Echo(response_model="gpt-4o-mini-2024-07-18"))

    assert result.envelope.response_model == "gpt-4o-mini-2024-07-18"
    assert result.envelope.model_selected == "gpt-4o-mini"


def test_declared_options_are_handed_over_and_others_refused(custom: Client) -> None:
    class Warm(Echo):
        supported_options: ClassVar[frozenset[str]] = frozenset({"temperature"})

    provider = Warm()
    ask(custom, provider, temperature=0.5)

    assert provider.options == [{"temperature": 0.5}]
    with pytest.raises(UnsupportedOptionError, match=r"'echo' does not support: top_p\. It supports: temperature"):
        ask(custom, provider, top_p=0.5)
    assert len(provider.calls) == 1


def test_an_error_that_may_pass_is_tried_again(custom: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnpike.gateway.pipeline.next_delay_s", lambda *_: 0.0)
    provider = Failing(ConnectionError("reset"), times=2)

    assert ask(custom, provider).text == "you said: Hello"
    assert ledger_of(custom).only.retry_count == 2


@pytest.mark.parametrize("error", [KeyError("secret"), ConnectionError("secret"), OSError("secret")])
def test_an_error_is_passed_on_as_it_is_and_recorded_by_its_category(custom: Client, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        ask(custom, Failing(error, retryable=False))

    assert caught.value is error
    envelope = ledger_of(custom).only
    assert (envelope.status, envelope.error_type) == (EnvelopeStatus.ERROR, "rate_limit")
    assert envelope.tokens_in is None or envelope.tokens_in == 0
    assert b"secret" not in ledger_of(custom).raw[0]


@pytest.mark.parametrize("category", [ValueError("broken"), 42, None, "made up", "x" * 1000])
def test_a_faulty_categorisation_hides_neither_the_error_nor_the_envelope(custom: Client, category: Any) -> None:
    with pytest.raises(KeyError):
        ask(custom, Failing(KeyError("x"), retryable=False, category=category))

    assert ledger_of(custom).only.error_type == "unknown"


def test_a_faulty_judgement_of_retries_hides_neither(custom: Client) -> None:
    with pytest.raises(KeyError):
        ask(custom, Failing(KeyError("x"), retryable=ValueError("broken")))

    assert ledger_of(custom).only.retry_count == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("way", ["complete_sync"])
def test_an_interrupt_is_recorded_and_passed_on(error: type[BaseException], way: str) -> None:
    class Interrupted(Echo):
        def complete_sync(self, *arguments: Any, **options: Any) -> ProviderResponse:
            raise error

    ledger = MemoryLedger()
    gateway = Gateway({}, ledger=ledger)
    gateway.register_route_policy("/echo", RoutePolicy(100, 2, False, {}, "echo"))
    gateway.register_provider("echo", Interrupted())

    with pytest.raises(error):
        gateway.call_sync("Hello", route="/echo", model="x")
    assert ledger.only.status == EnvelopeStatus.CANCELLED


class Streaming(Echo):
    """Streams in pieces and says when it was closed."""

    def __init__(self, fail_after: int | None = None) -> None:
        super().__init__()
        self.closed = threading.Event()
        self.fail_after = fail_after

    async def stream(self, *arguments: Any, **options: Any) -> AsyncIterator[ProviderStreamEvent]:
        try:
            for number in range(5):
                if number == self.fail_after:
                    raise ConnectionError("broken off")
                await asyncio.sleep(0)
                yield ProviderStreamEvent(delta=f"{number} ", tokens_in=10, tokens_out=number + 1)
            yield ProviderStreamEvent(finish_reason="stop", response_model="gpt-4o-mini")
        finally:
            self.closed.set()


@pytest.fixture(params=["stream", "stream_sync"])
def stream_of(request: pytest.FixtureRequest) -> Iterator[Client]:
    gateway = Gateway({}, ledger=MemoryLedger())
    gateway.register_route_policy("/echo", RoutePolicy(100, 2, False, {}, "echo"))
    with asyncio.Runner() as runner:
        yield Client(gateway, request.param, runner)


class TestAStream:
    def test_of_events_gives_text_and_the_last_counts(self, stream_of: Client) -> None:
        result = ask(stream_of, Streaming())

        assert result.text == "0 1 2 3 4 "
        assert (result.tokens_in, result.tokens_out, result.finish_reason) == (10, 5, "stop")

    def test_that_fails_in_the_middle_is_not_begun_again_and_keeps_its_counts(self, stream_of: Client) -> None:
        with pytest.raises(ConnectionError):
            ask(stream_of, Streaming(fail_after=3))

        envelope = ledger_of(stream_of).only
        assert (envelope.status, envelope.retry_count) == (EnvelopeStatus.ERROR, 0)
        assert (envelope.tokens_in, envelope.tokens_out) == (10, 3)
        assert envelope.cost_quality == "partial"

    @pytest.mark.parametrize("end", ["close", "finish"])
    def test_that_is_left_closes_the_provider_s_generator(self, stream_of: Client, end: str) -> None:
        provider = Streaming()
        stream_of.gateway.register_provider("echo", provider)
        stream = stream_of.open("Hello", route="/echo", model="gpt-4o-mini")
        stream_of.next(stream)
        if end == "close":
            stream_of.close(stream)
        else:
            stream.finish("client_disconnected")
            if stream_of.is_async:
                stream_of._run(asyncio.sleep(0.01))

        assert provider.closed.wait(2)
        assert ledger_of(stream_of).only.status == EnvelopeStatus.CANCELLED


class TestTheDeadline:
    @pytest.mark.parametrize("way", WAYS)
    def test_ends_a_provider_that_never_answers(self, way: str) -> None:
        class Stuck(Echo):
            async def complete(self, *arguments: Any, **options: Any) -> ProviderResponse:
                await asyncio.Event().wait()
                raise AssertionError

        ledger = MemoryLedger()
        gateway = Gateway({}, ledger=ledger)
        gateway.register_route_policy("/echo", RoutePolicy(100, 0, False, {}, "echo"))
        gateway.register_provider("echo", Stuck())
        outcome: list[BaseException] = []

        def work() -> None:
            with asyncio.Runner() as runner:
                try:
                    Client(gateway, way, runner).ask("Hello", route="/echo", model="x", timeout=0.1)
                except BaseException as error:
                    outcome.append(error)

        # In a thread, so that a call that hangs is a failure here and not the end of the test run.
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(3)

        assert not worker.is_alive(), "the call outlived its deadline"
        assert [isinstance(error, Exception) for error in outcome] == [True]
        assert (ledger.only.status, ledger.only.error_type) == (EnvelopeStatus.ERROR, "timeout")


class TestABareMock:
    """Existing test suites fake providers with mocks, which answer truthily to any attribute that is probed."""

    def mock(self, response: Any) -> Mock:
        return Mock(complete=AsyncMock(return_value=response))

    @pytest.mark.parametrize("way", ["call", "call_sync"])
    def test_answers_calls(self, way: str) -> None:
        gateway = Gateway({}, ledger=MemoryLedger())
        gateway.register_route_policy("/echo", RoutePolicy(100, 2, False, {"cheap": "gpt-4o-mini"}, "echo"))
        provider = self.mock(ProviderResponse("Hello", 10, 5))
        gateway.register_provider("echo", provider)
        with asyncio.Runner() as runner:
            result = Client(gateway, way, runner).ask("Hi", route="/echo", tier="cheap")

        assert (result.text, result.tokens_in, result.tokens_out) == ("Hello", 10, 5)
        assert result.envelope.provider_selected == "echo"
        provider.complete.assert_called_once_with([{"role": "user", "content": "Hi"}], "gpt-4o-mini", 100)

    def test_that_answers_with_a_mock_yields_nothing_invented(self) -> None:
        gateway = Gateway({}, ledger=(ledger := MemoryLedger()))
        gateway.register_route_policy("/echo", RoutePolicy(100, 2, False, {"cheap": "gpt-4o-mini"}, "echo"))
        gateway.register_provider("echo", self.mock(Mock(text="Hello")))
        result = gateway.call_sync("Hi", route="/echo", tier="cheap")

        assert (result.text, result.tokens_in, result.finish_reason) == ("Hello", None, None)
        assert ledger.only.response_model is None

    def test_that_fails_is_not_retried_for_its_truthy_attributes(self) -> None:
        gateway = Gateway({}, ledger=(ledger := MemoryLedger()))
        gateway.register_route_policy("/echo", RoutePolicy(100, 2, False, {"cheap": "gpt-4o-mini"}, "echo"))
        provider = Mock(complete=AsyncMock(side_effect=RuntimeError("boom")))
        gateway.register_provider("echo", provider)

        with pytest.raises(RuntimeError, match="boom"):
            gateway.call_sync("Hi", route="/echo", tier="cheap")
        assert provider.complete.call_count == 1
        assert ledger.only.error_type == "unknown"
