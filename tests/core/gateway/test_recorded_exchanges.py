"""Recorded provider exchanges, played by a local server to the official SDKs and read through the gateway.

What each exchange must say is taken from the recording by plain ``json``; see ``tests/core/wire`` for that and for the
readers alone. The recordings are not part of this repository; where they are missing these tests are skipped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from turnpike import AnthropicProvider, EnvelopeStatus, Gateway, OpenAIProvider, RoutePolicy
from turnpike.errors import ProviderError, ProviderProtocolError

from ..wire.test_recorded_exchanges import BODY, FORMATS, RECORDED, STREAM, is_an_answer
from .conftest import MemoryLedger, Tally
from .replayer import Recording, Replayer

pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="needs recordings: put the recorded exchanges into ../shared/data/recorded"
)

CATEGORIES = {400: "invalid_request", 401: "auth_error", 404: "invalid_request", 429: "rate_limit"}


def exchanges() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted(RECORDED.rglob("*.json")) if RECORDED.is_dir() else ():
        exchange = json.loads(path.read_text("utf-8"))
        if exchange["format"] in FORMATS:
            found.append((path.name, exchange))
    return found


@pytest.fixture(scope="module")
def replayer() -> Iterator[Replayer]:
    with Replayer() as replayer:
        yield replayer


@pytest.fixture(scope="module")
def replaying(replayer: Replayer) -> Iterator[tuple[Gateway, MemoryLedger, asyncio.Runner]]:
    ledger = MemoryLedger()
    gateway = Gateway({}, ledger=ledger)
    gateway.register_provider("openai-chat", OpenAIProvider(base_url=replayer.url, api_key="k"))
    gateway.register_provider("openai-responses", OpenAIProvider(api="responses", base_url=replayer.url, api_key="k"))
    gateway.register_provider("anthropic-messages", AnthropicProvider(base_url=replayer.url, api_key="k"))
    gateway.register_route_policy("/replay", RoutePolicy(4096, 0, False, {}))
    with asyncio.Runner() as runner:
        yield gateway, ledger, runner
        runner.run(gateway.aclose())


def recording_of(exchange: dict[str, Any]) -> Recording:
    response = exchange["response"]
    headers = {name.lower(): value for name, value in response["headers"].items()}
    streaming = bool(response["streaming"])
    text = response["text"] if streaming else json.dumps(response["json"])
    usual = "text/event-stream" if streaming else "application/json"
    return Recording(response["status"], headers.get("content-type") or usual, text.encode(), streaming)


def tokens_of(usage: dict[str, Any] | None, wire_format: str) -> tuple[int | None, int | None]:
    """Input and output as the provider reported them, in whole."""
    if not usage:
        return None, None
    if wire_format == "openai-chat":
        return usage.get("prompt_tokens"), usage.get("completion_tokens")
    tokens_in = usage.get("input_tokens")
    if wire_format == "anthropic-messages" and tokens_in is not None:
        tokens_in += (usage.get("cache_read_input_tokens") or 0) + (usage.get("cache_creation_input_tokens") or 0)
    return tokens_in, usage.get("output_tokens")


class Replay:
    """Plays one exchange through one of the gateway's ways and keeps what came of it."""

    def __init__(self, replaying: tuple[Gateway, MemoryLedger, asyncio.Runner], replayer: Replayer, sync: bool) -> None:
        self.gateway, self.ledger, self.runner = replaying
        self.replayer = replayer
        self.sync = sync

    def play(self, exchange: dict[str, Any]) -> Any:
        """Return the result, or the error that was raised."""
        self.ledger.raw.clear()
        self.replayer.recording = recording_of(exchange)
        model = exchange.get("model") or "unknown"
        options = {"route": "/replay", "provider": exchange["format"], "model": model, "timeout": 20}
        try:
            return self._ask("Hello", options, streaming=exchange["response"]["streaming"])
        except ProviderError as error:
            return error

    def _ask(self, prompt: str, options: dict[str, Any], *, streaming: bool) -> Any:
        if not streaming:
            if self.sync:
                return self.gateway.call_sync(prompt, **options)
            return self.runner.run(self.gateway.call(prompt, **options))
        if self.sync:
            stream: Any = self.gateway.stream_sync(prompt, **options)
            text = "".join(chunk.delta for chunk in stream)
        else:
            stream = self.gateway.stream(prompt, **options)
            text = self.runner.run(_read(stream))
        assert text == stream.result.text
        return stream.result


