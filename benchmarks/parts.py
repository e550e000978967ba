"""What the parts of a call cost, in microseconds, without a network: where Turnpike's own share of a call goes.

    build/benchmarks/turnpike/bin/python benchmarks/parts.py [--rounds 7]

A part is repeated for about 20 ms a round; the least round is shown, which is the least disturbed one. The call and the
stream run through the whole gateway over a provider that has its bytes ready: what is left out is the SDK and the wire.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from overhead.conversation import MAX_OUTPUT_TOKENS, OPENAI_MODEL, chat

from turnpike import Gateway, LLMRequestContext
from turnpike.gateway.openai_provider import OpenAIProvider
from turnpike.gateway.provider_base import WireRequest
from turnpike.gateway.record import CallRecord
from turnpike.gateway.wire import reader_for
from turnpike.ledger.line import encode_line, ledger_line
from turnpike.ledger.writer import LedgerWriter

Parts = Iterator[tuple[str, float]]

_ROUND_S = 0.02
_CHUNKS = 200
_FORMAT = "openai-chat"
_USAGE = {
    "prompt_tokens": 534,
    "completion_tokens": 110,
    "total_tokens": 644,
    "prompt_tokens_details": {"cached_tokens": 384, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_HEAD: dict[str, Any] = {"id": "chatcmpl-" + "B" * 29, "created": 1763740000, "model": "gpt-4o-mini-2024-07-18"}
_BODY = json.dumps(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "The invoice total covers consulting. " * 16,
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
    }
).encode()


def _event(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = {**_HEAD, "object": "chat.completion.chunk", "service_tier": "default", "choices": [choice], "usage": None}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


_EVENTS = [
    _event({"role": "assistant", "content": ""}),
    *(_event({"content": " invoice"}) for _ in range(_CHUNKS)),
    _event({}, "stop"),
    b"data: "
    + json.dumps({**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}).encode()
    + b"\n\n",
    b"data: [DONE]\n\n",
]


class _Ready:
    """A response whose bytes are here already."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def close(self) -> None:
        return

    def abort(self) -> None:
        return


