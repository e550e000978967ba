"""The envelope: immutable, hashable, checked, and the same after it has been written and read again."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from turnpike import AttemptRecord, CostQuality, CostSource, EnvelopeStatus, LLMRequestEnvelope, UsageVector
from turnpike.envelope import ENVELOPE_SCHEMA_VERSION, CircuitState
from turnpike.frozen import FrozenDict, freeze

PUBLISHED_FIELDS = """
    schema_version request_id tenant_id route
    trace_id span_id caller_id use_case session_id task_id
    provider_requested model_requested provider_selected model_selected model_tier routing_decision routing_reason
    tokens_in tokens_out tokens_total estimated_cost_usd cost_source
    latency_ms time_to_first_token_ms status error_type retry_count fallback_triggered fallback_reason circuit_state
    streaming finish_reason
    policy_input_class policy_decision policy_mode redaction_applied pii_detected
    cache_eligible cache_strategy cache_hit cache_key_fingerprint cache_key_algorithm cache_lookup_confidence
    eval_hooks audit_tags
""".split()  # noqa: SIM905 - one block of fields in each line, as in the published class
REQUIRED = {"schema_version": "0.2.0", "request_id": "r-1", "tenant_id": "acme", "route": "/chat"}

relaxed = settings(deadline=None, max_examples=50, phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink))


def envelope(**fields: Any) -> LLMRequestEnvelope:
    return LLMRequestEnvelope(**{**REQUIRED, **fields})


words = st.text(st.characters(exclude_categories=["Cs"]))
optional_words = st.none() | words
flags = st.none() | st.booleans()
# JSON readers may keep integers in 64 bits; no count comes near.
counts = st.integers(0, 2**53)
measures = st.floats(0, 1e12)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
future = st.sampled_from(["paused", "made_up_tomorrow", ""])


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def mappings(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(words, values, min_size=1, max_size=4)


vectors = st.builds(UsageVector, *[optional(counts)] * 2, *[counts] * (len(UsageVector.__struct_fields__) - 2))
attempts = st.builds(
    AttemptRecord,
    number=st.integers(1, 100),
    provider=words,
    model=words,
    status=st.sampled_from(EnvelopeStatus),
    error_type=optional_words,
    http_status=optional(st.integers(100, 599)),
    accepted=flags,
    tokens_in=optional(counts),
    tokens_out=optional(counts),
    cost_nano_usd=optional(counts),
    duration_ms=optional(measures),
    retry_after_s=optional(measures),
)
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(REQUIRED, words.filter(bool)),
    **dict.fromkeys(("tokens_in", "tokens_out", "cost_nano_usd", "retry_count"), optional(counts)),
    "tokens_total": st.none(),
    **dict.fromkeys(
        ("estimated_cost_usd", "latency_ms", "time_to_first_token_ms", "cache_lookup_confidence"), optional(measures)
    ),
    **dict.fromkeys(
        ("fallback_triggered", "streaming", "redaction_applied", "pii_detected", "cache_eligible", "cache_hit"), flags
    ),
    "attributed": flags,
    "status": st.sampled_from(EnvelopeStatus),
    "cost_source": st.sampled_from(CostSource),
    "cost_quality": st.sampled_from(CostQuality),
    "circuit_state": optional(st.sampled_from(CircuitState)),
    "eval_hooks": st.lists(words, max_size=3),
    "cost_notes": st.lists(words, max_size=3),
    "audit_tags": st.dictionaries(words, words, max_size=3),
    "provider_usage": optional(mappings(plain_json)),
    "tool_counts": optional(mappings(counts)),
    "usage": optional(vectors),
    "attempts": st.lists(attempts, max_size=3),
}
envelopes = st.fixed_dictionaries(
    {field.name: STRATEGIES.get(field.name, optional_words) for field in dataclasses.fields(LLMRequestEnvelope)}
).map(lambda fields: LLMRequestEnvelope(**fields))


class TestARoundTrip:
    @relaxed
    @given(envelopes)
    def test_through_json_gives_the_same_envelope(self, before: LLMRequestEnvelope) -> None:
        after = LLMRequestEnvelope.from_dict(json.loads(json.dumps(before.to_dict())))

        assert after == before
        assert hash(after) == hash(before)
        assert after.to_dict() == before.to_dict()

    @relaxed
    @given(envelopes, st.dictionaries(words.map("x_".__add__), plain_json, max_size=3))
    def test_ignores_keys_that_it_does_not_know(self, before: LLMRequestEnvelope, unknown: dict[str, Any]) -> None:
        assert LLMRequestEnvelope.from_dict({**unknown, **before.to_dict()}) == before

    @relaxed
    @given(
        envelopes, st.fixed_dictionaries({}, optional=dict.fromkeys(("status", "cost_source", "cost_quality"), future))
    )
    def test_keeps_values_of_a_newer_version_verbatim(self, before: LLMRequestEnvelope, newer: dict[str, str]) -> None:
        written = {**before.to_dict(), **newer}
        after = LLMRequestEnvelope.from_dict(written)

        assert after.to_dict() == written
        assert LLMRequestEnvelope.from_dict(after.to_dict()) == after
        assert isinstance(hash(after), int)

    @relaxed
    @given(envelopes)
    def test_through_pickle_and_copy_gives_the_same_envelope(self, before: LLMRequestEnvelope) -> None:
        assert pickle.loads(pickle.dumps(before)) == copy.deepcopy(before) == copy.copy(before) == before

    @relaxed
    @given(vectors)
    def test_of_a_usage_vector_keeps_a_known_zero_apart_from_unknown(self, vector: UsageVector) -> None:
        before = envelope(usage=vector)

        assert LLMRequestEnvelope.from_dict(before.to_dict()).usage == vector

    def test_reads_the_published_word_for_ok(self) -> None:
        assert LLMRequestEnvelope.from_dict({**REQUIRED, "status": "success"}).status is EnvelopeStatus.OK


class TestReading:
    @relaxed
    @given(
        st.dictionaries(
            st.sampled_from([field.name for field in dataclasses.fields(LLMRequestEnvelope)]), plain_json
        ).map(lambda fields: {**REQUIRED, **fields})
    )
    def test_what_is_no_envelope_is_a_value_error_and_nothing_else(self, data: dict[str, Any]) -> None:
        try:
            read = LLMRequestEnvelope.from_dict(data)
        except ValueError:
            return
        assert isinstance(hash(read), int)
        json.dumps(read.to_dict())

    @pytest.mark.parametrize("missing", REQUIRED)
    def test_a_line_without_a_required_key_names_it(self, missing: str) -> None:
        with pytest.raises(ValueError, match=f"not an envelope: {missing} missing"):
            LLMRequestEnvelope.from_dict({key: value for key, value in REQUIRED.items() if key != missing})

    def test_fields_of_an_older_line_are_unknown_and_not_zero(self) -> None:
        read = LLMRequestEnvelope.from_dict(REQUIRED)

        assert (read.tokens_in, read.estimated_cost_usd, read.cost_nano_usd, read.attributed) == (None,) * 4
        assert (read.cost_source, read.cost_quality) == (CostSource.DEGRADED_UNKNOWN, CostQuality.UNKNOWN)


class TestTheFields:
    def test_are_those_published_first_and_in_their_order(self) -> None:
        names = [field.name for field in dataclasses.fields(LLMRequestEnvelope)]

        assert len(PUBLISHED_FIELDS) == 45
        assert names[:45] == PUBLISHED_FIELDS

    def test_that_are_published_can_be_given_by_position(self) -> None:
        assert LLMRequestEnvelope("0.1.0", "r", "t", "/x", "trace").trace_id == "trace"

    def test_that_are_empty_are_left_out_when_written(self) -> None:
        assert envelope(eval_hooks=(), audit_tags={}).to_dict() == {
            **REQUIRED,
            "cost_source": "degraded_unknown",
            "cost_quality": "unknown",
            "status": "ok",
        }

    def test_that_are_false_or_zero_are_written(self) -> None:
        written = envelope(streaming=False, tokens_in=0, estimated_cost_usd=0.0, attributed=False).to_dict()

        assert (written["streaming"], written["tokens_in"], written["attributed"]) == (False, 0, False)
        assert written["estimated_cost_usd"] == 0.0

    @pytest.mark.parametrize("name", REQUIRED)
    @pytest.mark.parametrize("value", ["", None, 5])
    def test_that_are_required_hold_text(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"{name} must be a non-empty string"):
            envelope(**{name: value})

    @pytest.mark.parametrize("name", ["tokens_in", "tokens_out", "tokens_total", "cost_nano_usd", "retry_count"])
    @pytest.mark.parametrize("value", [-1, 1.5, True, "5"])
    def test_that_count_hold_non_negative_integers(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"{name} must be a non-negative integer"):
            envelope(**{name: value})

    @pytest.mark.parametrize("name", ["estimated_cost_usd", "latency_ms", "time_to_first_token_ms"])
    @pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), True, "5"])
    def test_that_measure_hold_finite_non_negative_numbers(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"{name} must be a finite, non-negative number"):
            envelope(**{name: value})

    def test_of_tokens_add_up(self) -> None:
        assert envelope(tokens_in=2, tokens_out=3, tokens_total=5).tokens_total == 5
        with pytest.raises(ValueError, match=r"got 6 for 2 \+ 3"):
            envelope(tokens_in=2, tokens_out=3, tokens_total=6)

    @pytest.mark.parametrize("name", ["status", "cost_source", "cost_quality", "circuit_state"])
    def test_of_a_fixed_vocabulary_hold_its_words(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} must be one of .*banana"):
            envelope(**{name: "banana"})

    def test_take_a_word_for_its_enum(self) -> None:
        assert envelope(status="error").status is EnvelopeStatus.ERROR
        assert AttemptRecord(1, "p", "m", status="cancelled").status is EnvelopeStatus.CANCELLED

    def test_published_words_are_all_there(self) -> None:
        assert {"ok", "cached", "error", "degraded", "denied"} <= set(EnvelopeStatus)
        assert set(CostSource) == {
            "estimated_local_snapshot",
            "estimated_provider_api",
            "actual_provider_invoice",
            "cached_zero",
            "degraded_unknown",
        }
        assert set(CircuitState) == {"closed", "open", "half_open"}
        assert ENVELOPE_SCHEMA_VERSION


class TestImmutability:
    def test_of_the_fields(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            envelope().tokens_in = 5  # type: ignore[misc]

    def test_of_the_mappings_in_it_at_every_depth(self) -> None:
        tags, usage = {"a": "b"}, {"details": {"cached": [1, {"deep": 2}]}}
        made = envelope(audit_tags=tags, provider_usage=usage)
        tags["a"] = "changed"
        usage["details"]["cached"].append(3)

        assert made.audit_tags == {"a": "b"}
        assert made.provider_usage == {"details": {"cached": (1, {"deep": 2})}}
        for mapping in (made.audit_tags, made.provider_usage, made.provider_usage["details"]["cached"][1]):
            for change in (
                lambda m: m.update(x=1),
                lambda m: m.__setitem__("x", 1),
                lambda m: m.pop("x", None),
                lambda m: m.clear(),
                lambda m: m.setdefault("x", 1),
                lambda m: m.__ior__({"x": 1}),
            ):
                with pytest.raises(TypeError, match="cannot be changed"):
                    change(mapping)

    def test_makes_equal_envelopes_one_in_a_set(self) -> None:
        one = envelope(audit_tags={"a": "b"}, provider_usage={"x": [1, {"y": 2}]}, eval_hooks=["a"])
        two = envelope(audit_tags={"a": "b"}, provider_usage={"x": (1, {"y": 2})}, eval_hooks=("a",))

        assert {one, two} == {one}
        assert one != envelope()

    def test_of_a_default_mapping_is_shared_safely(self) -> None:
        with pytest.raises(TypeError):
            envelope().audit_tags["x"] = "y"  # type: ignore[index]
        assert envelope().audit_tags == {}

    def test_of_a_mapping_survives_pickle_and_copies(self) -> None:
        frozen = freeze({"a": {"b": [1]}})

        assert isinstance(pickle.loads(pickle.dumps(frozen)), FrozenDict)
        assert isinstance(pickle.loads(pickle.dumps(frozen))["a"], FrozenDict)
        assert dict(frozen) == {"a": {"b": (1,)}}
        assert json.loads(json.dumps(frozen)) == {"a": {"b": [1]}}


class TestAUsageVector:
    def test_says_what_is_charged_at_the_plain_rate(self) -> None:
        vector = UsageVector(100, 10, cache_read=50, cache_write_5m=20, cache_write_1h=5)

        assert vector.uncached_in == 25
        assert vector.problems() == ()
        assert UsageVector(None, 5).uncached_in is None

    @pytest.mark.parametrize(
        ("vector", "problem"),
        [
            (UsageVector(-1, 1), "negative:tokens_in"),
            (UsageVector(10, 1, cache_read=11), "cache_exceeds_input"),
            (UsageVector(10, 1, audio_in=11), "audio_exceeds_input"),
            (UsageVector(10, 1, reasoning=2), "part_exceeds_output"),
        ],
    )
    def test_says_what_does_not_add_up(self, vector: UsageVector, problem: str) -> None:
        assert problem in vector.problems()

    @relaxed
    @given(st.lists(vectors, max_size=4))
    def test_total_adds_up_what_is_known(self, many: list[UsageVector]) -> None:
        total = UsageVector.total(many)

        known = [vector.tokens_in for vector in many if vector.tokens_in is not None]
        assert total.tokens_in == (sum(known) if known else None)
        assert (total.cache_read or 0) == sum(vector.cache_read for vector in many)

    def test_of_no_vectors_is_a_usable_vector(self) -> None:
        assert UsageVector.total([]) == UsageVector()
