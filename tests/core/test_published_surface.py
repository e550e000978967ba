"""What was published with 0.1.x stays: names, signatures, patch points, and the words in error messages."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import turnpike
from turnpike import GatewayResult, LLMRequestContext, ProviderResponse, RoutePolicy, StreamChunk
from turnpike.errors import TurnpikeError
from turnpike.gateway import client, policies, telemetry
from turnpike.gateway import provider as providers

PUBLISHED = {
    "__version__",
    "LLMRequestEnvelope",
    "LLMRequestContext",
    "EnvelopeStatus",
    "CostSource",
    "GatewayResult",
    "GatewayStream",
    "StreamChunk",
    "call_llm",
    "call_llm_stream",
    "ProviderBase",
    "ProviderResponse",
    "register_provider",
    "RoutePolicy",
    "register_route_policy",
    "estimate_cost",
    "register_pricing",
    "emit_event",
    "setup_otel",
    "shutdown_otel",
}
SUBMODULES = {
    "turnpike.envelope": [
        "CircuitState",
        "ENVELOPE_SCHEMA_VERSION",
        "LLMRequestEnvelope",
        "EnvelopeStatus",
        "CostSource",
    ],
    "turnpike.context": ["LLMRequestContext"],
    "turnpike.gateway.client": ["call_llm", "call_llm_stream", "ModelTier", "GatewayRouteName", "get_provider"],
    "turnpike.gateway.provider": [
        "ProviderBase",
        "ProviderResponse",
        "ProviderStreamEvent",
        "OpenAIProvider",
        "AnthropicProvider",
        "get_provider",
        "available_providers",
        "register_provider",
    ],
    "turnpike.gateway.policies": [
        "RoutePolicy",
        "register_route_policy",
        "get_route_policy",
        "get_model_for_tier",
        "clear_route_policies",
        "_ROUTE_POLICIES",
    ],
    "turnpike.gateway.cost_model": ["estimate_cost", "register_pricing", "get_pricing", "MODEL_PRICING"],
    "turnpike.gateway.telemetry": ["emit", "emit_event", "TELEMETRY_PATH"],
    "turnpike.gateway.otel_setup": ["setup_otel", "shutdown_otel"],
}


class TestTheNames:
    def test_are_exactly_the_published_twenty(self) -> None:
        assert len(PUBLISHED) == 20
        assert set(turnpike.__all__) == PUBLISHED
        assert len(turnpike.__all__) == 20

    @pytest.mark.parametrize("name", sorted(PUBLISHED))
    def test_can_be_had(self, name: str) -> None:
        assert getattr(turnpike, name) is not None
        assert name in dir(turnpike)

    @pytest.mark.parametrize("name", sorted(turnpike._HOME_OF))
    def test_that_are_new_can_be_had_from_the_package_too(self, name: str) -> None:
        assert getattr(turnpike, name) is getattr(importlib.import_module(turnpike._HOME_OF[name]), name)

    @pytest.mark.parametrize("module", SUBMODULES)
    def test_of_submodules_stay_where_they_were(self, module: str) -> None:
        loaded = importlib.import_module(module)

        assert [name for name in SUBMODULES[module] if not hasattr(loaded, name)] == []

    def test_that_do_not_exist_are_said_not_to(self) -> None:
        with pytest.raises(AttributeError, match="module 'turnpike' has no attribute 'frobnicate'"):
            _ = turnpike.frobnicate

    def test_version_is_the_distribution_s(self) -> None:
        assert turnpike.__version__.count(".") >= 2


def parameters_of(function: Any) -> list[tuple[str, Any, Any]]:
    return [
        (name, parameter.kind, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    ]


NONE = inspect.Parameter.empty
BOTH, KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
CALL = [
    ("prompt", KEYWORD, None),
    ("messages", KEYWORD, None),
    ("model_tier", KEYWORD, NONE),
    ("route_name", KEYWORD, NONE),
    ("metadata", KEYWORD, None),
    ("context", KEYWORD, None),
]


class TestTheSignatures:
    @pytest.mark.parametrize(
        ("function", "published"),
        [
            (turnpike.call_llm, CALL),
            (turnpike.call_llm_stream, CALL),
            (turnpike.register_provider, [("name", BOTH, NONE), ("provider", BOTH, NONE)]),
            (turnpike.register_route_policy, [("route_name", BOTH, NONE), ("policy", BOTH, NONE)]),
            (turnpike.estimate_cost, [("model", BOTH, NONE), ("tokens_in", BOTH, NONE), ("tokens_out", BOTH, NONE)]),
            (
                turnpike.register_pricing,
                [("model", BOTH, NONE), ("input_per_1m", BOTH, NONE), ("output_per_1m", BOTH, NONE)],
            ),
            (
                turnpike.emit_event,
                [
                    ("event_type", BOTH, NONE),
                    ("session_id", BOTH, None),
                    ("task_id", BOTH, None),
                    ("metadata", BOTH, None),
                ],
            ),
            (turnpike.setup_otel, []),
            (turnpike.shutdown_otel, []),
            (
                turnpike.ProviderBase.complete,
                [("messages", BOTH, NONE), ("model", BOTH, NONE), ("max_output_tokens", BOTH, NONE)],
            ),
            (providers.get_provider, [("name", BOTH, NONE), ("auto_register", BOTH, True)]),
            (policies.get_route_policy, None),
            (policies.get_model_for_tier, None),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_of_functions_begin_as_published_and_add_only_optional_keywords(
        self, function: Any, published: list[Any] | None
    ) -> None:
        found = parameters_of(function)
        if published is None:
            assert all(kind is BOTH for _, kind, _ in found)
            return
        assert found[: len(published)] == published
        assert all(kind is KEYWORD and default is not NONE for _, kind, default in found[len(published) :])

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            (
                GatewayResult,
                """text selected_model request_id tokens_in tokens_out estimated_cost_usd cache_hit finish_reason
                envelope""",
            ),
            (StreamChunk, "delta finish_reason"),
            (ProviderResponse, "text tokens_in tokens_out finish_reason response_model"),
            (providers.ProviderStreamEvent, "delta finish_reason tokens_in tokens_out response_model"),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_of_results_have_a_fixed_set_of_fields(self, kind: Any, fields: str) -> None:
        assert [field.name for field in dataclasses.fields(kind)] == fields.split()
        assert kind.__dataclass_params__.frozen

    def test_of_a_policy_begin_as_published(self) -> None:
        names = [field.name for field in dataclasses.fields(RoutePolicy)]

        assert names[:5] == ["max_output_tokens", "retry_attempts", "cache_enabled", "model_for_tier", "provider_name"]
        assert RoutePolicy(500, 2, True, {"cheap": "m"}).provider_name == "openai"

    def test_of_a_stream_is_a_plain_function_and_of_a_call_a_coroutine(self) -> None:
        assert inspect.iscoroutinefunction(turnpike.call_llm)
        assert not inspect.iscoroutinefunction(turnpike.call_llm_stream)
        assert not inspect.isasyncgenfunction(turnpike.call_llm_stream)

    def test_of_a_provider_need_only_a_name_and_complete(self) -> None:
        assert turnpike.ProviderBase.__abstractmethods__ == {"provider_name", "complete"}


@pytest.fixture
def ledger_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default gateway on its published patch points, as existing test suites set them."""
    path = tmp_path / "telemetry.jsonl"
    monkeypatch.setattr(telemetry, "TELEMETRY_PATH", path)
    policy = RoutePolicy(500, 2, False, {"cheap": "gpt-4o-mini", "expensive": "gpt-4o"})
    monkeypatch.setattr(policies, "_ROUTE_POLICIES", policies._ROUTE_POLICIES)
    monkeypatch.setitem(policies._ROUTE_POLICIES, "/answer-routed", policy)
    return path


