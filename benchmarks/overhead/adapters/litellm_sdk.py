"""LiteLLM's SDK with its OpenTelemetry callback and otherwise its defaults. It prices every call by itself."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from overhead.conversation import ANTHROPIC_MODEL, MAX_OUTPUT_TOKENS, OPENAI_MODEL, chat
from overhead.operations import Answer, Operations, Setting

PACKAGES = ("litellm", "openai")
_LONGEST_DRAIN_S = 30.0
_STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def build(setting: Setting) -> Operations:
    # Without these it asks the network for prices when imported, and writes to the terminal.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"], os.environ["LITELLM_LOG"] = "True", "ERROR"
    import litellm

    count = _install_callbacks()
    request = _requests(setting)

    async def call(messages: int) -> Answer:
        return _read(await litellm.acompletion(**request(messages)))

    async def stream(messages: int) -> Answer:
        pieces = _Pieces()
        async for chunk in await litellm.acompletion(**request(messages), **_STREAMED):
            pieces.add(chunk)
        return pieces.answer()

    def call_sync(messages: int) -> Answer:
        return _read(litellm.completion(**request(messages)))

    def stream_sync(messages: int) -> Answer:
        pieces = _Pieces()
        for chunk in litellm.completion(**request(messages), **_STREAMED):
            pieces.add(chunk)
        return pieces.answer()

    async def drain(calls: int) -> None:
        expires = time.monotonic() + _LONGEST_DRAIN_S
        while count() < calls and time.monotonic() < expires:  # noqa: ASYNC110 - callbacks run in other threads, too
            await asyncio.sleep(0.02)

    return Operations(call, stream, call_sync, stream_sync, drain)


def _requests(setting: Setting) -> Callable[[int], dict[str, Any]]:
    is_openai = setting.provider == "openai"
    common: dict[str, Any] = {
        "model": f"openai/{OPENAI_MODEL}" if is_openai else f"anthropic/{ANTHROPIC_MODEL}",
        "api_base": setting.openai_base_url if is_openai else setting.server,
        "api_key": "sk-benchmark",
        "max_tokens": MAX_OUTPUT_TOKENS,
    }

    def request(messages: int) -> dict[str, Any]:
        identity = {"tenant_id": "acme", "caller_id": "billing-service", "session_id": "session-0042"}
        return {**common, "messages": chat(messages), "metadata": identity}

    return request


def _install_callbacks() -> Callable[[], int]:
    """Switch on its telemetry callback, and one that tells how far the callbacks have come in the background."""
    import litellm
    from litellm.integrations.custom_logger import CustomLogger
    from litellm.integrations.opentelemetry import OpenTelemetry
    from opentelemetry import trace

    class Counting(CustomLogger):  # type: ignore[misc]
        seen = 0

        async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            self.seen += 1

        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            self.seen += 1

    counting = Counting()
    litellm.telemetry = False
    litellm.callbacks = [OpenTelemetry(tracer_provider=trace.get_tracer_provider()), counting]
    return lambda: counting.seen


def _read(response: Any) -> Answer:
    usage = response.usage
    return Answer(1, len(response.choices[0].message.content), usage.prompt_tokens, usage.completion_tokens)


class _Pieces:
    """Reads the chunks of a LiteLLM stream."""

    def __init__(self) -> None:
        self.pieces = self.characters = 0
        self.usage: Any = None

    def add(self, chunk: Any) -> None:
        if chunk.choices and chunk.choices[0].delta.content:
            self.pieces += 1
            self.characters += len(chunk.choices[0].delta.content)
        self.usage = getattr(chunk, "usage", None) or self.usage

    def answer(self) -> Answer:
        return Answer(self.pieces, self.characters, self.usage.prompt_tokens, self.usage.completion_tokens)
