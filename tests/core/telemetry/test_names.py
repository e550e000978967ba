"""Names: what 0.1.x published stays, and each vintage of the GenAI conventions gets its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike import semconv as own
from turnpike.gateway import semconv
from turnpike.gateway.semconv import VINTAGES, Vocabulary, resolve_attrs, vintages_from_env

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
PUBLISHED = [
    "schema_version",
    "cost_source",
    "tokens_total",
    "event_type",
    "runtime_mode",
    "routing_decision",
    "routing_reason",
    "status",
    "error_type",
    "latency_ms",
    "retry_count",
    "fallback_triggered",
    "fallback_reason",
    "circuit_state",
    "policy_input_class",
    "policy_decision",
    "policy_mode",
    "redaction_applied",
    "pii_detected",
    "cache_eligible",
    "cache_strategy",
    "cache_key_fingerprint",
    "cache_key_algorithm",
    "cache_lookup_confidence",
    "eval_hooks",
    "route",
    "model_tier",
    "request_id",
    "tenant_id",
    "caller_id",
    "use_case",
    "session_id",
    "task_id",
    "retry_attempts_allowed",
    "cache_enabled",
    "provider",
    "estimated_cost_usd",
    "cache_hit",
    "error_category",
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_attribute_keeps_its_name(name: str) -> None:
    assert getattr(own, f"ATTR_TURNPIKE_{name.upper()}") == f"turnpike.{name}"


def test_the_published_metrics_keep_their_names() -> None:
    assert (own.METRIC_TURNPIKE_COST_USD, own.METRIC_TURNPIKE_REQUESTS) == (
        "turnpike.estimated_cost_usd",
        "turnpike.requests",
    )


def test_no_two_attributes_share_a_name() -> None:
    names = [value for name, value in vars(own).items() if name.startswith("ATTR_")]
    assert len(set(names)) == len(names)


def test_only_one_module_knows_names_of_the_genai_conventions() -> None:
    package = Path(semconv.__file__).parents[1]
    knowing = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if '"gen_ai.' in path.read_text()}
    assert knowing == {"gateway/semconv.py"}


@pytest.mark.parametrize(
    ("env", "vintages"),
    [
        ({}, ("v1.41.0",)),
        ({OPT_IN: "http,database/dup"}, ("v1.41.0",)),
        ({OPT_IN: "http, gen_ai_latest_experimental"}, ("genai-main",)),
        ({OPT_IN: "gen_ai_latest_experimental/dup"}, ("genai-main", "v1.41.0")),
        ({OPT_IN: "gen_ai_latest_experimental,gen_ai_latest_experimental/dup"}, ("genai-main", "v1.41.0")),
        ({"TURNPIKE_SEMCONV": "v1.36.0"}, ("v1.36.0",)),
        ({"TURNPIKE_SEMCONV": "v1.36.0, v1.41.0", OPT_IN: "gen_ai_latest_experimental"}, ("v1.36.0", "v1.41.0")),
        ({"TURNPIKE_SEMCONV": "v1.36.0,v1.36.0"}, ("v1.36.0",)),
        ({"TURNPIKE_SEMCONV": " , "}, ("v1.41.0",)),
        ({"TURNPIKE_SEMCONV": "turnpike-0.1"}, ("turnpike-0.1",)),
    ],
)
def test_the_environment_says_which_vintages_are_emitted(env: Mapping[str, str], vintages: tuple[str, ...]) -> None:
    assert vintages_from_env(env) == vintages


def test_an_unknown_vintage_in_the_environment_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    assert vintages_from_env({"TURNPIKE_SEMCONV": "v1.37.0,v1.36.0"}) == ("v1.36.0",)
    assert "TURNPIKE_SEMCONV takes v1.36.0, v1.41.0, genai-main" in caplog.text


def test_an_unknown_vintage_in_code_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"unknown vintage 'v2'; write one of v1\.36\.0"):
        Vocabulary(("v2",))


def test_the_first_vintage_gives_the_schema_url() -> None:
    assert Vocabulary(("v1.36.0", "v1.41.0")).schema_url == "https://opentelemetry.io/schemas/1.36.0"
    assert Vocabulary(("genai-main",)).schema_url.endswith("/gen-ai-dev/1.42.0-dev")


def test_the_legacy_metrics_alone_come_with_the_vintage_of_their_time() -> None:
    vocabulary = Vocabulary(("turnpike-0.1",))
    assert (vocabulary.vintages, vocabulary.legacy_metrics) == (("v1.36.0",), True)


@given(st.lists(st.sampled_from(VINTAGES), min_size=1, unique=True), st.sampled_from(sorted(semconv.ATTRIBUTES)))
def test_together_vintages_write_each_name_that_one_of_them_has_and_no_other(vintages: list[str], field: str) -> None:
    alone = {name for vintage in vintages for name in Vocabulary((vintage,)).attributes({field: "x"})}
    assert set(Vocabulary(tuple(vintages)).attributes({field: "x"})) == alone


@given(
    st.lists(st.sampled_from(VINTAGES), min_size=1, unique=True),
    st.sampled_from(["duration", "time_to_first_chunk", "input_tokens", "output_tokens", "spent_input"]),
)
def test_a_value_is_recorded_once_on_an_instrument_whatever_the_vintages(vintages: list[str], measure: str) -> None:
    points = Vocabulary(tuple(vintages)).points(measure, {"operation": "chat", "provider": "openai"})
    names = [spec.name for spec, _ in points]
    assert len(names) == len(set(names))


def test_an_unknown_value_is_left_out_of_attributes() -> None:
    assert Vocabulary(("v1.41.0",)).attributes({"response_model": None, "request_model": "m"}) == {
        "gen_ai.request.model": "m"
    }


ATTRS = {"gen_ai.system": "openai", "turnpike.route": "/r"}


@pytest.mark.parametrize("opt_in", ["", "http", "gen_ai_latest_experimentalx"])
def test_resolve_attrs_returns_its_argument_when_nobody_opted_in(monkeypatch: pytest.MonkeyPatch, opt_in: str) -> None:
    monkeypatch.setenv(OPT_IN, opt_in)
    assert resolve_attrs(ATTRS) is ATTRS


def test_resolve_attrs_renames_and_leaves_its_argument_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPT_IN, "gen_ai_latest_experimental")
    assert resolve_attrs(ATTRS) == {"gen_ai.provider.name": "openai", "turnpike.route": "/r"}
    assert "gen_ai.system" in ATTRS


def test_resolve_attrs_keeps_both_names_on_dup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPT_IN, "http,gen_ai_latest_experimental/dup")
    assert resolve_attrs(ATTRS) == {**ATTRS, "gen_ai.provider.name": "openai"}


def test_resolve_attrs_returns_its_argument_when_no_name_is_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPT_IN, "gen_ai_latest_experimental")
    attrs = {"turnpike.route": "/r"}
    assert resolve_attrs(attrs) is attrs


def test_resolve_attrs_reads_the_table_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPT_IN, "gen_ai_latest_experimental")
    monkeypatch.setattr(semconv, "_PENDING_RENAMES", {"old": "new"})
    assert resolve_attrs({"old": 1, "gen_ai.system": "openai"}) == {"new": 1, "gen_ai.system": "openai"}