@pytest.fixture
def fake(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """A provider as existing test suites fake it: a bare mock behind ``client.get_provider``."""
    provider = Mock(complete=AsyncMock(return_value=ProviderResponse("Hello", 1000, 500, "stop")))
    monkeypatch.setattr(client, "get_provider", lambda _name: provider)
    return provider


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def call(**options: Any) -> GatewayResult:
    return asyncio.run(turnpike.call_llm(**{"model_tier": "cheap", "route_name": "/answer-routed", **options}))


class TestThePatchPoints:
    def test_a_mocked_provider_answers_call_llm(self, fake: Mock, ledger_path: Path) -> None:
        result = call(prompt="Hi")

        assert (result.text, result.selected_model) == ("Hello", "gpt-4o-mini")
        assert (result.tokens_in, result.tokens_out, result.cache_hit, result.finish_reason) == (
            1000,
            500,
            False,
            "stop",
        )
        assert result.estimated_cost_usd == pytest.approx(0.00045)
        assert isinstance(result, GatewayResult)
        fake.complete.assert_awaited_once_with([{"role": "user", "content": "Hi"}], "gpt-4o-mini", 500)
        [line] = lines(ledger_path)
        assert (line["status"], line["request_id"], line["provider"]) == ("success", result.request_id, "openai")

    def test_the_ledger_is_the_path_that_is_set_at_the_time_of_the_call(
        self, fake: Mock, ledger_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call(prompt="Hi")
        monkeypatch.setattr(telemetry, "TELEMETRY_PATH", tmp_path / "other.jsonl")
        call(prompt="Hi")

        assert [len(lines(path)) for path in (ledger_path, tmp_path / "other.jsonl")] == [1, 1]

    def test_route_policies_are_the_dict_of_their_module(self, fake: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(policies._ROUTE_POLICIES, "/mine", RoutePolicy(7, 0, False, {"cheap": "gpt-4o"}))

        assert call(prompt="Hi", route_name="/mine").selected_model == "gpt-4o"
        assert fake.complete.await_args.args[2] == 7

    def test_a_replaced_dict_of_policies_is_the_one_that_counts(
        self, fake: Mock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call(prompt="Hi")
        monkeypatch.setattr(policies, "_ROUTE_POLICIES", {"/new": RoutePolicy(7, 0, False, {"cheap": "gpt-4o"})})

        assert call(prompt="Hi", route_name="/new").selected_model == "gpt-4o"
        with pytest.raises(ValueError, match="No gateway policy"):
            call(prompt="Hi")

    def test_messages_win_over_the_prompt_with_a_warning(self, fake: Mock) -> None:
        messages = [{"role": "user", "content": "from messages"}]
        with pytest.warns(UserWarning, match="the prompt is not sent"):
            call(prompt="from prompt", messages=messages)

        assert fake.complete.await_args.args[0] == messages

    def test_an_error_of_the_provider_comes_out_as_it_is(self, fake: Mock, ledger_path: Path) -> None:
        fake.complete.side_effect = RuntimeError("boom")
        with pytest.raises(RuntimeError, match="boom"):
            call(prompt="Hi", context=LLMRequestContext(tenant_id="acme"))

        [line] = lines(ledger_path)
        assert (line["status"], line["error_type"], line["tenant_id"]) == ("error", "unknown", "acme")

    def test_a_stream_of_a_mock_is_read_event_by_event(self, fake: Mock, ledger_path: Path) -> None:
        async def stream(*_: Any) -> Any:
            yield providers.ProviderStreamEvent(delta="Hel")
            yield providers.ProviderStreamEvent(delta="lo", tokens_in=3, tokens_out=2)
            yield providers.ProviderStreamEvent(finish_reason="stop")

        fake.stream = stream

        async def read() -> Any:
            opened = turnpike.call_llm_stream(prompt="Hi", model_tier="cheap", route_name="/answer-routed")
            return [chunk async for chunk in opened], opened.result

        chunks, result = asyncio.run(read())
        assert [(chunk.delta, chunk.finish_reason) for chunk in chunks] == [("Hel", None), ("lo", None), ("", "stop")]
        assert (result.text, result.tokens_in, result.tokens_out) == ("Hello", 3, 2)
        assert lines(ledger_path)[0]["streaming"] is True

    def test_a_stream_names_what_is_wrong_when_it_is_opened(self, fake: Mock) -> None:
        with pytest.raises(ValueError, match="No gateway policy"):
            turnpike.call_llm_stream(prompt="Hi", model_tier="cheap", route_name="/nowhere")
        with pytest.raises(ValueError, match="must be provided"):
            turnpike.call_llm_stream(model_tier="cheap", route_name="/answer-routed")


@pytest.mark.usefixtures("ledger_path")
class TestTheWordsOfErrors:
    @pytest.mark.parametrize(
        ("act", "fragment"),
        [
            (lambda: turnpike.estimate_cost("frobnicator-9", 1, 1), "Unknown model"),
            (lambda: turnpike.estimate_cost("gpt-4o-mini", -1, 1), "non-negative"),
            (lambda: turnpike.register_pricing("m", -1.0, 1.0), "non-negative"),
            (lambda: turnpike.register_pricing("m", float("nan"), 1.0), "non-negative"),
            (lambda: policies.get_route_policy("/nowhere"), "No gateway policy"),
            (lambda: policies.get_route_policy("/nowhere"), "register_route_policy"),
            (lambda: policies.get_model_for_tier("/answer-routed", "dear"), "not configured"),
            (lambda: providers.get_provider("nobody"), "not registered"),
            (lambda: call(), "must be provided"),
            (lambda: call(prompt="Hi", route_name="/nowhere"), "No gateway policy"),
            (lambda: call(prompt="Hi", model_tier="dear"), "not configured"),
        ],
    )
    def test_are_those_that_user_code_matches_on(self, act: Any, fragment: str) -> None:
        with pytest.raises(ValueError, match=fragment):
            act()

    @pytest.mark.parametrize(("name", "key"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
    def test_name_the_missing_key(self, monkeypatch: pytest.MonkeyPatch, name: str, key: str) -> None:
        monkeypatch.delenv(key, raising=False)
        monkeypatch.setattr(providers, "_PROVIDERS", {})
        monkeypatch.setitem(policies._ROUTE_POLICIES, "/keyless", RoutePolicy(5, 0, False, {"cheap": "m"}, name))

        with pytest.raises(ValueError, match=key) as caught:
            call(prompt="Hi", route_name="/keyless")
        assert isinstance(caught.value, TurnpikeError)


class TestRegistration:
    @pytest.fixture
    def registry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(providers, "_PROVIDERS", {})

    @pytest.mark.usefixtures("registry")
    def test_of_a_provider_replaces_an_earlier_one(self, ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(policies._ROUTE_POLICIES, "/mine", RoutePolicy(5, 0, False, {"cheap": "m"}, "mine"))
        for text in ("first", "second"):
            fake = Mock(complete=AsyncMock(return_value=ProviderResponse(text, 1, 1)))
            turnpike.register_provider("mine", fake)
            assert providers.get_provider("mine") is fake
            assert call(prompt="Hi", route_name="/mine").text == text

    @pytest.mark.usefixtures("registry")
    def test_of_the_built_in_providers_happens_by_itself(self) -> None:
        assert {"openai", "anthropic"} <= set(providers.available_providers())
        assert providers.get_provider("openai") is providers.get_provider("openai")
        with pytest.raises(ValueError, match="not registered"):
            providers.get_provider("anthropic", auto_register=False)

    def test_of_a_policy_replaces_an_earlier_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policies, "_ROUTE_POLICIES", {})
        one, two = RoutePolicy(1, 0, False, {}), RoutePolicy(2, 0, False, {"cheap": "m"})
        turnpike.register_route_policy("/x", one)
        turnpike.register_route_policy("/x", two)

        assert policies.get_route_policy("/x") is two
        assert policies.get_model_for_tier("/x", "cheap") == "m"
        policies.clear_route_policies()
        with pytest.raises(ValueError, match="No gateway policy"):
            policies.get_route_policy("/x")


class TestImporting:
    HEAVY = ("openai", "anthropic", "genai_prices", "httpx", "httpx2", "pydantic", "aiohttp", "opentelemetry.sdk")
    FRAMEWORKS = ("fastapi", "starlette", "flask", "django", "litestar")

    @pytest.mark.parametrize(
        "statement",
        [
            "import turnpike",
            "from turnpike import Gateway",
            "from turnpike import *",
            "from turnpike import OpenAIProvider",
        ],
    )
    def test_loads_neither_framework_nor_sdk_nor_prices(self, statement: str) -> None:
        loaded = self.loaded_by(statement)

        assert loaded.isdisjoint({*self.FRAMEWORKS, *self.HEAVY})

    def test_the_package_alone_loads_next_to_nothing(self) -> None:
        loaded = self.loaded_by("import turnpike")

        assert not [name for name in loaded if name.startswith(("turnpike.", "opentelemetry", "msgspec"))]

    def test_reads_no_environment_and_writes_nothing(self, tmp_path: Path) -> None:
        env = {
            "PATH": "",
            "HOME": str(tmp_path),
            "TURNPIKE_RATE_LIMIT": "nonsense",
            "OTEL_METRIC_EXPORT_INTERVAL": "10s",
        }
        code = "from turnpike import *; import turnpike.gateway.telemetry, turnpike.gateway.otel_setup"
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert list(tmp_path.iterdir()) == []

    @staticmethod
    def loaded_by(statement: str) -> set[str]:
        code = f"import sys; before = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return set(done.stdout.split())
