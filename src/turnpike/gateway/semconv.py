"""Names of the OpenTelemetry GenAI conventions, per vintage; the only module that knows them.

The conventions are in development and rename things. A *vintage* is one state of them; the tables below say what each
vintage calls a thing, and a ``Vocabulary`` gives the names of the vintages that are to be emitted. Nothing here records
anything, knows a value, or imports more than the standard library.

Which vintages are emitted is read from two variables:

- neither set: ``v1.41.0``
- ``OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental``: ``genai-main``
- ``OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental/dup``: ``genai-main`` and ``v1.41.0``
- ``TURNPIKE_SEMCONV=v1.36.0``, or several with commas between them: exactly these, whatever the other variable says

``TURNPIKE_SEMCONV`` also takes ``turnpike-0.1`` beside a vintage (alone: beside ``v1.36.0``): the two metrics published
with 0.1.x are then emitted as they were, ``turnpike.estimated_cost_usd`` in the unit ``USD`` and ``turnpike.requests``
with the bare attribute ``status``. Both break the rules for names, so it is off unless asked for.

Sources: open-telemetry/semantic-conventions, tags v1.36.0 and v1.41.0 (``model/gen-ai``, ``model/openai``); the head of
open-telemetry/semantic-conventions-genai in October 2026, which has no release.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger("turnpike.telemetry")

# Published with 0.1.x
ATTR_GEN_AI_SYSTEM = "gen_ai.system"
ATTR_GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
VAL_GEN_AI_SYSTEM_OPENAI = "openai"
VAL_GEN_AI_SYSTEM_ANTHROPIC = "anthropic"
ATTR_GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
VAL_GEN_AI_OPERATION_CHAT = "chat"
ATTR_GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
ATTR_GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
ATTR_GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
ATTR_GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
ATTR_GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
ATTR_GEN_AI_TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105
VAL_GEN_AI_TOKEN_TYPE_INPUT = "input"  # noqa: S105
VAL_GEN_AI_TOKEN_TYPE_OUTPUT = "output"  # noqa: S105
METRIC_TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105
METRIC_OPERATION_DURATION = "gen_ai.client.operation.duration"

V1_36 = "v1.36.0"
V1_41 = "v1.41.0"
MAIN = "genai-main"
VINTAGES = (V1_36, V1_41, MAIN)
DEFAULT_VINTAGE = V1_41
LEGACY_METRICS = "turnpike-0.1"
"""Not a vintage: the two metrics of Turnpike 0.1.x exactly as published."""

SCHEMA_URLS = {
    V1_36: "https://opentelemetry.io/schemas/1.36.0",
    V1_41: "https://opentelemetry.io/schemas/1.41.0",
    # The repository's manifest and README disagree on this URL; the manifest is what its tools read.
    MAIN: "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev",
}

_OPT_IN = "gen_ai_latest_experimental"

_PENDING_RENAMES: dict[str, str] = {ATTR_GEN_AI_SYSTEM: ATTR_GEN_AI_PROVIDER_NAME}
"""Published hook of ``resolve_attrs``: old name to new name."""


def _opt_in(env: Mapping[str, str]) -> tuple[bool, bool]:
    """Return whether the newest names are asked for, and whether the old ones are to stay beside them."""
    # The list is shared with http, database and others; their entries are none of ours.
    tokens = {token.strip() for token in env.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")}
    both = f"{_OPT_IN}/dup" in tokens
    return both or _OPT_IN in tokens, both


def resolve_attrs(attrs: dict[str, Any]) -> dict[str, Any]:
    """Rename attributes as ``OTEL_SEMCONV_STABILITY_OPT_IN`` asks, by the table of 0.1.x.

    Kept for code written against 0.1.x; the gateway itself uses ``Vocabulary``.

    Returns:
        ``attrs`` itself when there is nothing to rename, otherwise a new mapping.
    """
    newest, both = _opt_in(os.environ)
    if not newest or _PENDING_RENAMES.keys().isdisjoint(attrs):
        return attrs
    out: dict[str, Any] = {}
    for name, value in attrs.items():
        new = _PENDING_RENAMES.get(name)
        if new is None or both:
            out[name] = value
        if new is not None:
            out[new] = value
    return out


def vintages_from_env(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return what is to be emitted, the primary vintage first; see the module's docstring for the variables."""
    env = os.environ if environ is None else environ
    pinned = [token.strip() for token in env.get("TURNPIKE_SEMCONV", "").split(",") if token.strip()]
    known = tuple(dict.fromkeys(token for token in pinned if token in VINTAGES or token == LEGACY_METRICS))
    if len(known) < len(set(pinned)):
        _log.warning(
            "TURNPIKE_SEMCONV takes %s; anything else in it is ignored", ", ".join((*VINTAGES, LEGACY_METRICS))
        )
    if known:
        return known
    newest, both = _opt_in(env)
    if both:
        return MAIN, DEFAULT_VINTAGE
    return (MAIN,) if newest else (DEFAULT_VINTAGE,)


