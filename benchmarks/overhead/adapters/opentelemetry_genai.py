"""The bare OpenAI SDK under the OpenTelemetry project's own instrumentation, with its defaults."""

from __future__ import annotations

from overhead.adapters.bare_sdk import openai_chat
from overhead.operations import Operations, Setting

PACKAGES = ("opentelemetry-instrumentation-genai-openai", "openai")


def build(setting: Setting) -> Operations:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    return openai_chat(setting)
