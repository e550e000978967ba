"""The provider for users' tests: what it answers, what it notes, and how a test holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from turnpike import Gateway, LLMRequestContext, LLMRequestEnvelope
from turnpike.context import bind
from turnpike.errors import CallCancelledError, ProviderRateLimitError, ProviderTimeoutError
from turnpike.gateway.result import CallResult
from turnpike.settings import Settings
from turnpike.testing.fake_provider import FakeAnswer, FakeProvider

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider(timeout_s=5)


@pytest.fixture
def connect() -> Iterator[Callable[[FakeProvider], Gateway]]:
    made: list[Gateway] = []

    def gateway_of(provider: FakeProvider) -> Gateway:
        settings = {"default_policy": {"provider": "openai"}, "tiers": {"cheap": "gpt-4o-mini"}, "ledger": False}
        made.append(Gateway(Settings.from_dict(settings)))
        made[-1].register_provider("openai", provider)
        return made[-1]

    yield gateway_of
    for gateway in made:
        gateway.close()


@pytest.fixture
def gateway(connect: Callable[[FakeProvider], Gateway], provider: FakeProvider) -> Gateway:
    return connect(provider)


def settled(result: CallResult) -> LLMRequestEnvelope:
    assert result.envelope is not None
    return result.envelope


# ------------------------------------------------------------------------------------------------------- answers


async def test_every_way_of_asking_gets_the_same_answer(gateway: Gateway) -> None:
    assert (await gateway.call("hi", tier="cheap")).text == "A fake answer."
    assert await asyncio.to_thread(lambda: gateway.call_sync("hi", tier="cheap").text) == "A fake answer."
    assert [piece async for piece in gateway.stream("hi", tier="cheap").text()] == ["A", " fake", " answer."]
    read = await asyncio.to_thread(lambda: list(gateway.stream_sync("hi", tier="cheap").text()))
    assert read == ["A", " fake", " answer."]


def test_answers_are_counted_in_words_and_priced(gateway: Gateway) -> None:
    envelope = settled(gateway.call_sync("one two three four", tier="cheap"))
    assert (envelope.tokens_in, envelope.tokens_out, envelope.finish_reason) == (4, 3, "stop")
    assert envelope.cost_nano_usd == 4 * 150 + 3 * 600


def test_scripted_answers_come_first_and_once(gateway: Gateway, provider: FakeProvider) -> None:
    provider.script("one", FakeAnswer(text="two", model="gpt-4o-mini-2024-07-18", finish_reason="length"))
    assert provider.scripts_left() == 2
    results = [gateway.call_sync("hi", tier="cheap") for _ in range(3)]
    assert [result.text for result in results] == ["one", "two", "A fake answer."]
    assert (results[1].finish_reason, results[1].response_model) == ("length", "gpt-4o-mini-2024-07-18")
    provider.default("three")
    assert gateway.call_sync("hi", tier="cheap").text == "three"


def test_an_answer_may_depend_on_the_request(gateway: Gateway, provider: FakeProvider) -> None:
    provider.default(lambda request: f"{request.context.tenant_id} asks: {request.prompt}")
    with bind(tenant_id="acme"):
        assert gateway.call_sync("why?", tier="cheap").text == "acme asks: why?"


def test_usage_may_be_given_or_missing(gateway: Gateway, provider: FakeProvider) -> None:
    provider.script(FakeAnswer(tokens_in=7, tokens_out=9), FakeAnswer(tokens_in=None, tokens_out=None))
    given, missing = (settled(gateway.call_sync("hi", tier="cheap")) for _ in range(2))
    assert (given.tokens_in, given.tokens_out) == (7, 9)
    assert (missing.tokens_in, missing.tokens_out, missing.cost_nano_usd) == (None, None, None)


def test_what_is_no_answer_is_refused_by_name(gateway: Gateway, provider: FakeProvider) -> None:
    provider.script(ValueError)
    with pytest.raises(TypeError, match="an error or a function of the request; got type"):
        gateway.call_sync("hi", tier="cheap")


# -------------------------------------------------------------------------------------------------------- errors


def test_a_scripted_error_is_raised_and_not_retried(gateway: Gateway, provider: FakeProvider) -> None:
    error = ProviderTimeoutError("openai", "too slow")
    provider.script(error)
    with pytest.raises(ProviderTimeoutError) as caught:
        gateway.call_sync("hi", tier="cheap")
    assert caught.value is error
    assert [request.ending for request in provider.requests] == ["failed"]


def test_retries_are_made_where_the_test_wants_them(connect: Callable[[FakeProvider], Gateway]) -> None:
    provider = FakeProvider("at last", retryable=True)
    provider.script(ProviderRateLimitError("openai", "busy", retry_after_s=0.0))
    result = connect(provider).call_sync("hi", tier="cheap")
    assert (result.text, settled(result).retry_count) == ("at last", 1)


def test_a_stream_may_fail_midway(gateway: Gateway, provider: FakeProvider) -> None:
    error = ProviderTimeoutError("openai", "too slow")
    provider.script(FakeAnswer(chunks=("a", "b", "c"), error=error, error_after=2))
    stream = gateway.stream_sync("hi", tier="cheap")
    pieces = stream.text()
    assert [next(pieces), next(pieces)] == ["a", "b"]
    with pytest.raises(ProviderTimeoutError):
        next(pieces)
    assert provider.requests[0].ending == "failed"


# ------------------------------------------------------------------------------------------------- what it notes


def test_requests_say_what_was_asked_and_by_whom(gateway: Gateway, provider: FakeProvider) -> None:
    with bind(LLMRequestContext(tenant_id="acme"), route="/chat/{id}"):
        gateway.call_sync([{"role": "user", "content": "why?"}], tier="cheap", temperature=0.5, max_output_tokens=9)
    gateway.call_sync([{"role": "user", "content": [{"type": "text", "text": "in parts"}]}], model="gpt-4o")
    bound, unbound = provider.requests
    assert (bound.prompt, bound.model, bound.max_output_tokens, bound.streamed) == ("why?", "gpt-4o-mini", 9, False)
    assert (bound.options, bound.context.tenant_id, bound.route) == ({"temperature": 0.5}, "acme", "/chat/{id}")
    assert (unbound.prompt, unbound.context, unbound.route) == ("in parts", LLMRequestContext(), None)
    provider.reset()
    assert provider.requests == ()


def test_no_repr_shows_what_was_asked_or_answered(gateway: Gateway, provider: FakeProvider) -> None:
    gateway.call_sync("secret question", tier="cheap", system="secret system")
    shown = repr((provider, provider.requests, FakeAnswer(text="secret answer", chunks=("secret", "chunks"))))
    assert "secret" not in shown


async def test_a_stream_that_is_closed_early_is_noted(gateway: Gateway, provider: FakeProvider) -> None:
    async with gateway.stream("hi", tier="cheap") as stream:
        await anext(stream)
        assert provider.requests[0].ending is None
    await provider.wait_idle_async()
    assert provider.requests[0].ending == "closed"


async def test_the_binding_is_noted_at_every_step_of_a_stream(gateway: Gateway, provider: FakeProvider) -> None:
    stream = gateway.stream("hi", tier="cheap")
    for tenant in ("a", "b"):
        with bind(tenant_id=tenant):
            await anext(stream)
    await stream.aclose()
    steps = [binding.context.tenant_id for binding in provider.requests[0].steps if binding is not None]
    assert steps == ["a", "b"]


# ------------------------------------------------------------------------------------------------------- holding


def test_plain_answers_can_be_held_in_threads(gateway: Gateway, provider: FakeProvider) -> None:
    with ThreadPoolExecutor(3) as pool, provider.hold() as held:
        calls = [pool.submit(gateway.call_sync, f"{number}", tier="cheap") for number in range(3)]
        held.wait_for(3)
        assert not any(call.done() for call in calls)
        held.release(of=lambda request: request.prompt == "1")
        assert calls[1].result(5).text == "A fake answer."
        assert held.waiting == 2
        held.release()
        held.release()
    assert all(call.result(5) for call in calls)


async def test_streams_can_be_held_chunk_by_chunk_in_tasks(gateway: Gateway, provider: FakeProvider) -> None:
    received: list[str] = []

    async def read() -> None:
        async for chunk in gateway.stream("hi", tier="cheap"):
            received.append(chunk.delta)  # noqa: PERF401 - seen while it is read

    with provider.hold() as held:
        reading = asyncio.create_task(read())
        await held.wait_for_async()
        assert received == []
        held.release(2)
        await held.wait_for_async()
        assert received == ["A", " fake"]
        held.open()
        await reading
    assert "".join(received) == "A fake answer."


async def test_a_held_task_can_be_cancelled(gateway: Gateway, provider: FakeProvider) -> None:
    with provider.hold() as held:
        call = asyncio.create_task(gateway.call("hi", tier="cheap"))
        await held.wait_for_async()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert held.waiting == 0
    assert provider.requests[0].ending == "closed"


def test_steps_released_in_advance_are_kept(gateway: Gateway, provider: FakeProvider) -> None:
    with provider.hold() as held:
        held.release(3)
        assert [chunk.delta for chunk in gateway.stream_sync("hi", tier="cheap")] == ["A", " fake", " answer.", ""]


def test_a_second_hold_ends_the_first(gateway: Gateway, provider: FakeProvider) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = provider.hold()
        call = pool.submit(gateway.call_sync, "hi", tier="cheap")
        first.wait_for()
        with provider.hold():
            assert call.result(5).text == "A fake answer."


def test_a_test_that_forgets_to_release_fails_instead_of_hanging(connect: Callable[[FakeProvider], Gateway]) -> None:
    provider = FakeProvider(timeout_s=0.01)
    gateway = connect(provider)
    with provider.hold(), pytest.raises(AssertionError, match="the test has not released it"):
        gateway.call_sync("hi", tier="cheap")


async def test_the_same_goes_for_tasks(connect: Callable[[FakeProvider], Gateway]) -> None:
    provider = FakeProvider(timeout_s=0.01)
    gateway = connect(provider)
    with provider.hold(), pytest.raises(AssertionError, match="the test has not released it"):
        await gateway.call("hi", tier="cheap")


# ------------------------------------------------------------------------------------------------------- waiting


def test_waiting_for_requests_returns_them(gateway: Gateway, provider: FakeProvider) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(2):
            pool.submit(gateway.call_sync, f"{number}", tier="cheap")
        assert {request.prompt for request in provider.wait_for(2)} == {"0", "1"}
        provider.wait_idle()
    assert {request.ending for request in provider.requests} == {"complete"}


async def test_waiting_does_not_hold_up_the_loop(gateway: Gateway, provider: FakeProvider) -> None:
    call = asyncio.create_task(gateway.call("hi", tier="cheap"))
    [request] = await provider.wait_for_async()
    await provider.wait_idle_async()
    assert (await call, request.ending)[1] == "complete"


def test_waiting_in_vain_says_for_what(provider: FakeProvider) -> None:
    with pytest.raises(TimeoutError, match=r"waited 0\.01 s in vain: 0 of 2 requests have arrived"):
        provider.wait_for(2, timeout_s=0.01)
    with provider.hold() as held, pytest.raises(TimeoutError, match="0 of 1 requests are held"):
        held.wait_for(timeout_s=0.01)


async def test_waiting_in_vain_says_for_what_in_tasks_too(gateway: Gateway, provider: FakeProvider) -> None:
    stream = gateway.stream("hi", tier="cheap")
    await anext(stream)
    with pytest.raises(TimeoutError, match="1 requests are still in progress"):
        await provider.wait_idle_async(timeout_s=0.01)
    await stream.aclose()


def test_a_stream_that_is_finished_elsewhere_ends_for_its_reader(gateway: Gateway, provider: FakeProvider) -> None:
    stream = gateway.stream_sync("hi", tier="cheap")
    next(stream)
    stream.finish("client_disconnected")
    with pytest.raises(CallCancelledError):
        next(stream)
    provider.wait_idle()
    assert provider.requests[0].ending == "closed"
