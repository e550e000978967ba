"""Every priced case of the reference file, within a tenth of a percent, with no exception."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from turnpike.envelope import CostQuality
from turnpike.pricing import Price, PriceBook

CASES = Path(__file__).parents[4] / "shared" / "data" / "pricing_cases.jsonl"
BOOK = PriceBook()

pytestmark = pytest.mark.skipif(
    not CASES.is_file(), reason="needs pricing-cases: put pricing_cases.jsonl into ../shared/data"
)


def load() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CASES.read_text().splitlines()] if CASES.is_file() else []


def price_of(case: dict[str, Any]) -> Price:
    context = case["context"]
    return BOOK.price(
        case["usage"],
        provider=case["provider"],
        api=case["api"],
        model=case["model"],
        requested_model=case.get("requested_model"),
        at=datetime.fromisoformat(case["timestamp"]),
        service_tier=context.get("service_tier"),
        batch=context.get("processing") == "batch",
        speed=context.get("speed"),
        geo=context.get("inference_geo"),
        tool_counts=case.get("tool_calls"),
        is_partial=case["expected_status"] == "partial",
    )


@pytest.mark.parametrize("case", load(), ids=lambda case: f"{case['id']}-{case['category']}")
def test_case(case: dict[str, Any]) -> None:
    price = price_of(case)
    if case["expected_cost_usd"] is None:
        assert case["expected_status"] in ("unknown", "invalid")
        assert (price.cost_usd, price.quality) == (None, CostQuality.UNKNOWN)
        return
    expected = Decimal(case["expected_cost_usd"])
    assert price.cost_usd is not None, price.notes
    assert abs(price.cost_usd - expected) <= expected / 1000, price.notes
    assert (price.quality is CostQuality.PARTIAL) == (case["expected_status"] == "partial")


def test_the_file_is_whole() -> None:
    cases = load()
    assert len(cases) == 93
    statuses = [case["expected_status"] for case in cases]
    assert [statuses.count(each) for each in ("priced", "unknown", "invalid", "partial")] == [86, 5, 1, 1]
