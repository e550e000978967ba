"""Turnpike as an application uses it: a tier, a route and an identity; spans, metrics, prices and the ledger on."""

from __future__ import annotations

from typing import Any

from overhead.conversation import ANTHROPIC_MODEL, MAX_OUTPUT_TOKENS, OPENAI_MODEL, chat
from overhead.operations import Answer, Operations, Setting

PACKAGES = ("turnpike", "openai", "anthropic")


def build(setting: Setting) -> Operations:
    from turnpike import Gateway, LLMRequestContext

    is_openai = setting.provider == "openai"
    gateway = Gateway(
        {
            "providers": {
                setting.provider: {
                    "base_url": setting.openai_base_url if is_openai else setting.server,
                    "api_key": "sk-benchmark",
                    "transport": setting.transport,
                }
            },
            "tiers": {"cheap": OPENAI_MODEL if is_openai else ANTHROPIC_MODEL},
            "telemetry_path": setting.ledger,
        }
    )
    who = LLMRequestContext(
        tenant_id="acme",
        caller_id="billing-service",
        session_id="session-0042",
        task_id="invoice-summary",
        budget_namespace="finance",
    )
    options: Any = {
        "tier": "cheap",
        "route": "/summarize",
        "context": who,
        "max_output_tokens": MAX_OUTPUT_TOKENS,
    }

    def read(result: Any, pieces: int = 1) -> Answer:
        return Answer(pieces, len(result.text), result.tokens_in, result.tokens_out)

    async def call(messages: int) -> Answer:
        return read(await gateway.call(chat(messages), **options))

    async def stream(messages: int) -> Answer:
        answer, pieces = gateway.stream(chat(messages), **options), 0
        async for chunk in answer:
            pieces += bool(chunk.delta)
        return read(answer.result, pieces)

    def call_sync(messages: int) -> Answer:
        return read(gateway.call_sync(chat(messages), **options))

    def stream_sync(messages: int) -> Answer:
        answer, pieces = gateway.stream_sync(chat(messages), **options), 0
        for chunk in answer:
            pieces += bool(chunk.delta)
        return read(answer.result, pieces)

    return Operations(call, stream, call_sync, stream_sync)