class _ReadyProvider(OpenAIProvider):
    """OpenAI's provider without its SDK."""

    stream_pieces: list[bytes] = _EVENTS

    def connect(self, *, sync: bool) -> None:
        return

    async def send(self, request: WireRequest, timeout_s: float) -> Any:
        return _Ready(self.stream_pieces if request.stream else [_BODY])

    def send_sync(self, request: WireRequest, timeout_s: float) -> Any:
        return _Ready(self.stream_pieces if request.stream else [_BODY])


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Bench:
    """Everything that the parts need, built once."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self._folder = folder
        self._rounds = rounds
        self._context = LLMRequestContext(
            tenant_id="acme",
            caller_id="billing-service",
            session_id="session-0042",
            task_id="invoice-summary",
            budget_namespace="finance",
        )

    def gateway(self, *, ledger: bool = False, telemetry: str = "none") -> Gateway:
        """A gateway over the ready provider. ``telemetry`` is ``none``, ``sampled out`` or ``sdk``."""
        settings: dict[str, Any] = {
            "providers": {"openai": {"base_url": "http://localhost/v1", "api_key": "sk-benchmark"}},
            "tiers": {"cheap": OPENAI_MODEL},
            "ledger": ledger,
            "telemetry_path": str(self._folder / f"{telemetry.replace(' ', '-')}.jsonl"),
        }
        gateway = Gateway(settings, **_providers(telemetry))
        gateway.register_provider("openai", _ReadyProvider(base_url="http://localhost/v1", api_key="sk-benchmark"))
        asyncio.run(gateway.call("once, so that prices are loaded", **self.options()))
        return gateway

    def options(self) -> Any:
        return {
            "tier": "cheap",
            "route": "/summarize",
            "context": self._context,
            "max_output_tokens": MAX_OUTPUT_TOKENS,
        }

    def least_us(self, part: Callable[[], Any], per: int = 1) -> float:
        """CPU microseconds of one ``part``, or of one of the ``per`` things that it does, in the least round."""
        part()
        began = time.perf_counter()
        part()
        times = max(1, int(_ROUND_S / max(1e-7, time.perf_counter() - began)))
        return min(self._round(part, times) for _ in range(self._rounds)) / per

    def _round(self, part: Callable[[], Any], times: int) -> float:
        began = time.process_time()
        for _ in range(times):
            part()
        return (time.process_time() - began) / times * 1e6

    def least_async_us(self, make: Callable[[], Any], per: int = 1) -> float:
        """The same for a coroutine function, inside a running event loop."""

        async def run(times: int) -> float:
            began = time.process_time()
            for _ in range(times):
                await make()
            return (time.process_time() - began) / times * 1e6

        async def least() -> float:
            return min([await run(max(20, 200 // per)) for _ in range(self._rounds)])

        return asyncio.run(least()) / per


def _providers(telemetry: str) -> dict[str, Any]:
    if telemetry == "none":
        return {}
    if telemetry == "sampled out":
        return {"tracer_provider": TracerProvider(sampler=ALWAYS_OFF)}
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=100_000))
    return {"tracer_provider": tracers, "meter_provider": MeterProvider(metric_readers=[InMemoryMetricReader()])}


def steps(bench: Bench) -> Parts:
    """The steps of a call, one by one."""
    gateway = bench.gateway()
    planner, services = gateway._planner, gateway._services
    for messages in (4, 100):
        us = bench.least_us(lambda n=messages: planner.plan(chat(n), bench.options(), None, stream=False))  # type: ignore[misc]
        yield f"plan, {messages} messages, the request's body included", us
    plan = planner.plan(chat(4), bench.options(), None, stream=False)
    parent = Context()

    def opened() -> CallRecord:
        record = CallRecord(plan, services)
        record.open(parent)
        return record

    def settled() -> CallRecord:
        record = opened()
        attempt = record.begin_attempt()
        attempt.accept(200)
        attempt.reader.read_json(_BODY)  # type: ignore[union-attr]
        record.settle()
        return record

    opening = bench.least_us(opened)
    reading = bench.least_us(lambda: reader_for(_FORMAT).read_json(_BODY))
    yield "record: open", opening
    yield "reader: read a JSON answer", reading
    yield "record: begin an attempt, settle (price and envelope; no sinks)", bench.least_us(settled) - opening - reading
    yield from _books(bench, gateway, settled())


def _books(bench: Bench, gateway: Gateway, record: CallRecord) -> Parts:
    envelope = record.envelope
    assert envelope is not None, "the record is settled"
    book = gateway.prices

    def price() -> Any:
        return book.price(_USAGE, provider="openai", api=_FORMAT, model=_HEAD["model"], requested_model=OPENAI_MODEL)

    line = ledger_line(envelope, timestamp="2026-11-21T09:30:00.000000+00:00")
    data = encode_line(line)
    with tempfile.TemporaryDirectory() as folder:
        writer = LedgerWriter(Path(folder) / "ledger.jsonl")
        writer.check()
        yield "price, rates known", bench.least_us(price)
        yield "envelope: to_dict", bench.least_us(envelope.to_dict)
        yield "ledger: build a line", bench.least_us(lambda: ledger_line(envelope, timestamp=str(line["timestamp"])))
        yield f"ledger: encode a line ({len(data)} bytes)", bench.least_us(lambda: encode_line(line))
        yield "ledger: append a line", bench.least_us(lambda: writer.append(data))
        writer.close()


def telemetry(bench: Bench) -> Parts:
    """A span with its attributes and the metrics of a call."""
    for kind in ("none", "sampled out", "sdk"):
        gateway = bench.gateway(telemetry=kind)
        record = _settled(gateway, bench)
        emitter, start, envelope = gateway._services.telemetry, record._span_start, record.envelope
        parent = Context()

        def emit(emitter: Any = emitter, start: Any = start, envelope: Any = envelope, parent: Any = parent) -> None:
            span = emitter.start(start, parent)
            emitter.finish(span, start, envelope, duration_s=0.5, time_to_first_chunk_s=None)

        label = {"none": "no SDK", "sampled out": "sampled out, no metrics", "sdk": "SDK, batches"}[kind]
        yield f"span and metrics, {label}", bench.least_us(emit)


def _settled(gateway: Gateway, bench: Bench) -> CallRecord:
    record = gateway._open(chat(4), bench.options(), stream=False, sync=True)
    attempt = record.begin_attempt()
    attempt.accept(200)
    attempt.reader.read_json(_BODY)  # type: ignore[union-attr]
    record.settle()
    return record


def whole(bench: Bench) -> Parts:
    """A call and a stream through the whole gateway."""
    full = bench.gateway(ledger=True, telemetry="sdk")
    bare = bench.gateway()
    for label, gateway in (("all sinks off", bare), ("ledger, span and metrics", full)):
        for n in (4, 100):
            us = bench.least_async_us(lambda g=gateway, n=n: g.call(chat(n), **bench.options()))  # type: ignore[misc]
            yield f"call, {n} messages, {label}", us
    yield (
        "call_sync, 4 messages, ledger, span and metrics",
        bench.least_us(lambda: full.call_sync(chat(4), **bench.options())),
    )

    def read_stream(pieces: list[bytes]) -> float:
        _ReadyProvider.stream_pieces = pieces

        async def run() -> None:
            async for _ in bare.stream(chat(4), **bench.options()):
                continue

        return bench.least_async_us(run, per=_CHUNKS)

    yield "stream, a chunk, each arriving by itself", read_stream(_EVENTS)
    yield (
        "stream, a chunk, 20 arriving together",
        read_stream([b"".join(_EVENTS[at : at + 20]) for at in range(0, len(_EVENTS), 20)]),
    )

    def fed() -> None:
        reader = reader_for(_FORMAT)
        for event in _EVENTS:
            reader.feed(event)

    yield "reader: a chunk, each arriving by itself", bench.least_us(fed, per=_CHUNKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print("| part | us |")
    print("|---|--:|")
    with tempfile.TemporaryDirectory(prefix="turnpike-parts-") as folder:
        bench = Bench(Path(folder), rounds)
        for group in (steps, telemetry, whole):
            for label, us in group(bench):
                print(f"| {label} | {us:.2f} |", flush=True)


if __name__ == "__main__":
    main()
