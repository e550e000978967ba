"""A gateway in front of the provider simulator, and the four ways to ask it, as one interface."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from turnpike import CallResult, Gateway, LLMRequestEnvelope
from turnpike.testing.simulator import Simulator

APIS = ["openai-chat", "openai-responses", "anthropic-messages"]
WAYS = ["call", "call_sync", "stream", "stream_sync"]
MODELS = {
    "openai-chat": {"provider": "chat", "model": "gpt-4o-mini"},
    "openai-responses": {"provider": "responses", "model": "gpt-4o-mini"},
    "anthropic-messages": {"provider": "claude", "model": "claude-haiku-4-5"},
}
KEY = "sk-test"


def settings_for(simulator: Simulator, **more: Any) -> dict[str, Any]:
    """Settings with one provider for each wire format, all of them the simulator."""
    openai = {"type": "openai", "base_url": simulator.openai_base_url, "api_key": KEY}
    claude = {"type": "anthropic", "base_url": simulator.anthropic_base_url, "api_key": KEY}
    providers = {"chat": openai, "responses": {**openai, "api": "responses"}, "claude": claude}
    return {"providers": providers, "default_provider": "chat", "default_policy": {"max_output_tokens": 4096}, **more}


class MemoryLedger:
    """A ledger in memory: the lines as they would stand in the file."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    def check(self) -> None:
        pass

    def append(self, line: bytes) -> bool:
        self.raw.append(line)
        return True

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]

    @property
    def envelopes(self) -> list[LLMRequestEnvelope]:
        return [LLMRequestEnvelope.from_dict(line) for line in self.lines]

    @property
    def only(self) -> LLMRequestEnvelope:
        """The one envelope there is."""
        [envelope] = self.envelopes
        return envelope


class Client:
    """Asks a gateway in one of its four ways, so that a behaviour is described once and holds for all of them."""

    def __init__(self, gateway: Gateway, way: str, runner: asyncio.Runner) -> None:
        self.gateway = gateway
        self.way = way
        self.is_async = not way.endswith("_sync")
        self.is_stream = way.startswith("stream")
        self._runner = runner

    def _run(self, coroutine: Any) -> Any:
        # A runner has a context of its own; a handler's task has a copy of the one it was started in.
        return self._runner.run(coroutine, context=contextvars.copy_context())

    def ask(self, prompt: Any, **options: Any) -> CallResult:
        """Return the whole answer; a streamed one is read to its end."""
        if self.way == "call":
            return self._run(self.gateway.call(prompt, **options))
        if self.way == "call_sync":
            return self.gateway.call_sync(prompt, **options)
        stream, chunks = self.open(prompt, **options), []
        while (chunk := self.next(stream)) is not None:
            chunks.append(chunk)
        assert "".join(chunk.delta for chunk in chunks) == stream.result.text
        assert chunks[-1].finish_reason == stream.result.finish_reason
        return stream.result

    def open(self, prompt: Any, **options: Any) -> Any:
        """Open a stream."""
        return self.gateway.stream(prompt, **options) if self.is_async else self.gateway.stream_sync(prompt, **options)

    def next(self, stream: Any) -> Any:
        """Return the next chunk, ``None`` at the end."""
        try:
            return self._run(_step(stream)) if self.is_async else next(stream)
        except (StopAsyncIteration, StopIteration):
            return None

    def close(self, stream: Any) -> None:
        """Close a stream."""
        if self.is_async:
            self._run(stream.aclose())
        else:
            stream.close()


async def _step(stream: Any) -> Any:
    try:
        return await stream.__anext__()
    except StopAsyncIteration:
        return None


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    with Simulator(kept_requests=5000) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Iterator[Simulator]:
    running.wait_idle()
    running.reset()
    yield running
    running.reset()


@pytest.fixture(scope="session")
def shared(running: Simulator) -> Iterator[tuple[Gateway, MemoryLedger, asyncio.Runner]]:
    """One gateway and one event loop for all tests that need no settings of their own: building clients takes time."""
    ledger = MemoryLedger()
    with asyncio.Runner() as runner:
        gateway = Gateway(settings_for(running), ledger=ledger)
        yield gateway, ledger, runner
        runner.run(gateway.aclose())