def _same(name: str) -> tuple[str, str, str]:
    return name, name, name


def _since_v1_41(name: str) -> tuple[None, str, str]:
    return None, name, name


ATTRIBUTES: Mapping[str, tuple[str | None, str | None, str | None]] = {
    "operation": _same(ATTR_GEN_AI_OPERATION_NAME),
    "provider": (ATTR_GEN_AI_SYSTEM, ATTR_GEN_AI_PROVIDER_NAME, ATTR_GEN_AI_PROVIDER_NAME),
    "request_model": _same(ATTR_GEN_AI_REQUEST_MODEL),
    "server_address": _same("server.address"),
    "server_port": _same("server.port"),
    "stream": _since_v1_41("gen_ai.request.stream"),
    "max_tokens": _same(ATTR_GEN_AI_REQUEST_MAX_TOKENS),
    "temperature": _same("gen_ai.request.temperature"),
    "top_p": _same("gen_ai.request.top_p"),
    "stop_sequences": _same("gen_ai.request.stop_sequences"),
    "seed": _same("gen_ai.request.seed"),
    "output_type": _same("gen_ai.output.type"),
    "openai_api_type": _since_v1_41("openai.api.type"),
    "openai_request_tier": ("gen_ai.openai.request.service_tier", *(("openai.request.service_tier",) * 2)),
    "openai_response_tier": ("gen_ai.openai.response.service_tier", *(("openai.response.service_tier",) * 2)),
    "error_type": _same("error.type"),
    "response_model": _same(ATTR_GEN_AI_RESPONSE_MODEL),
    "response_id": _same("gen_ai.response.id"),
    "finish_reasons": _same("gen_ai.response.finish_reasons"),
    "time_to_first_chunk_s": _since_v1_41("gen_ai.response.time_to_first_chunk"),
    "input_tokens": _same(ATTR_GEN_AI_USAGE_INPUT_TOKENS),
    "output_tokens": _same(ATTR_GEN_AI_USAGE_OUTPUT_TOKENS),
    "cache_read_tokens": _since_v1_41("gen_ai.usage.cache_read.input_tokens"),
    "cache_write_tokens": (
        None,
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
    ),
    "reasoning_tokens": _since_v1_41("gen_ai.usage.reasoning.output_tokens"),
    "audio_input_tokens": (None, None, "gen_ai.usage.audio.input_tokens"),
    "audio_cache_read_tokens": (None, None, "gen_ai.usage.audio.cache_read.input_tokens"),
    "audio_output_tokens": (None, None, "gen_ai.usage.audio.output_tokens"),
    "image_input_tokens": (None, None, "gen_ai.usage.image.input_tokens"),
}
"""What each vintage, in the order of ``VINTAGES``, calls a field; ``None`` where it has no name for it."""

_METRIC_FIELDS = ("operation", "provider", "request_model", "server_address", "server_port", "response_model")

SECONDS = tuple(0.01 * 2**power for power in range(14))
"""Advised bucket bounds of durations, in seconds: 0.01 to 81.92."""
TOKENS = tuple(float(4**power) for power in range(14))
"""Advised bucket bounds of token counts: 1 to 67,108,864."""


