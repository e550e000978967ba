"""The subjects: who is measured, in which environment, against which bare SDK."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """One way of calling a provider."""

    name: str
    label: str
    environment: str
    provider: str
    adapter: str
    """Module in ``overhead.adapters`` with ``build(setting) -> Operations`` and the packages it stands on."""
    baseline: str = ""
    """The bare SDK in the same environment where it is installed there; measured right before the subject each time."""
    transport: str = "default"
    api: str = "chat"
    spans: bool = False
    """Emits spans, so the OpenTelemetry SDK is set up for it, and they are counted."""
    ledger: bool = False
    """Writes one line for each call, which are counted and read."""

    @property
    def is_bare(self) -> bool:
        return self.adapter == "bare_sdk"


def _bare(name: str, label: str, environment: str, provider: str, baseline: str = "", **options: str) -> Subject:
    return Subject(name, label, environment, provider, "bare_sdk", baseline, **options)  # type: ignore[arg-type]


def _turnpike(name: str, label: str, provider: str, transport: str) -> Subject:
    adapter, baseline = "turnpike_gateway", f"{provider}-bare"
    return Subject(name, label, "turnpike", provider, adapter, baseline, transport, spans=True, ledger=True)


def _published(provider: str, baseline: str) -> Subject:
    name, adapter = f"{provider}-turnpike-0.1.1", "turnpike_published"
    return Subject(name, "turnpike 0.1.1", "published", provider, adapter, baseline, spans=True, ledger=True)


def _litellm(provider: str, baseline: str) -> Subject:
    name = f"{provider}-litellm"
    return Subject(name, "LiteLLM SDK, its OTel callback", "litellm", provider, "litellm_sdk", baseline, spans=True)


SUBJECTS = {
    subject.name: subject
    for subject in (
        _bare("openai-bare", "bare SDK", "turnpike", "openai"),
        _bare("openai-bare-aiohttp", "bare SDK over aiohttp", "turnpike", "openai", "openai-bare", transport="aiohttp"),
        _turnpike("openai-turnpike", "**Turnpike**", "openai", "default"),
        _turnpike("openai-turnpike-aiohttp", '**Turnpike**, `transport="aiohttp"`', "openai", "aiohttp"),
        _bare("openai-bare-otel", "bare SDK, without the instrumentation", "opentelemetry", "openai"),
        Subject(
            "openai-otel",
            "opentelemetry-instrumentation-genai-openai",
            "opentelemetry",
            "openai",
            "opentelemetry_genai",
            "openai-bare-otel",
            spans=True,
        ),
        _bare("openai-2-bare-responses", "bare SDK of 0.1.1, Responses", "published", "openai", api="responses"),
        _published("openai", "openai-2-bare-responses"),
        _bare("openai-2-bare", "bare SDK of LiteLLM", "litellm", "openai"),
        _litellm("openai", "openai-2-bare"),
        _bare("anthropic-bare", "bare SDK", "turnpike", "anthropic"),
        _bare(
            "anthropic-bare-aiohttp",
            "bare SDK over aiohttp",
            "turnpike",
            "anthropic",
            "anthropic-bare",
            transport="aiohttp",
        ),
        _turnpike("anthropic-turnpike", "**Turnpike**", "anthropic", "default"),
        _turnpike("anthropic-turnpike-aiohttp", '**Turnpike**, `transport="aiohttp"`', "anthropic", "aiohttp"),
        _bare("anthropic-0-bare", "bare SDK of 0.1.1", "published", "anthropic"),
        _published("anthropic", "anthropic-0-bare"),
        # LiteLLM speaks to Anthropic without its SDK: the SDK it is compared with lives in another environment.
        _litellm("anthropic", "anthropic-bare"),
    )
}
