"""What is exported obeys the GenAI conventions, in every vintage and combination, by an independent checker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnpike.envelope import EnvelopeStatus, LLMRequestEnvelope
from turnpike.gateway.semconv import vintages_from_env
from turnpike.gateway.telemetry import SpanStart
from turnpike.usage import UsageVector

CHECKER = Path(__file__).parents[4] / "shared" / "tools" / "check_genai.py"
needs_checker = pytest.mark.skipif(
    not CHECKER.exists(), reason="needs check_genai: put the checker of the GenAI conventions at ../shared/tools"
)

MODES = {
    "default": ({}, ["v1.41.0"]),
    "opt-in": ({"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}, ["genai-main"]),
    "dup": ({"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental/dup"}, ["genai-main", "v1.41.0"]),
    "pinned": ({"TURNPIKE_SEMCONV": "v1.36.0"}, ["v1.36.0"]),
    "pinned pair": ({"TURNPIKE_SEMCONV": "v1.36.0,v1.41.0"}, ["v1.36.0", "v1.41.0"]),
}
TOLERATED = {
    "turnpike.estimated_cost_usd: unit in the name",  # published with 0.1.x
    "span: gen_ai.response.time_to_first_chunk",  # the stream failed before one came
}


@needs_checker
@pytest.mark.parametrize("mode", MODES)
def test_exported_telemetry_has_no_violation(
    mode: str,
    tmp_path: Path,
    recording: Any,
    start_of: Callable[..., SpanStart],
    envelope_of: Callable[..., LLMRequestEnvelope],
    failure_of: Callable[..., LLMRequestEnvelope],
    anthropic: dict[str, Any],
) -> None:
    environment, profiles = MODES[mode]
    recorder = recording(*vintages_from_env(environment))
    cached = UsageVector(tokens_in=21, tokens_out=9, cache_read=6, cache_write_5m=2, reasoning=4, audio_in=3)
    for provider in ({}, {"provider_api": "openai-responses"}, anthropic):
        whole = start_of(**provider, temperature=0.2, top_p=0.9, seed=7, stop_sequences=("END",), output_type="json")
        stream = start_of(**provider, stream=True)
        recorder.call(whole, envelope_of(service_tier="default"))
        recorder.call(whole, envelope_of(usage=cached))
        recorder.call(stream, envelope_of(streaming=True), first_chunk_s=0.2)
        recorder.call(stream, envelope_of(status=EnvelopeStatus.CANCELLED), first_chunk_s=0.2)
        recorder.call(whole, failure_of())
        recorder.call(stream, failure_of(status=EnvelopeStatus.CANCELLED, error_type=None))
        recorder.call(whole, envelope_of(cost_nano_usd=None, attributed=False))

    spans, metrics = tmp_path / "spans.jsonl", tmp_path / "metrics.jsonl"
    spans.write_text("\n".join(span.to_json(indent=None) for span in recorder.spans))
    metrics.write_text(recorder.reader.get_metrics_data().to_json(indent=None))
    also = [argument for other in profiles[1:] for argument in ("--also", other)]
    command = [sys.executable, str(CHECKER), "--json", "--profile", profiles[0], *also, str(spans), str(metrics)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(run.stdout)
    assert (report["spans"], run.returncode) == (21, 0), run.stdout
    wanting = {item["what"] for item in report["findings"] if item["level"] != "info"}
    assert wanting <= TOLERATED, run.stdout
