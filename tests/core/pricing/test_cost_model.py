"""The public face: the published names of 0.1.x and the functions of the default book."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal

import pytest

from turnpike.gateway import cost_model
from turnpike.gateway.cost_model import (
    MODEL_PRICING,
    estimate_cost,
    get_pricing,
    preload_pricing,
    price_usage,
    pricing_version,
    register_pricing,
)

PUBLISHED = {
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4o": (2.50, 10.00),
    "claude-sonnet-4-20250514": (3.00, 15.00),
    "claude-haiku-3-5-20241022": (0.80, 4.00),
}


@pytest.fixture
def _own_default_book(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the test a default book and a published table of its own."""
    monkeypatch.setattr(cost_model, "DEFAULT_BOOK", cost_model.PriceBook())
    before = get_pricing()
    yield
    MODEL_PRICING.clear()
    MODEL_PRICING.update(before)


@pytest.mark.parametrize(("model", "rates"), PUBLISHED.items())
def test_the_published_models_keep_their_prices(model: str, rates: tuple[float, float]) -> None:
    assert estimate_cost(model, 1_000_000, 0) == rates[0]
    assert estimate_cost(model, 0, 1_000_000) == rates[1]
    assert MODEL_PRICING[model] == {"input_per_1m": rates[0], "output_per_1m": rates[1]}


def test_an_estimate_is_a_float_of_the_exact_sum() -> None:
    cost = estimate_cost("gpt-4o-mini", 1, 1)
    assert isinstance(cost, float)
    assert cost == 0.00000075


def test_an_unknown_model_and_negative_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown model 'gpt-9-ultra'.*register_pricing"):
        estimate_cost("gpt-9-ultra", 1, 1)
    with pytest.raises(ValueError, match="non-negative"):
        estimate_cost("gpt-4o", 0, -1)


@pytest.mark.usefixtures("_own_default_book")
def test_registering_a_price_reaches_estimates_prices_and_the_table() -> None:
    register_pricing("house-model", 1.5, 3)
    assert estimate_cost("house-model", 1_000_000, 1_000_000) == 4.5
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    assert price_usage(usage, provider="ollama", api="openai-chat", model="house-model").cost_usd == Decimal("1.5")
    assert MODEL_PRICING["house-model"] == {"input_per_1m": 1.5, "output_per_1m": 3.0}
    assert ";overrides/" in pricing_version()


@pytest.mark.usefixtures("_own_default_book")
def test_a_bad_price_is_refused_and_changes_nothing() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        register_pricing("gpt-4o", -1, 1)
    assert estimate_cost("gpt-4o", 1_000_000, 0) == 2.5


def test_the_table_is_handed_out_as_a_copy() -> None:
    get_pricing()["gpt-4o"]["input_per_1m"] = 0.0
    assert MODEL_PRICING["gpt-4o"]["input_per_1m"] == 2.5


def test_the_version_names_data_and_supplement() -> None:
    preload_pricing()
    data, supplement = pricing_version().split(";")[:2]
    assert data.startswith("genai-prices/")
    assert len(data.partition("+")[2]) == 12
    assert supplement.startswith("supplement/20")


def test_importing_the_module_loads_no_price_data() -> None:
    code = """
import sys, turnpike.gateway.cost_model as cost_model
print([name for name in ("genai_prices", "pydantic") if name in sys.modules])
cost_model.preload_pricing()
print("genai_prices.data" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[:2] == ["[]", "True"]


def test_prices_do_not_follow_the_process_global_snapshot() -> None:
    from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot

    set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=False))
    try:
        usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
        price = cost_model.PriceBook().price(usage, provider="openai", api="openai-chat", model="gpt-4o")
    finally:
        set_custom_snapshot(None)
    assert price.cost_usd == Decimal("2.5")
