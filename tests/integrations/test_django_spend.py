"""Adding up a ledger: of what period, from which files, and within what bounds."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("django", reason="needs django: install turnpike[django]")

from turnpike_django import ledger_lines, spend
from turnpike_django.ledger_lines import files_of, lines_since, parse
from turnpike_django.spend import OTHERS, Report, report

from .ledger_lines import line, write_lines

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.jsonl"


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the beginning down to the last few lines, though the file is small."""
    monkeypatch.setattr(ledger_lines, "_CLOSE_ENOUGH", 256)


def stamped(**ago: float) -> str:
    return (NOW - timedelta(**ago)).isoformat()


def test_the_figures_of_each_tenant_are_added_up(ledger: Path) -> None:
    write_lines(
        ledger,
        {"tenant_id": "acme", "tokens_in": 10, "tokens_out": 5, "cost_nano_usd": 7},
        {"tenant_id": "acme", "status": "error", "cost_nano_usd": 3},
        {"tenant_id": "acme", "status": "cancelled"},
        {"tenant_id": "acme", "status": "denied", "cost_nano_usd": 0},
        {"tenant_id": "acme", "status": "unknown"},
        {"tenant_id": "unattributed", "status": "cached", "cost_nano_usd": 0},
    )
    found = report(ledger)
    acme = found.rows["acme",]
    assert (acme.calls, acme.errors, acme.cancelled, acme.unpriced) == (5, 3, 1, 2)
    assert (acme.tokens_in, acme.tokens_out, acme.cost_nano_usd) == (10, 5, 10)
    assert found.rows["unattributed",].calls == 1
    assert (found.total.calls, found.total.cost_nano_usd, found.files) == (6, 10, 1)


def test_lines_of_0_1_have_their_cost_in_dollars(ledger: Path) -> None:
    write_lines(
        ledger,
        {"estimated_cost_usd": 0.0000259, "cost_source": "estimated_local_snapshot"},
        {"estimated_cost_usd": 0.0, "cost_source": "degraded_unknown"},
    )
    total = report(ledger).total
    assert (total.cost_nano_usd, total.unpriced) == (25_900, 1)


def test_what_is_no_call_is_left_out_and_counted(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_lines, "_MAX_LINE", 1000)
    write_lines(ledger, {"tenant_id": "first"})
    with ledger.open("ab") as file:
        file.write(b'{"event_type": "deployed", "timestamp": "2026-11-21T12:00:00+00:00"}\n')
        file.write(b"\n\xff\xfe\n[]\nnull\n" + line(tenant_id=None) + line(timestamp="yesterday"))
        file.write(line(metadata="x" * 5000))
    write_lines(ledger, {"tenant_id": "last"})
    with ledger.open("ab") as file:
        file.write(line()[:-20])  # being written just now
    found = report(ledger)
    assert set(found.rows) == {("first",), ("last",)}
    assert found.skipped == 8


def test_times_without_a_zone_are_utc() -> None:
    parsed = parse(line(timestamp="2026-11-21T12:00:00"))
    assert parsed is not None
    assert parsed[1] == NOW
    assert parse(line(timestamp="2026-11-21T12:00:00Z")) is not None


def test_files_that_were_rotated_away_are_read_too_and_others_are_not(ledger: Path) -> None:
    for name in (
        "telemetry.jsonl.2",
        "telemetry.jsonl-20261120",
        "telemetry.jsonl.2.gz",
        "telemetry.jsonl.bak",
        "other",
    ):
        write_lines(ledger.with_name(name), {"tenant_id": name})
    write_lines(ledger, {"tenant_id": "current"})
    ledger.with_name("telemetry.jsonl.7").mkdir()
    assert {name for (name,) in report(ledger).rows} == {"telemetry.jsonl.2", "telemetry.jsonl-20261120", "current"}


def test_a_ledger_that_is_not_there_or_cannot_be_read_is_no_error(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(ledger) == Report()
    assert files_of(ledger.parent / "nowhere" / "telemetry.jsonl") == []
    write_lines(ledger, {"tenant_id": "acme"})

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    assert report(ledger) == Report()


def test_one_tenants_calls_are_added_up_by_route_and_model(ledger: Path) -> None:
    write_lines(
        ledger,
        {"tenant_id": "acme", "route": "/a", "model": "m"},
        {"tenant_id": "acme", "route": "/a", "model": "m"},
        {"tenant_id": "acme", "route": "/a"},
        {"tenant_id": "acme ", "route": "/a"},
    )
    found = report(ledger, tenant="acme")
    assert {name: sums.calls for name, sums in found.rows.items()} == {("/a", "m"): 2, ("/a", "-"): 1}
    assert found.total.calls == 3


def test_rows_have_a_bound_beyond_which_everything_is_one_row(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spend, "_MAX_ROWS", 2)
    write_lines(ledger, *({"tenant_id": f"t{number % 5}"} for number in range(50)))
    found = report(ledger)
    assert {name: sums.calls for name, sums in found.rows.items()} == {("t0",): 10, ("t1",): 10, OTHERS: 30}
    assert found.total.calls == 50


@pytest.mark.usefixtures("coarse")
def test_older_lines_are_not_read_at_all(ledger: Path) -> None:
    write_lines(ledger, *({"timestamp": stamped(days=40 - number / 100)} for number in range(4000)))
    read = list(lines_since(ledger, NOW - timedelta(days=1)))
    assert len(read) < 120  # a day has a hundred lines here, and the hour of disorder a few
    assert report(ledger, since=NOW - timedelta(days=1)).total.calls == 100
    assert len(list(lines_since(ledger, None))) == 4000
    assert len(list(lines_since(ledger, NOW + timedelta(days=1)))) < 3


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("noise", [b"", b"no call\n" * 50, b"x" * 3000 + b"\n"])
def test_noise_at_any_place_hides_no_line(ledger: Path, noise: bytes) -> None:
    for number in range(60):
        write_lines(ledger, {"timestamp": stamped(hours=60 - number), "tenant_id": f"t{number}"})
        with ledger.open("ab") as file:
            file.write(noise)
    for hours in range(0, 61, 7):
        assert report(ledger, since=NOW - timedelta(hours=hours)).total.calls == hours


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 7200), max_size=60),
    late=st.lists(st.integers(0, 3000), min_size=60, max_size=60),
    since=st.integers(-1000, 200_000),
    padding=st.lists(st.integers(0, 300), min_size=60, max_size=60),
)
def test_whatever_the_order_within_an_hour_no_line_of_the_period_is_missed(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], late: list[int], since: int, padding: list[int]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "telemetry.jsonl"
    moment, stamps = 0, []
    for gap, behind, pad in zip(gaps, late, padding, strict=False):
        moment += gap
        stamps.append(moment - behind)
        write_lines(path, {"timestamp": (NOW + timedelta(seconds=moment - behind)).isoformat(), "note": "x" * pad})
    if not stamps:
        return
    before = ledger_lines._CLOSE_ENOUGH
    ledger_lines._CLOSE_ENOUGH = 200
    try:
        found = report(path, since=NOW + timedelta(seconds=since))
    finally:
        ledger_lines._CLOSE_ENOUGH = before
        os.unlink(path)
    assert found.total.calls == sum(stamp >= since for stamp in stamps)