@dataclass(frozen=True, slots=True)
class InstrumentSpec:
    """One metric: a counter, or a histogram where it has bucket bounds."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...] | None = None
    divisor: int = 1
    """A counter is given whole numbers of this fraction of its unit."""


@dataclass(frozen=True, slots=True)
class _Use:
    """How a vintage reports a measure: on which instrument, and with what beside the common attributes."""

    instrument: InstrumentSpec
    extra: Mapping[str, str] = field(default_factory=dict)
    with_error: bool = False


_DURATION = InstrumentSpec(METRIC_OPERATION_DURATION, "s", "Duration of a GenAI operation.", SECONDS)
_USAGE = InstrumentSpec(METRIC_TOKEN_USAGE, "{token}", "Input and output tokens used.", TOKENS)
_FIRST_CHUNK = InstrumentSpec(
    "gen_ai.client.operation.time_to_first_chunk", "s", "Time to the first chunk of a stream.", SECONDS
)
_MAIN = "gen_ai.client.inference."
_MAIN_INPUT = InstrumentSpec(f"{_MAIN}operation.input_tokens", "{token}", "Input tokens of an inference.", TOKENS)
_MAIN_OUTPUT = InstrumentSpec(f"{_MAIN}operation.output_tokens", "{token}", "Output tokens of an inference.", TOKENS)


def _spent(part: str) -> InstrumentSpec:
    return InstrumentSpec(f"{_MAIN}usage.{part}_tokens", "{token}", f"Tokens used: {part.replace('.', ' ')}.")


_TOKEN_USAGE_IN = _Use(_USAGE, {ATTR_GEN_AI_TOKEN_TYPE: VAL_GEN_AI_TOKEN_TYPE_INPUT})
_TOKEN_USAGE_OUT = _Use(_USAGE, {ATTR_GEN_AI_TOKEN_TYPE: VAL_GEN_AI_TOKEN_TYPE_OUTPUT})

_MEASURES: Mapping[str, Mapping[str, _Use]] = {
    "duration": {
        V1_36: _Use(_DURATION, with_error=True),
        V1_41: _Use(_DURATION, with_error=True),
        MAIN: _Use(InstrumentSpec(f"{_MAIN}duration", "s", "Duration of an inference.", SECONDS), with_error=True),
    },
    "time_to_first_chunk": {
        V1_41: _Use(_FIRST_CHUNK),
        MAIN: _Use(InstrumentSpec(f"{_MAIN}time_to_first_chunk", "s", "Time to the first chunk of a stream.", SECONDS)),
    },
    "input_tokens": {V1_36: _TOKEN_USAGE_IN, V1_41: _TOKEN_USAGE_IN, MAIN: _Use(_MAIN_INPUT, with_error=True)},
    "output_tokens": {V1_36: _TOKEN_USAGE_OUT, V1_41: _TOKEN_USAGE_OUT, MAIN: _Use(_MAIN_OUTPUT, with_error=True)},
    # What a failed inference whose usage is not known reports as 0.
    "failed_input_tokens": {MAIN: _Use(_MAIN_INPUT, with_error=True)},
    "failed_output_tokens": {MAIN: _Use(_MAIN_OUTPUT, with_error=True)},
    "spent_input": {MAIN: _Use(_spent("input"))},
    "spent_output": {MAIN: _Use(_spent("output"))},
    "spent_cache_read": {MAIN: _Use(_spent("cache_read.input"))},
    "spent_cache_write": {MAIN: _Use(_spent("cache_write.input"))},
    "spent_reasoning": {MAIN: _Use(_spent("reasoning.output"))},
}

_MODALITY = "gen_ai.token.modality"


class Vocabulary:
    """The names of the vintages that are emitted together.

    Attributes:
        vintages: the vintages, the primary one first.
        schema_url: that of the primary vintage.
        legacy_metrics: whether the two metrics of 0.1.x keep their published form.
        names: the attribute names of a field; empty where no vintage has one.
    """

    def __init__(self, vintages: tuple[str, ...]) -> None:
        """Take vintages in the order given, and ``LEGACY_METRICS`` beside or instead of them.

        Raises:
            ValueError: if one is not known.
        """
        unknown = [name for name in vintages if name not in VINTAGES and name != LEGACY_METRICS]
        if unknown:
            raise ValueError(f"unknown vintage {unknown[0]!r}; write one of {', '.join((*VINTAGES, LEGACY_METRICS))}")
        self.legacy_metrics: bool = LEGACY_METRICS in vintages
        self.vintages: tuple[str, ...] = tuple(name for name in vintages if name != LEGACY_METRICS) or (
            V1_36 if self.legacy_metrics else DEFAULT_VINTAGE,
        )
        self.schema_url: str = SCHEMA_URLS[self.vintages[0]]
        self.names: dict[str, tuple[str, ...]] = {
            name: self._distinct(by_vintage) for name, by_vintage in ATTRIBUTES.items()
        }
        self.has_spending_counters: bool = MAIN in self.vintages

    def _distinct(self, by_vintage: tuple[str | None, ...]) -> tuple[str, ...]:
        found = (by_vintage[VINTAGES.index(vintage)] for vintage in self.vintages)
        return tuple(dict.fromkeys(name for name in found if name is not None))

    def attributes(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes of ``facts``, field to value. ``None`` is left out, never written."""
        return {
            name: value for field_name, value in facts.items() if value is not None for name in self.names[field_name]
        }

    def points(
        self, measure: str, facts: Mapping[str, Any], *, modality: str | None = None
    ) -> list[tuple[InstrumentSpec, dict[str, Any]]]:
        """Return on which instruments, and with which attributes, one value of ``measure`` is recorded.

        An instrument that two vintages share comes once, with the attributes of both, so that nothing counts double.

        Args:
            measure: a key of the table of measures, such as ``duration``.
            facts: field to value; the fields that metrics do not carry are left out.
            modality: for the counters of tokens spent.
        """
        merged: dict[InstrumentSpec, dict[str, Any]] = {}
        for vintage in self.vintages:
            use = _MEASURES[measure].get(vintage)
            if use is not None:
                attributes = merged.setdefault(use.instrument, {})
                attributes.update(_metric_attributes(vintage, facts, use.with_error))
                attributes.update(use.extra)
                if modality is not None:
                    attributes[_MODALITY] = modality
        return list(merged.items())


def _metric_attributes(vintage: str, facts: Mapping[str, Any], with_error: bool) -> dict[str, Any]:
    fields = [*_METRIC_FIELDS]
    if vintage != V1_36:
        # v1.36.0 has the tier on spans only.
        fields.append("openai_response_tier")
    if with_error:
        fields.append("error_type")
    column = VINTAGES.index(vintage)
    named = ((ATTRIBUTES[name][column], facts.get(name)) for name in fields)
    return {name: value for name, value in named if name is not None and value is not None}
