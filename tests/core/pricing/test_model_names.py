"""A model is priced by a name that the list spells out; anything looser is said to be so."""

from __future__ import annotations

from datetime import date

import pytest

from turnpike.pricing import snapshot as snapshot_module
from turnpike.pricing.matching import dated, stripped
from turnpike.pricing.snapshot import canonical_provider, load_snapshot


@pytest.mark.parametrize(
    ("provider", "model", "listed"),
    [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "openai/gpt-4o", "gpt-4o"),
        ("openai", "GPT-4o", "gpt-4o"),
        ("openai", "ft:gpt-4o-2024-08-06:acme:support:abc123", "ft:gpt-4o"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("anthropic", "claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
        ("azure", "azure/gpt-4o", "gpt-4o"),
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("google", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4.5"),
        ("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
    ],
)
def test_spelled_out_names_are_exact(provider: str, model: str, listed: str) -> None:
    found = load_snapshot().find(provider, model)
    assert found is not None
    assert (found.model_id, found.is_exact) == (listed, True)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-sonnet-4-55"),
        ("anthropic", "claude-opus-4-5-foo"),
        ("anthropic", "claude-haiku-4-5x"),
        ("openai", "gpt-5-nano-next"),
    ],
)
def test_a_matched_prefix_is_not_exact(provider: str, model: str) -> None:
    found = load_snapshot().find(provider, model)
    assert found is not None
    assert not found.is_exact


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "gpt-9-ultra"), ("ollama", "qwen3"), ("my-openai", "gpt-4o")]
)
def test_what_the_list_does_not_name_is_not_found(provider: str, model: str) -> None:
    assert load_snapshot().find(provider, model) is None


@pytest.mark.parametrize(
    ("name", "canonical"), [("xai", "x-ai"), ("Bedrock", "aws"), ("vertex_ai", "google"), (" OpenAI ", "openai")]
)
def test_providers_known_by_other_names_are_recognised(name: str, canonical: str) -> None:
    assert canonical_provider(name) == canonical


def test_routing_prefixes_are_taken_off_once() -> None:
    assert stripped("vertex_ai/claude-sonnet-5") == "claude-sonnet-5"
    assert stripped("meta-llama/llama-4") == "meta-llama/llama-4"


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ("gpt-5-nano-2099-01-01", date(2099, 1, 1)),
        ("claude-haiku-4-5-20251001", date(2025, 10, 1)),
        ("claude-sonnet-4@20250514", date(2025, 5, 14)),
        ("gpt-4o-2024-99-01", None),
        ("gpt-4o", None),
    ],
)
def test_the_date_in_a_name_is_read(model: str, day: date | None) -> None:
    assert dated(model) == day


def test_lookups_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "_MAX_LOOKUPS", 20)
    snapshot = load_snapshot()
    for number in range(50):
        assert snapshot.find("openai", f"no-such-model-{number}") is None
    assert snapshot.find("openai", "gpt-4o") is snapshot.find("openai", "gpt-4o")
    assert len(snapshot._found) <= 20