async def _read(stream: Any) -> str:
    return "".join([chunk.delta async for chunk in stream])


@pytest.fixture(scope="module", params=["sync", "async"])
def replay(request: pytest.FixtureRequest, replaying: Any, replayer: Replayer) -> Replay:
    return Replay(replaying, replayer, request.param == "sync")


def expected_of(exchange: dict[str, Any]) -> dict[str, Any]:
    response, wire_format = exchange["response"], exchange["format"]
    if response["streaming"]:
        return STREAM[wire_format](response["text"])
    return BODY[wire_format](response["json"])


def assert_told(name: str, exchange: dict[str, Any], outcome: Any, envelope: Any) -> None:
    expected = expected_of(exchange)
    assert (envelope.tokens_in, envelope.tokens_out) == tokens_of(expected["usage"], exchange["format"]), name
    assert envelope.provider_finish_reason == expected["provider_finish_reason"], name
    if isinstance(outcome, ProviderError):
        # An error reported in the answer, or an answer that never came to its end.
        body = exchange["response"].get("json") or {}
        has_error = bool(body.get("error")) or '"error"' in exchange["response"].get("text", "")
        assert has_error or not expected["complete"], (name, outcome)
        assert envelope.status == EnvelopeStatus.ERROR, name
        assert outcome.envelope == envelope, name
        return
    assert envelope.status == EnvelopeStatus.OK, name
    assert outcome.text == expected["text"], name
    assert [call.arguments for call in outcome.tool_calls] == expected["arguments"], name
    assert outcome.envelope == envelope, name
    assert (outcome.tokens_in, outcome.tokens_out) == (envelope.tokens_in, envelope.tokens_out), name


@pytest.mark.parametrize("streaming", [False, True], ids=["JSON", "SSE"])
@pytest.mark.parametrize("wire_format", FORMATS)
def test_every_recorded_answer_has_its_text_and_its_tokens(
    replay: Replay, replayed: Tally, wire_format: str, streaming: bool
) -> None:
    label = f"{wire_format} {'SSE' if streaming else 'JSON'}, {'sync' if replay.sync else 'async'}"
    chosen = [
        (name, exchange)
        for name, exchange in exchanges()
        if exchange["format"] == wire_format
        and exchange["response"]["status"] == 200
        and exchange["response"]["streaming"] is streaming
    ]
    assert chosen, f"no recordings for {label}"

    def check(name: str, exchange: dict[str, Any]) -> None:
        outcome = replay.play(exchange)
        envelope = replay.ledger.only
        if not streaming and not is_an_answer(exchange["response"]["json"]):
            assert isinstance(outcome, ProviderProtocolError), name
            assert envelope.cost_nano_usd is None, name
        else:
            assert_told(name, exchange, outcome, envelope)

    replayed.count(label, chosen, check)


def test_every_recorded_error_has_the_category_of_its_status(replay: Replay, replayed: Tally) -> None:
    label = f"errors, {'sync' if replay.sync else 'async'}"
    chosen = [(name, exchange) for name, exchange in exchanges() if exchange["response"]["status"] != 200]
    assert chosen, "no recorded errors"

    def check(name: str, exchange: dict[str, Any]) -> None:
        status = exchange["response"]["status"]
        outcome = replay.play(exchange)
        envelope = replay.ledger.only
        assert isinstance(outcome, ProviderError), name
        assert (outcome.category, outcome.status) == (CATEGORIES[status], status), name
        assert (envelope.status, envelope.error_type) == (EnvelopeStatus.ERROR, CATEGORIES[status]), name
        assert (envelope.cost_nano_usd, envelope.tokens_in, envelope.tokens_out) == (0, 0, 0), name
        reported = (exchange["response"].get("json") or {}).get("error")
        message = reported.get("message") if isinstance(reported, dict) else None
        assert not message or message not in str(outcome), name

    replayed.count(label, chosen, check)
