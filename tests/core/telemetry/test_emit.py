"""``emit`` and ``emit_event``: published lines, which metadata cannot forge, in the file that the environment names."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import metrics

from turnpike.envelope import EnvelopeStatus, LLMRequestEnvelope
from turnpike.gateway import telemetry
from turnpike.gateway.telemetry import emit, emit_event, telemetry_path

PUBLISHED = {
    "timestamp",
    "request_id",
    "route",
    "provider",
    "model",
    "latency_ms",
    "status",
    "tokens_in",
    "tokens_out",
    "estimated_cost_usd",
    "cost_source",
    "cache_hit",
    "schema_valid",
    "error_type",
    "schema_version",
}
CALL: dict[str, Any] = {
    "request_id": "r-1",
    "route": "/answer",
    "provider": "openai",
    "model": "gpt-4o-mini",
    "latency_ms": 12.5,
    "status": "success",
    "tokens_in": 21,
    "tokens_out": 9,
    "estimated_cost_usd": 0.00000855,
}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    path = tmp_path / "ledger" / "telemetry.jsonl"
    monkeypatch.setenv("TURNPIKE_TELEMETRY_PATH", str(path))

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return lines


def test_a_call_is_one_line_with_the_published_keys(ledger: Any) -> None:
    emit(**CALL)
    (line,) = ledger()
    assert line.keys() == PUBLISHED
    assert CALL.items() <= line.items()
    assert (line["error_type"], line["schema_valid"], line["cost_source"]) == (None, True, "estimated_local_snapshot")
    assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC


def test_ok_is_written_as_success(ledger: Any) -> None:
    emit(**{**CALL, "status": "ok"})
    assert ledger()[0]["status"] == "success"


def test_metadata_is_laid_beside_the_record(ledger: Any) -> None:
    emit(**CALL, metadata={"selected_model": "gpt-4o-mini", "session_id": "s", "model_tier": "cheap", "flavour": "x"})
    (line,) = ledger()
    assert (line["selected_model"], line["session_id"], line["model_tier"], line["flavour"]) == (
        "gpt-4o-mini",
        "s",
        "cheap",
        "x",
    )


def test_an_envelope_is_written_whole_and_wins(ledger: Any, envelope_of: Callable[..., LLMRequestEnvelope]) -> None:
    envelope = envelope_of(provider_selected="openai", model_selected="gpt-4o-mini")
    emit(**{**CALL, "tokens_in": 1}, envelope=envelope, metadata={"flavour": "x", "estimated_cost_usd": 0.0})
    (line,) = ledger()
    assert LLMRequestEnvelope.from_dict(line) == envelope
    assert {"status": "success", "provider": "openai", "model": "gpt-4o-mini", "flavour": "x"}.items() <= line.items()
    assert "estimated_cost_usd" not in line


def test_a_failure_with_an_envelope_has_its_type(ledger: Any, envelope_of: Callable[..., LLMRequestEnvelope]) -> None:
    emit(**{**CALL, "status": "error"}, error_type="timeout", envelope=envelope_of(status=EnvelopeStatus.ERROR))
    assert (ledger()[0]["status"], ledger()[0]["error_type"]) == ("error", "timeout")


FORGED = [
    "tokens_in",
    "estimated_cost_usd",
    "cost_nano_usd",
    "usage",
    "request_id",
    "status",
    "schema_version",
    "timestamp",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from([*FORGED, "event_type", "attempts"]), st.just("forged")), st.booleans())
def test_metadata_replaces_nothing_that_the_record_says(
    tmp_path: Path, envelope_of: Any, metadata: dict[str, Any], with_envelope: bool
) -> None:
    path = tmp_path / "telemetry.jsonl"
    path.unlink(missing_ok=True)
    with mock.patch.object(telemetry, "TELEMETRY_PATH", path):
        emit(**CALL, metadata=metadata, envelope=envelope_of() if with_envelope else None)
        emit(**CALL, envelope=envelope_of() if with_envelope else None)
    forged, plain = (json.loads(line) for line in path.read_text().splitlines())
    kept = {"event_type": "forged"} if with_envelope and "event_type" in metadata else {}
    assert {**forged, "timestamp": ""} == {**plain, "timestamp": "", **kept}


def test_an_event_is_one_line_with_its_keys(ledger: Any) -> None:
    emit_event("deploy")
    emit_event("vote", "s-1", "t-1", {"score": 1, "event_type": "forged", "session_id": "forged"})
    bare, full = ledger()
    assert bare.keys() == {"timestamp", "event_type", "schema_version"}
    assert (full["event_type"], full["session_id"], full["task_id"], full["score"]) == ("vote", "s-1", "t-1", 1)


def test_values_that_json_cannot_hold_leave_a_readable_line(ledger: Any) -> None:
    emit(**CALL, metadata={"when": datetime(2026, 1, 1, tzinfo=UTC), "what": object(), "nan": float("nan")})
    emit_event("next")
    assert len(ledger()) == 2


@pytest.mark.parametrize("call", [{**CALL, "latency_ms": None}, {**CALL, "metadata": 7}, {**CALL, "status": object()}])
def test_wrong_arguments_raise_nothing(ledger: Any, call: dict[str, Any]) -> None:
    emit(**call)
    emit_event("e", metadata=7)  # type: ignore[arg-type]


def test_a_ledger_that_cannot_be_written_raises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TURNPIKE_TELEMETRY_PATH", str(tmp_path / "file" / "telemetry.jsonl"))
    emit(**CALL)
    emit_event("e")


def test_the_ledger_can_be_switched_off(ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNPIKE_LEDGER", "off")
    emit(**CALL)
    emit_event("e")
    assert ledger() == []


def test_the_path_is_read_at_every_write_and_a_patch_ends_where_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNPIKE_TELEMETRY_PATH", str(tmp_path / "first"))
    assert telemetry_path() == telemetry.TELEMETRY_PATH == tmp_path / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry, "TELEMETRY_PATH", tmp_path / "patched")
        emit_event("e")
        assert telemetry_path() == tmp_path / "patched"
    assert (tmp_path / "patched").exists()
    monkeypatch.setenv("TURNPIKE_TELEMETRY_PATH", str(tmp_path / "second"))
    assert telemetry_path() == tmp_path / "second"


def test_the_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert telemetry_path() == tmp_path / ".turnpike" / "telemetry.jsonl"
    monkeypatch.setenv("TURNPIKE_TELEMETRY_PATH", "~/books.jsonl")
    assert telemetry_path() == tmp_path / "books.jsonl"


def test_other_names_of_the_module_are_still_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'NOTHING'"):
        telemetry.NOTHING  # noqa: B018


def test_a_call_is_measured_too(ledger: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: recorder.meter_provider)
    emit(**CALL, metadata={"routing_decision": "cheap"})
    emit(
        **{**CALL, "status": "error", "tokens_in": 0, "tokens_out": 0, "estimated_cost_usd": 0.0}, error_type="timeout"
    )
    (cost,) = [point for point in recorder.points("turnpike.cost") if point.value]
    assert cost.value == 0.00000855
    assert cost.attributes["turnpike.model_tier"] == "cheap"
    assert sum(point.count for point in recorder.points("gen_ai.client.token.usage")) == 2
    assert {point.attributes["turnpike.status"] for point in recorder.points("turnpike.requests")} == {"ok", "error"}
