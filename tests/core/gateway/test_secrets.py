"""Keys, prompts and answers are in no repr, log record, exception, span or ledger line, on success and on failure."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import stat
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from turnpike import Gateway, ProviderResponse
from turnpike.errors import LedgerError, ProviderError, TurnpikeError
from turnpike.gateway.provider import ProviderStreamEvent
from turnpike.testing.simulator import Behaviour, Simulator, ToolCall

from .conftest import settings_for

KEY, PROMPT, ANSWER, ECHO = "sk-canary-key", "prompt-canary", "answer-canary", "echo-canary"
CANARIES = (KEY, PROMPT, ANSWER, ECHO)

TOOL = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}


def found_in(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


class Watch:
    """Everything that a gateway says to anybody but its caller and the provider."""

    def __init__(self, simulator: Simulator, path: Path) -> None:
        self.spans = InMemorySpanExporter()
        tracing = TracerProvider()
        tracing.add_span_processor(SimpleSpanProcessor(self.spans))
        self.path = path
        settings = settings_for(simulator, telemetry_path=str(path), default_policy={"retry_attempts": 0})
        for provider in settings["providers"].values():
            provider["api_key"] = KEY
        self.gateway = Gateway(settings, tracer_provider=tracing)

    def said(self) -> str:
        spans = "".join(span.to_json() for span in self.spans.get_finished_spans())
        assert spans
        return spans + self.path.read_text()


@pytest.fixture
def watch(simulator: Simulator, tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(simulator, tmp_path / "ledger.jsonl")
    yield watch
    watch.gateway.close()


def ask(gateway: Gateway, way: str, timeout: float = 10.0, **options: Any) -> list[Any]:
    """Ask, and return everything that came back: result, chunks, error."""
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": PROMPT}]

    async def awaited() -> Any:
        try:
            return await gateway.call(messages, timeout=timeout, **options)
        finally:
            await gateway.aclose()

    try:
        if way == "call":
            return [asyncio.run(awaited())]
        if way == "call_sync":
            return [gateway.call_sync(messages, timeout=timeout, **options)]
        stream = gateway.stream_sync(messages, timeout=timeout, **options)
        chunks = list(stream)
    except TurnpikeError as error:
        return [error]
    return [stream, stream.result, stream.envelope, *chunks]


@pytest.mark.parametrize("way", ["call", "stream_sync"])
@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(text=ANSWER),
        Behaviour(tool_calls=(ToolCall("lookup", {"q": ANSWER}),)),
        Behaviour(status=400, error_message=f"bad prompt {PROMPT} {ECHO} key {KEY}"),
        Behaviour(status=401, error_message=f"bad key {KEY}", error_code=ECHO + " is not a code"),
        Behaviour(status=429, error_message=ECHO),
        Behaviour(status=500, error_message=ECHO),
        Behaviour(text=ANSWER, corrupt=("invalid_json",)),
        Behaviour(text=ANSWER, truncate="http_end"),
        Behaviour(text=ANSWER, error_event="error", error_message=ECHO),
        Behaviour(text=ANSWER, hang="mid_stream"),
        Behaviour(text=ANSWER, reset="mid_stream"),
    ],
    ids=["answer", "tool call", "400", "401", "429", "500", "no JSON", "cut", "error event", "timeout", "reset"],
)
def test_nothing_said_in_confidence_is_repeated(
    watch: Watch,
    api: dict[str, str],
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    way: str,
    behaviour: Behaviour,
) -> None:
    simulator.script(behaviour)
    with caplog.at_level(logging.DEBUG, "turnpike"):
        outcome = ask(
            watch.gateway, way, timeout=0.5 if behaviour.hang else 10.0, tools=[TOOL], metadata={"note": "kept"}, **api
        )

    assert simulator.requests()
    records = "".join(
        f"{record.getMessage()} {record.exc_info and ''.join(traceback.format_exception(*record.exc_info))}"
        for record in caplog.records
        if record.name.startswith("turnpike")
    )
    assert found_in(records) == []
    assert found_in(watch.said()) == []
    for thing in outcome:
        assert found_in(repr(thing)) == []
        if isinstance(thing, BaseException):
            assert found_in(str(thing)) == []
            assert found_in("".join(traceback.format_exception(thing))) == []
            copy = pickle.loads(pickle.dumps(thing))
            assert (str(copy), copy.category, copy.envelope) == (str(thing), thing.category, thing.envelope)
            assert copy.original is None


def test_an_error_keeps_the_sdk_s_own_beside_it_for_those_who_ask(watch: Watch, simulator: Simulator) -> None:
    simulator.script(Behaviour(status=400, error_message=ECHO))
    with pytest.raises(ProviderError) as caught:
        watch.gateway.call_sync("Hello", model="gpt-4o-mini")

    assert ECHO in str(caught.value.original)


def test_no_object_that_a_traceback_may_show_prints_a_secret(watch: Watch, simulator: Simulator) -> None:
    """Error trackers print the local variables of every frame of a traceback."""
    simulator.script(Behaviour(status=400))
    with pytest.raises(ProviderError) as caught:
        watch.gateway.call_sync([{"role": "user", "content": PROMPT}], model="gpt-4o-mini")

    shown: list[str] = []
    frame: Any = caught.value.__traceback__
    while frame is not None:
        if "/turnpike/" in frame.tb_frame.f_code.co_filename.replace(os.sep, "/"):
            place = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_frame.f_code.co_name}"
            locals_ = frame.tb_frame.f_locals.items()
            # The caller's own argument is a list of plain dicts, which we cannot hide.
            shown += [f"{place} {name}" for name, value in locals_ if name != "prompt" and found_in(repr(value))]
        frame = frame.tb_next
    assert shown == []


@pytest.mark.parametrize(
    "thing",
    [
        ProviderResponse(ANSWER, 1, 1),
        ProviderStreamEvent(delta=ANSWER),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_a_provider_answers_does_not_print_the_answer(thing: Any) -> None:
    assert found_in(repr(thing)) == []


def test_a_provider_does_not_print_its_key(watch: Watch) -> None:
    watch.gateway.call_sync("Hello", model="gpt-4o-mini")
    provider = watch.gateway._find_provider("chat")

    assert found_in(repr(provider) + repr(vars(provider)) + repr(watch.gateway) + repr(watch.gateway.settings)) == []


class TestTheFile:
    @pytest.fixture
    def umask(self) -> Iterator[None]:
        before = os.umask(0)
        yield
        os.umask(before)

    @pytest.mark.usefixtures("umask")
    def test_is_readable_by_its_owner_alone_whatever_the_umask(self, simulator: Simulator, tmp_path: Path) -> None:
        path = tmp_path / "one" / "two" / "ledger.jsonl"
        gateway = Gateway(settings_for(simulator, telemetry_path=str(path)))
        gateway.call_sync("Hello", model="gpt-4o-mini")
        gateway.close()

        modes = [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent)]
        assert modes == [0o600, 0o700]

    @pytest.mark.usefixtures("umask")
    def test_lies_below_no_folder_that_others_may_write(self, simulator: Simulator, tmp_path: Path) -> None:
        path = tmp_path / "one" / "two" / "ledger.jsonl"
        gateway = Gateway(settings_for(simulator, telemetry_path=str(path)))
        gateway.call_sync("Hello", model="gpt-4o-mini")
        gateway.close()

        assert stat.S_IMODE(path.parent.parent.stat().st_mode) & 0o022 == 0

    def test_is_no_symbolic_link(self, simulator: Simulator, tmp_path: Path) -> None:
        (tmp_path / "ledger.jsonl").symlink_to(tmp_path / "elsewhere")
        gateway = Gateway(settings_for(simulator, telemetry_path=str(tmp_path / "ledger.jsonl")))

        with pytest.raises(LedgerError, match="ledger"):
            gateway.call_sync("Hello", model="gpt-4o-mini")
        assert not (tmp_path / "elsewhere").exists()
        assert simulator.requests() == []


class TestWhatTheProviderSees:
    @pytest.fixture
    def application_baggage(self) -> Iterator[None]:
        token = otel_context.attach(baggage.set_baggage("tenant", ECHO))
        yield
        otel_context.detach(token)

    @pytest.mark.parametrize("way", ["call", "call_sync", "stream_sync"])
    @pytest.mark.usefixtures("application_baggage")
    def test_has_no_baggage_and_no_trace_of_the_application(
        self, watch: Watch, api: dict[str, str], simulator: Simulator, way: str
    ) -> None:
        ask(watch.gateway, way, **api)

        [request] = simulator.requests()
        assert "baggage" not in request.headers
        assert "traceparent" not in request.headers
        assert ECHO not in repr(request.headers)

    def test_has_no_span_of_the_sdk_s_own(self, watch: Watch) -> None:
        """The anthropic SDK can trace its requests itself; the gateway's span is the one there is."""
        ask(watch.gateway, "call_sync", provider="claude", model="claude-haiku-4-5")
        [span] = watch.spans.get_finished_spans()

        assert span.name == "chat claude-haiku-4-5"