@pytest.fixture
def gateway(simulator: Simulator, shared: tuple[Gateway, MemoryLedger, asyncio.Runner]) -> Gateway:
    """The shared gateway; its settings are the defaults, with two retries."""
    shared[0].close()
    shared[1].raw.clear()
    return shared[0]


@pytest.fixture
def ledger(gateway: Gateway, shared: tuple[Gateway, MemoryLedger, asyncio.Runner]) -> MemoryLedger:
    """The lines of the shared gateway."""
    return shared[1]


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, gateway: Gateway, shared: Any) -> Client:
    """The shared gateway, asked in each of the four ways."""
    return Client(gateway, request.param, shared[2])


@pytest.fixture(params=["stream", "stream_sync"])
def streaming(request: pytest.FixtureRequest, gateway: Gateway, shared: Any) -> Client:
    """The shared gateway, asked for streams in both ways."""
    return Client(gateway, request.param, shared[2])


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> dict[str, str]:
    """Provider and model for each wire format, as options of a call."""
    return MODELS[request.param]


@pytest.fixture
def make_gateway(simulator: Simulator) -> Iterator[Callable[..., Gateway]]:
    """Build gateways with settings of their own, for synchronous calls; they are closed at the test's end."""
    made: list[Gateway] = []

    def make(settings: dict[str, Any] | None = None, **arguments: Any) -> Gateway:
        arguments.setdefault("ledger", MemoryLedger())
        made.append(Gateway({**settings_for(simulator), **(settings or {})}, **arguments))
        return made[-1]

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture
async def async_gateway(simulator: Simulator) -> AsyncIterator[Gateway]:
    """A gateway of its own for the test's event loop."""
    gateway = Gateway(settings_for(simulator), ledger=MemoryLedger())
    yield gateway
    await gateway.aclose()


def ledger_of(gateway: Gateway) -> MemoryLedger:
    """The lines of a gateway made by these fixtures."""
    sink = gateway._services.ledger
    assert isinstance(sink, MemoryLedger)
    return sink


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until ``condition`` holds."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on a socket, and sets no event
            await asyncio.sleep(0.001)


async def sent(simulator: Simulator, count: int = 1) -> None:
    """Let the event loop run until the simulator has that many requests, and what it sends at once has arrived."""
    await turns_until(lambda: len(simulator.requests()) >= count)
    for _ in range(20):
        await asyncio.sleep(0.001)


class Tally:
    """Counts recorded exchanges that were replayed, and those that were read as they say."""

    def __init__(self) -> None:
        self.counts: dict[str, tuple[int, int]] = {}

    def count(
        self, label: str, exchanges: list[tuple[str, dict[str, Any]]], check: Callable[[str, dict[str, Any]], None]
    ) -> None:
        """Check each exchange, all of them even when one is wrong; then fail with those that were."""
        failures: list[str] = []
        for name, exchange in exchanges:
            try:
                check(name, exchange)
            except AssertionError as error:
                failures.append(f"{name}: {error}")
        self.counts[label] = (len(exchanges) - len(failures), len(exchanges))
        assert not failures, f"{len(failures)} of {len(exchanges)} exchanges:\n" + "\n".join(failures[:5])


TALLY = pytest.StashKey[Tally]()


@pytest.fixture(scope="session")
def replayed(pytestconfig: pytest.Config) -> Tally:
    """Counts of recorded exchanges, printed at the end of the run."""
    return pytestconfig.stash.setdefault(TALLY, Tally())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many recorded exchanges were replayed over HTTP and how many of them were read as they say."""
    tally = config.stash.get(TALLY, None)
    if tally is not None and tally.counts:
        terminalreporter.section("recorded exchanges over HTTP: passed of replayed")
        for label, (passed, played) in sorted(tally.counts.items()):
            terminalreporter.write_line(f"{label}: {passed} of {played}")
        passed, played = (sum(column) for column in zip(*tally.counts.values(), strict=True))
        terminalreporter.write_line(f"all: {passed} of {played}")
