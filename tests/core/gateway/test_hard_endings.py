"""Ways of ending that are easy to get wrong: each of these lost a call, a payment or an identity once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from turnpike import Gateway, LLMRequestContext, bind, propagate
from turnpike.envelope import EnvelopeStatus
from turnpike.errors import CallCancelledError, ProviderError, ProviderTimeoutError, UnattributedError
from turnpike.gateway.provider import ProviderBase, ProviderResponse, ProviderStreamEvent
from turnpike.testing.simulator import Behaviour, Simulator

MODEL = "gpt-4o-mini"


class Lines:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def check(self) -> None:
        return

    def append(self, line: bytes) -> bool:
        self.lines.append(msgspec.json.decode(line))
        return True


class Scripted(ProviderBase):
    """Answers as it is told."""

    def __init__(self, tokens: int = 1, error: Exception | None = None) -> None:
        self.tokens, self.error, self.asked = tokens, error, 0

    @property
    def provider_name(self) -> str:
        return "scripted"

    async def complete(self, messages: Any, model: str, max_output_tokens: int) -> ProviderResponse:
        raise NotImplementedError

    def complete_sync(self, *arguments: Any, **options: Any) -> ProviderResponse:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return ProviderResponse("paid", self.tokens, self.tokens)

    def stream_sync(self, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        yield ProviderStreamEvent("paid", tokens_in=self.tokens, tokens_out=self.tokens)

    def is_retryable(self, error: BaseException) -> bool:
        return True

    def categorize_error(self, error: BaseException) -> str:
        raise RuntimeError("categorize_error is broken too")


def gateway_of(provider: ProviderBase, **settings: Any) -> tuple[Gateway, Lines]:
    lines = Lines()
    gateway = Gateway({"default_policy": {"retry_attempts": 2}, **settings}, ledger=lines)
    gateway.register_provider("openai", provider)
    return gateway, lines


def test_figures_that_defy_arithmetic_cost_neither_the_answer_nor_its_line() -> None:
    gateway, lines = gateway_of(Scripted(tokens=10**400))
    assert gateway.call_sync("Hello", model=MODEL).text == "paid"
    assert [line.get("cost_nano_usd") for line in lines.lines] == [None]


def test_an_error_behind_a_bookkeeping_error_stays_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    gateway, _ = gateway_of(Scripted(error=ValueError("prompt-canary")), default_policy={"retry_attempts": 0})
    with pytest.raises(ValueError, match="prompt-canary"):
        gateway.call_sync("Hello", model=MODEL)
    assert "categorize_error" in caplog.text
    assert "prompt-canary" not in caplog.text


def test_a_stream_that_a_provider_refuses_costs_nothing() -> None:
    refusal = ProviderError("openai", "refused", category="invalid_request", accepted=False)
    gateway, lines = gateway_of(Scripted(error=refusal), default_policy={"retry_attempts": 0})
    with pytest.raises(ProviderError):
        list(gateway.stream_sync("Hello", model=MODEL))
    assert [(line["cost_nano_usd"], line["attempts"][0]["accepted"]) for line in lines.lines] == [(0, False)]


def test_a_stream_closed_while_it_waits_to_retry_sends_nothing_more(simulator: Simulator) -> None:
    provider = Scripted(error=ProviderError("openai", "busy", category="rate_limit", accepted=False))
    gateway, lines = gateway_of(provider)
    stream = gateway.stream_sync("Hello", model=MODEL)
    provider.is_retryable = lambda error: not stream.finish("client_disconnected")  # type: ignore[method-assign]
    with pytest.raises(CallCancelledError):
        list(stream)
    assert provider.asked == 1
    assert [line["finish_reason"] for line in lines.lines] == ["client_disconnected"]


@pytest.mark.parametrize("ending", ["connection held open", "connection cut"])
def test_a_stream_is_complete_at_the_provider_s_last_word_however_its_body_ends(
    simulator: Simulator, ending: str
) -> None:
    held = {"hang": "mid_stream"} if ending == "connection held open" else {"reset": "mid_stream"}
    simulator.script(Behaviour(text="one two", chunks=2, after_events=100, **held))  # type: ignore[arg-type]
    lines = Lines()
    settings = {"providers": {"openai": {"base_url": simulator.openai_base_url, "api_key": "k"}}}
    gateway = Gateway(settings, ledger=lines)
    stream = gateway.stream_sync("Hello", model=MODEL, timeout=1.0)
    assert "".join(stream.text()) == "one two"
    assert (stream.result.envelope.status, len(lines.lines)) == (EnvelopeStatus.OK, 1)
    gateway.close()


def test_an_empty_tenant_is_nobody() -> None:
    gateway, _ = gateway_of(Scripted(), require_attribution=True)
    with pytest.raises(UnattributedError):
        gateway.call_sync("Hello", model=MODEL, context=LLMRequestContext(tenant_id=""))
    with bind(tenant_id="acme"), bind(tenant_id=""):
        assert gateway.call_sync("Hello", model=MODEL).envelope.tenant_id == "acme"


def test_a_generator_cannot_be_propagated() -> None:
    def pieces() -> Any:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        propagate(pieces)


def test_credentials_that_cannot_be_had_are_one_attempt_that_is_not_repeated(simulator: Simulator) -> None:
    openai = pytest.importorskip("openai")

    class Client(openai.OpenAI):  # type: ignore[misc]
        def _prepare_options(self, options: Any) -> Any:
            raise LookupError("no token for secret-canary")

    from turnpike.gateway.provider import OpenAIProvider

    lines = Lines()
    gateway = Gateway({"default_policy": {}}, ledger=lines)
    client = Client(api_key="k", base_url=simulator.openai_base_url)
    gateway.register_provider("openai", OpenAIProvider(client=client))
    with pytest.raises(ProviderError, match="LookupError") as caught:
        gateway.call_sync("Hello", model=MODEL)
    assert "secret-canary" not in str(caught.value)
    assert len(lines.lines[0]["attempts"]) == 1
    client.close()


def test_the_call_s_own_deadline_is_a_provider_timeout_in_streams_of_every_provider() -> None:
    release = threading.Event()

    class Slow(Scripted):
        async def stream(self, *arguments: Any, **options: Any) -> Any:
            import asyncio

            await asyncio.to_thread(release.wait, 5)
            yield ProviderStreamEvent("late")

        stream_sync = ProviderBase.stream_sync

        def is_retryable(self, error: BaseException) -> bool:
            return False

    gateway, lines = gateway_of(Slow())
    try:
        with pytest.raises(ProviderTimeoutError):
            list(gateway.stream_sync("Hello", model=MODEL, timeout=0.05))
    finally:
        release.set()
    assert [line["error_type"] for line in lines.lines] == ["timeout"]


def run_script(script: str, tmp_path: Path) -> list[dict[str, Any]]:
    """Run a program in a process of its own and return the ledger it leaves."""
    ledger = tmp_path / "ledger.jsonl"
    head = f"""
        import os
        from turnpike import Gateway, ProviderBase, ProviderResponse
        from turnpike.gateway.provider import ProviderStreamEvent

        class Provider(ProviderBase):
            provider_name = "scripted"
            async def complete(self, *arguments):
                raise NotImplementedError
            def stream_sync(self, *arguments, **options):
                yield ProviderStreamEvent("one")
                yield ProviderStreamEvent("two")

        gateway = Gateway({{"default_policy": {{}}, "telemetry_path": {str(ledger)!r}}})
        gateway.register_provider("openai", Provider())
        stream = gateway.stream_sync("Hello", model="m")
        next(stream)
    """
    program = textwrap.dedent(head) + textwrap.dedent(script)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    return [msgspec.json.decode(line) for line in ledger.read_bytes().splitlines()]


def test_a_stream_that_is_open_when_the_program_ends_is_on_the_ledger(tmp_path: Path) -> None:
    [line] = run_script("", tmp_path)
    assert (line["status"], line["finish_reason"]) == ("cancelled", "process_exit")


def test_a_stream_that_is_open_at_a_fork_is_recorded_once_by_the_parent(tmp_path: Path) -> None:
    script = """
        child = os.fork()
        del stream
        gateway.close()
        if child:
            os.waitpid(child, 0)
    """
    [line] = run_script(script, tmp_path)
    assert line["finish_reason"] == "abandoned"
