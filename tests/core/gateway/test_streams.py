"""How a stream can end: read, closed, cancelled, dropped, finished from elsewhere. Each leaves exactly one envelope."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import anyio
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from turnpike import EnvelopeStatus, Gateway, bind, current_context
from turnpike.context import current_binding
from turnpike.errors import CallCancelledError, ProviderError
from turnpike.testing.simulator import Behaviour, Simulator

from .conftest import Client, MemoryLedger, ledger_of, sent, settings_for, turns_until

HANGING = Behaviour(hang="mid_stream", after_events=12, chunks=30)
SILENT = Behaviour(hang="after_headers")
MUTE = Behaviour(hang="before_headers")


def assert_cancelled(envelope: Any, finish_reason: str = "abandoned") -> None:
    assert envelope.status == EnvelopeStatus.CANCELLED
    assert (envelope.error_type, envelope.finish_reason) == ("cancelled", finish_reason)


class TestAStreamThatIsReadToItsEnd:
    def test_gives_pieces_of_text_and_then_the_finish_reason(self, streaming: Client, simulator: Simulator) -> None:
        simulator.script(Behaviour(text="one two three", chunks=3))
        stream = streaming.open("Hello", model="gpt-4o-mini")
        chunks = []
        while (chunk := streaming.next(stream)) is not None:
            chunks.append(chunk)

        assert [bool(chunk.delta) for chunk in chunks] == [True, True, True, False]
        assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "stop"]
        assert "".join(map(str, chunks)) == "one two three"
        assert b"".join(chunk.encode() for chunk in chunks) == b"one two three"

    def test_has_its_result_only_then(self, streaming: Client) -> None:
        stream = streaming.open("Hello", model="gpt-4o-mini")
        streaming.next(stream)
        assert stream.envelope is None
        with pytest.raises(RuntimeError, match="read to its end"):
            _ = stream.result
        while streaming.next(stream) is not None:
            continue

        assert stream.result.envelope == stream.envelope
        assert stream.result.request_id == stream.request_id

    def test_stays_at_its_end_and_cannot_be_begun_again(self, streaming: Client, ledger: MemoryLedger) -> None:
        stream = streaming.open("Hello", model="gpt-4o-mini")
        begin = stream.__aiter__ if streaming.is_async else stream.__iter__
        begin()
        while streaming.next(stream) is not None:
            continue
        assert streaming.next(stream) is None
        with pytest.raises(RuntimeError, match="cannot be read again"):
            begin()
        streaming.close(stream)
        stream.finish()

        assert ledger.only.status == EnvelopeStatus.OK

    def test_can_be_read_in_two_loops(self, gateway: Gateway, simulator: Simulator) -> None:
        simulator.script(Behaviour(text="one two three", chunks=3))
        stream = gateway.stream_sync("Hello", model="gpt-4o-mini")
        first = next(iter(stream)).delta

        assert first + "".join(chunk.delta for chunk in stream) == "one two three"

    def test_can_be_seen_as_text_or_as_events(self, gateway: Gateway, simulator: Simulator) -> None:
        simulator.script(*[Behaviour(text="one\ntwo", chunks=2)] * 2)

        assert "".join(gateway.stream_sync("Hello", model="gpt-4o-mini").text()) == "one\ntwo"
        events = b"".join(gateway.stream_sync("Hello", model="gpt-4o-mini").sse())
        assert events.startswith(b'data: {"delta":"')
        assert events.endswith(b'"finish_reason":"stop"}\n\n')
        assert events.count(b"\n\n") == events.count(b"data: ") == 3

    @pytest.mark.anyio
    async def test_can_be_seen_as_text_or_as_events_asynchronously(
        self, async_gateway: Gateway, simulator: Simulator
    ) -> None:
        simulator.script(*[Behaviour(text="one\ntwo", chunks=2)] * 2)

        texts = [piece async for piece in async_gateway.stream("Hello", model="gpt-4o-mini").text()]
        assert "".join(texts) == "one\ntwo"
        events = [piece async for piece in async_gateway.stream("Hello", model="gpt-4o-mini").sse()]
        assert events[-1] == b'data: {"delta":"","finish_reason":"stop"}\n\n'


class TestAStreamThatIsLeft:
    def test_is_settled_when_it_is_closed(
        self, streaming: Client, api: dict[str, str], simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(HANGING)
        stream = streaming.open("Hello", **api)
        assert streaming.next(stream).delta
        streaming.close(stream)
        streaming.close(stream)

        assert_cancelled(ledger.only)
        assert ledger.only.attempts[0].accepted is True
        assert ledger.only.time_to_first_token_ms is not None
        assert stream.envelope == ledger.only
        with pytest.raises(CallCancelledError):
            streaming.next(stream)
        with pytest.raises(RuntimeError):
            _ = stream.result
        simulator.wait_idle(bills=1)
        assert simulator.bills()[0].aborted_by_client

    def test_knows_the_input_that_anthropic_reports_at_the_start(
        self, streaming: Client, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(Behaviour(hang="mid_stream", after_events=12, chunks=30, input_tokens=2000))
        stream = streaming.open("Hello", provider="claude", model="claude-haiku-4-5")
        streaming.next(stream)
        streaming.close(stream)

        assert ledger.only.tokens_in == 2000
        assert ledger.only.cost_quality == "partial"
        assert ledger.only.cost_nano_usd >= 2_000_000

    def test_never_began_and_cost_nothing_if_it_was_never_read(
        self, streaming: Client, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        stream = streaming.open("Hello", model="gpt-4o-mini")
        assert ledger.raw == []
        streaming.close(stream)

        envelope = ledger.only
        assert_cancelled(envelope)
        assert (envelope.attempts, envelope.retry_count) == ((), 0)
        assert (envelope.cost_nano_usd, envelope.tokens_in, envelope.tokens_out) == (0, 0, 0)
        assert simulator.requests() == []

    def test_is_settled_by_the_next_call_once_it_was_collected(
        self, streaming: Client, simulator: Simulator, gateway: Gateway, ledger: MemoryLedger
    ) -> None:
        stream = streaming.open("Hello", model="gpt-4o-mini", metadata={"which": "dropped"})
        del stream
        gc.collect()
        gateway.call_sync("Hello", model="gpt-4o-mini")

        assert [line["status"] for line in ledger.lines] == ["cancelled", "success"]
        assert len(simulator.requests()) == 1

    def test_is_settled_by_closing_the_gateway_once_it_was_collected(
        self, gateway: Gateway, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(HANGING)
        stream = gateway.stream_sync("Hello", model="gpt-4o-mini")
        next(stream)
        del stream
        gc.collect()
        gateway.close()

        assert_cancelled(ledger.only)
        simulator.wait_idle(bills=1)

    def test_ends_with_its_with_block(self, gateway: Gateway, simulator: Simulator, ledger: MemoryLedger) -> None:
        simulator.script(HANGING)
        with gateway.stream_sync("Hello", model="gpt-4o-mini") as stream:
            for _ in stream:
                break

        assert_cancelled(ledger.only)

    def test_ends_with_the_error_of_its_consumer(
        self, gateway: Gateway, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(HANGING)
        with pytest.raises(ZeroDivisionError), gateway.stream_sync("Hello", model="gpt-4o-mini") as stream:
            for _ in stream:
                _ = 1 / 0

        assert_cancelled(ledger.only)

    def test_ends_with_its_view(self, gateway: Gateway, simulator: Simulator, ledger: MemoryLedger) -> None:
        simulator.script(HANGING)
        view: Any = gateway.stream_sync("Hello", model="gpt-4o-mini").sse()
        next(view)
        view.close()

        assert_cancelled(ledger.only)

    def test_keeps_its_call_open_while_it_is_held(
        self, gateway: Gateway, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(Behaviour(text="one two three", chunks=3))
        stream = gateway.stream_sync("Hello", model="gpt-4o-mini")
        for _ in stream:
            break
        assert ledger.raw == []
        stream.close()
        assert_cancelled(ledger.only)


class TestFinish:
    def test_names_the_reason_and_drops_what_waits(
        self, streaming: Client, simulator: Simulator, ledger: MemoryLedger
    ) -> None:
        simulator.script(Behaviour(text="one two three", chunks=3))
        stream = streaming.open("Hello", model="gpt-4o-mini")
        streaming.next(stream)
        stream.finish("client_disconnected")
        stream.finish("something_else")

        assert_cancelled(ledger.only, "client_disconnected")
        with pytest.raises(CallCancelledError):
            streaming.next(stream)
        streaming.close(stream)

    @pytest.mark.parametrize("behaviour", [HANGING, SILENT], ids=["mid stream", "after headers"])
    def test_ends_a_sync_stream_that_another_thread_is_reading(
        self, gateway: Gateway, simulator: Simulator, ledger: MemoryLedger, behaviour: Behaviour
    ) -> None:
        simulator.script(behaviour)
        stream = gateway.stream_sync("Hello", model="gpt-4o-mini", timeout=30)
        outcome: list[BaseException] = []

        def read() -> None:
            try:
                for _ in stream:
                    continue
            except BaseException as error:
                outcome.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: stream._run._response is not None)
        stream.finish("client_disconnected")
        reader.join(5)

        assert not reader.is_alive()
        assert [type(error) for error in outcome] == [CallCancelledError]
        assert_cancelled(ledger.only, "client_disconnected")
        simulator.wait_idle(bills=1)

    @pytest.mark.anyio
    @pytest.mark.parametrize("behaviour", [HANGING, SILENT], ids=["mid stream", "after headers"])
    async def test_ends_an_async_stream_that_another_task_is_reading(
        self, async_gateway: Gateway, simulator: Simulator, behaviour: Behaviour
    ) -> None:
        simulator.script(behaviour)
        stream = async_gateway.stream("Hello", model="gpt-4o-mini", timeout=30)

        async def read() -> None:
            async for _ in stream:
                continue

        reader = asyncio.create_task(read())
        await turns_until(lambda: stream._run._response is not None)
        await asyncio.to_thread(stream.finish, "client_disconnected")
        with pytest.raises(CallCancelledError):
            await asyncio.wait_for(reader, 5)
        assert_cancelled(ledger_of(async_gateway).only, "client_disconnected")

    def test_is_refused_to_nobody_while_one_thread_reads(self, gateway: Gateway, simulator: Simulator) -> None:
        """Two threads cannot read at once, and the second one is told so instead of breaking the first."""
        simulator.script(SILENT)
        stream = gateway.stream_sync("Hello", model="gpt-4o-mini", timeout=30)
        outcome: list[BaseException] = []

        def read() -> None:
            try:
                next(stream)
            except BaseException as error:
                outcome.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: stream._run._pulling)

        with pytest.raises(RuntimeError, match="another task or thread"):
            next(stream)
        wait_until(lambda: stream._run._response is not None)
        stream.finish()
        reader.join(5)
        assert [type(error) for error in outcome] == [CallCancelledError]


def wait_until(condition: Any) -> None:
    """Let other threads run until ``condition`` holds."""
    turn = threading.Event()
    for _ in range(5000):
        if condition():
            return
        turn.wait(0.001)
    pytest.fail("the condition never came true")


@pytest.mark.anyio
class TestACancelledTask:
    @pytest.mark.parametrize("behaviour", [MUTE, SILENT, HANGING], ids=["no answer", "no body", "half a body"])
    async def test_leaves_one_envelope_of_its_call(
        self, async_gateway: Gateway, simulator: Simulator, behaviour: Behaviour
    ) -> None:
        simulator.script(behaviour)
        task = asyncio.create_task(async_gateway.call("Hello", model="gpt-4o-mini"))
        await sent(simulator)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        envelope = ledger_of(async_gateway).only
        assert envelope.status == EnvelopeStatus.CANCELLED
        assert (envelope.error_type, envelope.cost_nano_usd, envelope.tokens_in) == ("cancelled", None, None)
        assert envelope.cost_quality == "unknown"

    @pytest.mark.parametrize("behaviour", [MUTE, SILENT, HANGING], ids=["no answer", "no body", "half a body"])
    async def test_leaves_one_envelope_of_its_stream(
        self, async_gateway: Gateway, simulator: Simulator, behaviour: Behaviour
    ) -> None:
        simulator.script(behaviour)

        async def read() -> None:
            async for _ in async_gateway.stream("Hello", model="gpt-4o-mini"):
                continue

        task = asyncio.create_task(read())
        await sent(simulator)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()
        async_gateway.close()

        assert_cancelled(ledger_of(async_gateway).only, "cancelled")

    async def test_that_is_cancelled_twice_settles_all_the_same(
        self, async_gateway: Gateway, simulator: Simulator
    ) -> None:
        simulator.script(SILENT)
        task = asyncio.create_task(async_gateway.call("Hello", model="gpt-4o-mini"))
        await sent(simulator)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert ledger_of(async_gateway).only.status == EnvelopeStatus.CANCELLED

    async def test_by_wait_for_is_recorded(self, async_gateway: Gateway, simulator: Simulator) -> None:
        await async_gateway.call("warm up", model="gpt-4o-mini")
        simulator.script(SILENT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(async_gateway.call("Hello", model="gpt-4o-mini"), 0.1)

        assert [envelope.status for envelope in ledger_of(async_gateway).envelopes] == ["ok", "cancelled"]

    async def test_by_an_anyio_scope_around_a_stream_is_recorded(
        self, async_gateway: Gateway, simulator: Simulator
    ) -> None:
        simulator.script(SILENT)
        with anyio.CancelScope() as scope:
            async with async_gateway.stream("Hello", model="gpt-4o-mini") as stream, anyio.create_task_group() as group:
                group.start_soon(_read, stream)
                await sent(simulator)
                scope.cancel()

        assert scope.cancelled_caught
        assert_cancelled(ledger_of(async_gateway).only, "cancelled")

    async def test_while_it_waits_to_retry_is_recorded(self, async_gateway: Gateway, simulator: Simulator) -> None:
        simulator.script(Behaviour(status=429, retry_after="30"))
        task = asyncio.create_task(async_gateway.call("Hello", model="gpt-4o-mini"))
        await sent(simulator)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        envelope = ledger_of(async_gateway).only
        assert envelope.status == EnvelopeStatus.CANCELLED
        assert [attempt.error_type for attempt in envelope.attempts] == ["rate_limit"]
        assert envelope.cost_nano_usd == 0

    @pytest.mark.parametrize("behaviour", [MUTE, SILENT, HANGING], ids=["no answer", "no body", "half a body"])
    async def test_gives_its_connection_back(self, simulator: Simulator, behaviour: Behaviour) -> None:
        chat = {"type": "openai", "base_url": simulator.openai_base_url, "api_key": "k", "max_connections": 1}
        gateway = Gateway({"providers": {"chat": chat}}, ledger=MemoryLedger())
        simulator.script(behaviour, behaviour)
        stream = gateway.stream("Hello", model="gpt-4o-mini")
        for number, work in enumerate((gateway.call("Hello", model="gpt-4o-mini"), _read(stream)), 1):
            task = asyncio.create_task(work)
            await sent(simulator, number)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        assert (await gateway.call("Hello", model="gpt-4o-mini", timeout=5)).text
        await gateway.aclose()


@pytest.mark.anyio
class TestAnAsyncStream:
    async def test_ends_with_async_with_and_break(self, async_gateway: Gateway, simulator: Simulator) -> None:
        simulator.script(HANGING)
        async with async_gateway.stream("Hello", model="gpt-4o-mini") as stream:
            async for _ in stream:
                break

        assert_cancelled(ledger_of(async_gateway).only)

    async def test_ends_with_the_error_of_its_consumer(self, async_gateway: Gateway, simulator: Simulator) -> None:
        simulator.script(HANGING)
        with pytest.raises(ZeroDivisionError):
            async with async_gateway.stream("Hello", model="gpt-4o-mini") as stream:
                async for _ in stream:
                    _ = 1 / 0

        assert_cancelled(ledger_of(async_gateway).only)

    async def test_that_was_dropped_in_the_middle_is_settled_when_the_gateway_closes(
        self, async_gateway: Gateway, simulator: Simulator
    ) -> None:
        simulator.script(HANGING)
        stream = async_gateway.stream("Hello", model="gpt-4o-mini")
        await stream.__anext__()
        del stream
        gc.collect()
        await asyncio.sleep(0)
        async_gateway.close()

        assert_cancelled(ledger_of(async_gateway).only)

    async def test_can_be_opened_where_no_loop_runs(self, async_gateway: Gateway) -> None:
        stream = await asyncio.to_thread(async_gateway.stream, "Hello", model="gpt-4o-mini")
        await _read(stream)

        assert stream.result.text

    async def test_reads_beside_another_one(self, async_gateway: Gateway, simulator: Simulator) -> None:
        simulator.script(Behaviour(text="a b c"), Behaviour(text="x y z"))
        one = async_gateway.stream("One", model="gpt-4o-mini")
        first = (await one.__anext__()).delta
        two = async_gateway.stream("Two", model="gpt-4o-mini")
        second = (await two.__anext__()).delta
        await _read(two)
        await _read(one)

        assert (one.result.text, two.result.text) == ("a b c", "x y z")
        assert (first, second) == ("a", "x")


async def _read(stream: Any) -> None:
    async for _ in stream:
        continue


class TestTheContextOfTheConsumer:
    @pytest.fixture
    def spans(self) -> InMemorySpanExporter:
        return InMemorySpanExporter()

    @pytest.fixture
    def tracing(self, spans: InMemorySpanExporter) -> TracerProvider:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        return provider

    def test_is_its_own_while_it_reads_sync_streams(
        self, make_gateway: Any, tracing: TracerProvider, spans: InMemorySpanExporter
    ) -> None:
        gateway, tracer = make_gateway(tracer_provider=tracing), tracing.get_tracer("app")
        before = otel_context.get_current()
        with bind(tenant_id="acme"), tracer.start_as_current_span("request") as request:
            one = gateway.stream_sync("One", model="gpt-4o-mini")
            two = gateway.stream_sync("Two", model="gpt-4o-mini")
            for _ in zip(one, two, strict=False):
                assert trace.get_current_span() is request
                assert current_context().tenant_id == "acme"
                with tracer.start_as_current_span("db"):
                    pass
            one.close()
            two.close()
        assert otel_context.get_current() == before
        assert current_binding() is None
        assert_parents(spans, request)

    @pytest.mark.anyio
    async def test_is_its_own_while_it_reads_async_streams(
        self, simulator: Simulator, tracing: TracerProvider, spans: InMemorySpanExporter
    ) -> None:
        gateway = Gateway(settings_for(simulator), ledger=MemoryLedger(), tracer_provider=tracing)
        tracer = tracing.get_tracer("app")
        with tracer.start_as_current_span("request") as request:
            one = gateway.stream("One", model="gpt-4o-mini")
            two = gateway.stream("Two", model="gpt-4o-mini")
            async for _ in one:
                await two.__anext__()
                assert trace.get_current_span() is request
                with tracer.start_as_current_span("db"):
                    pass
                break
            await one.aclose()
            await two.aclose()
            await gateway.call("Three", model="gpt-4o-mini")
            assert trace.get_current_span() is request
        await gateway.aclose()
        assert_parents(spans, request)

    def test_at_the_opening_is_the_one_that_counts(
        self, make_gateway: Any, tracing: TracerProvider, spans: InMemorySpanExporter
    ) -> None:
        gateway, tracer = make_gateway(tracer_provider=tracing), tracing.get_tracer("app")
        with bind(tenant_id="opener"), tracer.start_as_current_span("opening") as opening:
            stream = gateway.stream_sync("One", model="gpt-4o-mini")
        with bind(tenant_id="reader"), tracer.start_as_current_span("reading"):
            list(stream)

        assert stream.envelope.tenant_id == "opener"
        [chat] = [span for span in spans.get_finished_spans() if span.name.startswith("chat")]
        assert chat.parent.span_id == opening.get_span_context().span_id
        assert stream.envelope.span_id == f"{chat.context.span_id:016x}"
        assert stream.envelope.trace_id == f"{chat.context.trace_id:032x}"

    def test_survives_a_failing_provider(self, make_gateway: Any, simulator: Simulator) -> None:
        gateway = make_gateway()
        simulator.script(Behaviour(status=400))
        token = otel_context.attach(baggage.set_baggage("user", "ada"))
        try:
            before = otel_context.get_current()
            with pytest.raises(ProviderError):
                gateway.call_sync("Hello", model="gpt-4o-mini")
            assert otel_context.get_current() is before
        finally:
            otel_context.detach(token)


def assert_parents(spans: InMemorySpanExporter, request: Any) -> None:
    """Every span, ours and the application's, is a child of the request's."""
    finished = spans.get_finished_spans()
    parent = request.get_span_context().span_id
    assert {span.name for span in finished} == {"request", "db", "chat gpt-4o-mini"}
    assert all(span.parent.span_id == parent for span in finished if span.name != "request")
