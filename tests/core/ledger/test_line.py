"""A ledger line is one line of valid JSON whatever the metadata holds, and the record's own keys stay the record's."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnpike import LLMRequestEnvelope
from turnpike.envelope import CostQuality, CostSource
from turnpike.ledger import encode_line
from turnpike.ledger.line import RESERVED_KEYS, ledger_line
from turnpike.usage import UsageVector

NOW = "2026-11-21T12:00:00.000000+00:00"
ENVELOPE = LLMRequestEnvelope(
    "0.2.0",
    "r-1",
    "acme",
    "/chat",
    provider_selected="openai",
    model_selected="gpt-4o-mini",
    tokens_in=10,
    tokens_out=5,
    tokens_total=15,
    cost_nano_usd=4500,
    estimated_cost_usd=4500 / 1e9,
    cost_source=CostSource.ESTIMATED_LOCAL_SNAPSHOT,
    cost_quality=CostQuality.EXACT,
    usage=UsageVector(10, 5),
)


def line_of(metadata: Any, envelope: LLMRequestEnvelope = ENVELOPE) -> dict[str, Any]:
    """Write a line and read it back, strictly."""
    raw = encode_line(ledger_line(envelope, timestamp=NOW, metadata=metadata))
    assert b"\n" not in raw
    assert b"\r" not in raw
    return json.loads(raw.decode("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


class Colour(Enum):
    RED = object()


@dataclasses.dataclass
class Node:
    """A node that can be its own child."""

    child: Any = None


class Reserved:
    """A key that is equal to no text and prints itself as a key of the record."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


class Mute:
    """A key that refuses to be text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Broken(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __len__(self) -> int:
        return 1


def cycle(kind: str) -> Any:
    if kind == "list":
        items: list[Any] = []
        items.append(items)
        return items
    if kind == "dict":
        table: dict[str, Any] = {}
        table["self"] = table
        return table
    node = Node()
    node.child = node
    return node


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.datetimes(timezones=st.just(UTC) | st.none())
    | st.decimals()
    | st.uuids()
    | st.just(object())
    | st.just(Colour.RED)
    | st.complex_numbers()
)
keys = (
    st.text(st.characters())
    | st.integers()
    | st.none()
    | st.tuples(st.integers())
    | st.sampled_from(sorted(RESERVED_KEYS))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(keys, values, max_size=5))
def test_any_metadata_gives_one_line_and_leaves_the_record_alone(metadata: dict[Any, Any]) -> None:
    line, own = line_of(metadata), line_of(None)

    assert {key: line[key] for key in own} == own
    assert LLMRequestEnvelope.from_dict(line) == ENVELOPE
    assert not (set(line) - set(own)) & RESERVED_KEYS


@pytest.mark.parametrize("name", sorted(RESERVED_KEYS))
def test_no_key_of_the_record_can_be_set_even_where_the_record_has_none(name: str) -> None:
    assert line_of({name: "spoofed"}) == line_of(None)


@pytest.mark.parametrize("name", ["cost_nano_usd", "request_id", "error_type"])
def test_no_key_that_only_prints_itself_as_one_of_the_record_s_can_set_it(name: str) -> None:
    assert line_of({Reserved(name): "spoofed"}) == line_of(None)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a\nb\r\u2028", "a\nb\r\u2028"),
        (float("nan"), None),
        (float("-inf"), None),
        (2**70, 2**70),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), str(UUID(int=1))),
        (object(), "<object>"),
        (PurePosixPath("/x"), "<PurePosixPath>"),
        (lambda: None, "<function>"),
        ({1: "a", "b": None}, {"1": "a", "b": None}),
        ({"x": {1, 2}}, {"x": [1, 2]}),
        ("\ud800", "\ufffd"),
        ({"\ud800": 1}, {"\ufffd": 1}),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_json_cannot_hold_is_represented(value: Any, written: Any) -> None:
    assert line_of({"mine": value, "other": "kept"}) == {**line_of(None), "mine": written, "other": "kept"}


@pytest.mark.parametrize(
    "value",
    [
        cycle("list"),
        cycle("dict"),
        cycle("dataclass"),
        deep(2000),
        {"x": cycle("dataclass")},
        Broken(),
        {"x": Broken()},
    ],
    ids=[
        "list in itself",
        "dict in itself",
        "dataclass in itself",
        "deep",
        "nested dataclass",
        "broken",
        "nested broken",
    ],
)
def test_what_cannot_be_followed_does_not_cost_the_line(value: Any) -> None:
    line = line_of({"mine": value, "other": "kept"})

    assert {key: line[key] for key in line if key != "mine"} == {**line_of(None), "other": "kept"}
    assert "mine" in line


def test_a_key_that_refuses_to_be_text_does_not_cost_the_line() -> None:
    line = line_of({Mute(): 1, "other": "kept"})

    assert line["other"] == "kept"
    assert LLMRequestEnvelope.from_dict(line) == ENVELOPE


def test_a_line_has_the_keys_that_published_readers_look_for() -> None:
    line = line_of(None)

    assert line["status"] == "success"
    assert (line["timestamp"], line["schema_valid"]) == (NOW, True)
    assert (line["provider"], line["model"], line["selected_model"]) == ("openai", "gpt-4o-mini", "gpt-4o-mini")


@pytest.mark.parametrize("status", ["cached", "error", "degraded", "denied", "cancelled", "unknown"])
def test_other_statuses_are_written_as_they_are(status: str) -> None:
    envelope = dataclasses.replace(ENVELOPE, status=status)

    line = line_of(None, envelope)
    assert line["status"] == status
    assert LLMRequestEnvelope.from_dict(line) == envelope


def test_writing_a_line_does_not_change_the_metadata() -> None:
    metadata = {"a": [1, {"b": {2}}], "status": "spoofed"}
    line_of(metadata)

    assert metadata == {"a": [1, {"b": {2}}], "status": "spoofed"}
