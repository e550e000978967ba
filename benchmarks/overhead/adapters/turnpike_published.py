"""turnpike 0.1.1 from the package index, with its published functions. It has no synchronous calls."""

from __future__ import annotations

import os
from typing import Any

from overhead.conversation import ANTHROPIC_MODEL, MAX_OUTPUT_TOKENS, OPENAI_MODEL, chat, folded
from overhead.operations import Answer, Operations, Setting

PACKAGES = ("turnpike", "openai", "anthropic")


def build(setting: Setting) -> Operations:
    # 0.1.1 reads its settings from the environment, when it is imported.
    os.environ["TURNPIKE_TELEMETRY_PATH"] = setting.ledger
    os.environ["OPENAI_API_KEY"] = os.environ["ANTHROPIC_API_KEY"] = "sk-benchmark"
    os.environ["OPENAI_BASE_URL"], os.environ["ANTHROPIC_BASE_URL"] = setting.openai_base_url, setting.server
    from turnpike import (
        LLMRequestContext,
        RoutePolicy,
        call_llm,
        call_llm_stream,
        register_pricing,
        register_route_policy,
    )

    model = OPENAI_MODEL if setting.provider == "openai" else ANTHROPIC_MODEL
    register_pricing(ANTHROPIC_MODEL, 1.0, 5.0)
    policy = RoutePolicy(
        max_output_tokens=MAX_OUTPUT_TOKENS,
        retry_attempts=2,
        cache_enabled=False,
        model_for_tier={"cheap": model},
        provider_name=setting.provider,
    )
    register_route_policy("/summarize", policy)
    who = LLMRequestContext(
        tenant_id="acme",
        caller_id="billing-service",
        session_id="session-0042",
        task_id="invoice-summary",
        budget_namespace="finance",
    )
    # It hands a system message to Anthropic as it is, which refuses it.
    conversation = chat if setting.provider == "openai" else folded
    options: Any = {"model_tier": "cheap", "route_name": "/summarize", "context": who}

    async def call(messages: int) -> Answer:
        result = await call_llm(messages=conversation(messages), **options)
        return Answer(1, len(result.text), result.tokens_in, result.tokens_out)

    async def stream(messages: int) -> Answer:
        answer, pieces = call_llm_stream(messages=conversation(messages), **options), 0
        async for chunk in answer:
            pieces += bool(chunk.delta)
        return Answer(pieces, len(answer.result.text), answer.result.tokens_in, answer.result.tokens_out)

    return Operations(call, stream)
