"""What is wrong with a call or with the set-up is found before anything is sent, and the message says what to write."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from turnpike import Gateway, LLMRequestContext, OpenAIProvider, RoutePolicy
from turnpike.errors import (
    ConfigurationError,
    InvalidRequestError,
    LedgerError,
    MissingAPIKeyError,
    MissingExtraError,
    SettingsError,
    TurnpikeError,
    UnknownProviderError,
    UnknownRouteError,
    UnknownTierError,
    UnsupportedOptionError,
)
from turnpike.testing.simulator import Simulator

from .conftest import MODELS, Client, MemoryLedger, settings_for


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (None, "must be provided"),
        ("", "empty"),
        ([], "empty"),
        (42, "int"),
        (b"bytes", "bytes"),
        ({"role": "user", "content": "x"}, "list of messages"),
        (iter(["x"]), "list of messages"),
        ([42], r"messages\[0\].*int"),
        (["text"], r"messages\[0\].*str"),
        ([{"role": "user", "content": "x"}, {"content": "y"}], r"messages\[1\].*'role'"),
        ([{"role": "", "content": "y"}], r"messages\[0\].*'role'"),
        ([{"role": 3, "content": "y"}], r"messages\[0\].*'role'"),
        ([{"role": "user"}], r"messages\[0\].*'content'"),
        ("\ud800", "surrogate"),
        ([{"role": "user", "content": object()}], "JSON"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
    ],
)
def test_a_prompt_that_is_none_is_refused(
    client: Client, simulator: Simulator, ledger: MemoryLedger, prompt: Any, says: str
) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        client.ask(prompt, model="gpt-4o-mini")
    assert simulator.requests() == ledger.raw == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temprature": 0.5}, "Unknown option 'temprature'.*'temperature'"),
        ({"max_tokens": 5}, "Unknown option 'max_tokens'.*'max_output_tokens'"),
        ({"frobnicate": 1}, "Unknown option 'frobnicate'.*temperature"),
        ({"temperature": "hot"}, "temperature.*number.*str"),
        ({"temperature": True}, "temperature.*number.*bool"),
        ({"timeout": 0}, "timeout.*positive"),
        ({"timeout": -1}, "timeout.*positive"),
        ({"timeout": float("nan")}, "timeout.*positive"),
        ({"timeout": float("inf")}, "timeout"),
        ({"max_output_tokens": 0}, "max_output_tokens.*at least 1"),
        ({"max_output_tokens": 1.5}, "max_output_tokens.*int"),
        ({"seed": "1"}, "seed.*int"),
        ({"metadata": [1]}, "metadata.*mapping"),
        ({"extra": 1}, "extra.*mapping"),
        ({"context": {"tenant_id": "x"}}, "context.*LLMRequestContext"),
        ({"stop": 5}, "stop.*str"),
        ({"stop": [5]}, "stop.*str"),
        ({"tools": [5]}, "tools.*mappings"),
        ({"tools": "x"}, "tools.*mappings"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"system": ""}, "system.*non-empty"),
        ({"route": ""}, "route.*non-empty"),
        ({"extra": {"x": object()}}, "JSON"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else None,
)
def test_an_option_that_is_none_is_refused_by_name(
    client: Client, simulator: Simulator, ledger: MemoryLedger, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        client.ask("Hello", **{"model": "gpt-4o-mini", **options})
    assert simulator.requests() == ledger.raw == []


@pytest.mark.parametrize(
    "bad",
    [
        {"role": "assistant", "content": None, "tool_calls": 5},
        {"role": "assistant", "content": None, "tool_calls": [5]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": 5}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "no JSON"}}]},
        {"role": "system", "content": 5},
        {"role": "system", "content": ["text"]},
        {"role": "tool", "content": "x"},
        {"role": "user", "content": {1: 2}},
    ],
    ids=repr,
)
def test_a_message_that_an_api_cannot_be_given_is_refused_or_passed_on_but_never_breaks_the_gateway(
    gateway: Gateway, api: dict[str, str], bad: dict[str, Any]
) -> None:
    outcome = outcome_of(gateway, [{"role": "user", "content": "Hello"}, bad], **api)

    assert any(word in outcome for word in ("answered", "messages[", "tool_calls", "JSON", "HTTP"))


def outcome_of(gateway: Gateway, prompt: Any, **options: Any) -> str:
    """Say how a call ended: answered, or an error of ours; any other error breaks the test."""
    try:
        gateway.call_sync(prompt, **options)
    except TurnpikeError as error:
        return str(error)
    return "answered"


@pytest.mark.parametrize("choice", [{}, {"function": {}}, {"function": 5}], ids=repr)
def test_a_tool_choice_that_an_api_cannot_be_given_never_breaks_the_gateway(
    gateway: Gateway, api: dict[str, str], choice: dict[str, Any]
) -> None:
    outcome = outcome_of(gateway, "Hello", tool_choice=choice, **api)

    assert any(word in outcome for word in ("answered", "tool_choice", "HTTP"))


class TestANameThatIsNotKnown:
    def test_of_a_provider_is_named_with_its_likely_spelling(self, client: Client, simulator: Simulator) -> None:
        with pytest.raises(UnknownProviderError, match=r"'clade' is not registered.*register_provider.*'claude'"):
            client.ask("Hello", provider="clade", model="x")
        assert simulator.requests() == []

    def test_of_a_tier_is_named_with_its_likely_spelling(self, make_gateway: Any) -> None:
        gateway = make_gateway({"tiers": {"cheap": "gpt-4o-mini"}})

        with pytest.raises(UnknownTierError, match=r"'cheep' is not configured for route '/chat'.*'cheap'"):
            gateway.call_sync("Hello", tier="cheep", route="/chat")
        with pytest.raises(ValueError, match=r"tier=.*cheap.*model="):
            gateway.call_sync("Hello")

    def test_of_a_route_is_named_with_its_likely_spelling(self, simulator: Simulator) -> None:
        gateway = Gateway({"routes": {"/answer": {}}}, ledger=MemoryLedger())

        with pytest.raises(
            UnknownRouteError, match=r"No gateway policy for route '/anser'.*register_route_policy.*/answer"
        ):
            gateway.call_sync("Hello", model="x", route="/anser")
        with pytest.raises(UnknownRouteError, match="unrouted"):
            gateway.call_sync("Hello", model="x")

    def test_of_an_option_that_the_provider_lacks_is_refused(self, client: Client, simulator: Simulator) -> None:
        with pytest.raises(UnsupportedOptionError, match=r"'claude' does not support: seed.*temperature.*extra="):
            client.ask("Hello", **MODELS["anthropic-messages"], seed=5)
        with pytest.raises(UnsupportedOptionError, match=r"'responses' does not support: seed, stop"):
            client.ask("Hello", **MODELS["openai-responses"], seed=5, stop="x")
        assert simulator.requests() == []

    def test_of_the_provider_is_asked_for_where_there_are_several(self, simulator: Simulator) -> None:
        settings = settings_for(simulator)
        del settings["default_provider"]
        gateway = Gateway(settings, ledger=MemoryLedger())

        with pytest.raises(ValueError, match=r"chat, claude, responses.*provider=.*default_provider"):
            gateway.call_sync("Hello", model="gpt-4o-mini")


class TestWhatIsMissing:
    @pytest.mark.parametrize(("name", "sdk"), [("openai", "openai"), ("anthropic", "anthropic")])
    def test_an_sdk_is_named_with_the_command_that_installs_it(
        self, monkeypatch: pytest.MonkeyPatch, name: str, sdk: str
    ) -> None:
        monkeypatch.setitem(sys.modules, sdk, None)
        ledger = MemoryLedger()
        gateway = Gateway({"providers": {name: {"api_key": "sk-x"}}}, ledger=ledger)

        with pytest.raises(MissingExtraError, match=rf"Provider '{name}'.*pip install 'turnpike\[{sdk}\]'"):
            gateway.call_sync("Hello", model="x")
        with pytest.raises(ImportError):
            asyncio.run(gateway.call("Hello", model="x"))
        assert ledger.raw == []

    @pytest.mark.parametrize(("name", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
    def test_a_key_is_named_with_its_variable(
        self, monkeypatch: pytest.MonkeyPatch, name: str, variable: str, simulator: Simulator
    ) -> None:
        monkeypatch.delenv(variable, raising=False)
        ledger = MemoryLedger()
        gateway = Gateway({"providers": {name: {"base_url": simulator.url}}}, ledger=ledger)

        with pytest.raises(MissingAPIKeyError, match=rf"'{name}'.*{variable}"):
            gateway.call_sync("Hello", model="x")
        with pytest.raises(ValueError, match=variable):
            gateway.stream_sync("Hello", model="x")
        assert simulator.requests() == ledger.raw == []

    def test_a_key_is_named_for_a_stream_that_was_opened_where_no_loop_runs(
        self, monkeypatch: pytest.MonkeyPatch, simulator: Simulator
    ) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        gateway = Gateway({"providers": {"openai": {"base_url": simulator.url}}}, ledger=MemoryLedger())

        async def read() -> None:
            async for _ in stream:
                continue

        with pytest.raises(MissingAPIKeyError, match="OPENAI_API_KEY"):
            stream = gateway.stream("Hello", model="x")
            asyncio.run(read())

    def test_a_key_variable_of_one_s_own_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MY_KEY", raising=False)
        gateway = Gateway({"providers": {"openai": {"api_key_env": "MY_KEY"}}}, ledger=MemoryLedger())

        with pytest.raises(SettingsError, match=r"providers\.openai\.api_key_env.*MY_KEY"):
            gateway.call_sync("Hello", model="x")

    def test_a_key_that_is_set_later_is_found(self, monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        settings = {"providers": {"openai": {"base_url": simulator.openai_base_url}}}
        gateway = Gateway(settings, ledger=MemoryLedger())
        with pytest.raises(MissingAPIKeyError):
            gateway.call_sync("Hello", model="gpt-4o-mini")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-late")

        assert gateway.call_sync("Hello", model="gpt-4o-mini").text
        gateway.close()


class TestALedgerThatCannotBeOpened:
    @pytest.mark.parametrize("way", ["call", "call_sync", "stream", "stream_sync"])
    def test_stops_every_call_before_it_is_sent(
        self, make_gateway: Any, tmp_path: Any, simulator: Simulator, way: str
    ) -> None:
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "ledger.jsonl"
        gateway = make_gateway({"telemetry_path": str(path)}, ledger=None)

        async def awaited() -> None:
            await gateway.call("Hello", model="gpt-4o-mini")

        for _ in range(2):
            with pytest.raises(LedgerError, match=r"file/ledger\.jsonl.*TURNPIKE_TELEMETRY_PATH.*TURNPIKE_LEDGER=off"):
                asyncio.run(awaited()) if way == "call" else getattr(gateway, way)("Hello", model="gpt-4o-mini")
        assert simulator.requests() == []

    def test_is_tried_again_by_the_next_call(self, make_gateway: Any, tmp_path: Any) -> None:
        folder = tmp_path / "folder"
        folder.write_text("")
        gateway = make_gateway({"telemetry_path": str(folder / "ledger.jsonl")}, ledger=None)
        with pytest.raises(LedgerError):
            gateway.call_sync("Hello", model="gpt-4o-mini")
        folder.unlink()

        assert gateway.call_sync("Hello", model="gpt-4o-mini").text
        assert (folder / "ledger.jsonl").read_text().count("\n") == 1


class TestWhatIsRegistered:
    @pytest.mark.parametrize("provider", [OpenAIProvider, object(), None, "openai"])
    def test_must_be_a_provider(self, make_gateway: Any, provider: Any) -> None:
        with pytest.raises(ConfigurationError, match="Provider 'mine'"):
            make_gateway().register_provider("mine", provider)

    @pytest.mark.parametrize("settings", [42, "turnpike.toml", ["x"]])
    def test_settings_must_be_settings(self, settings: Any) -> None:
        with pytest.raises(SettingsError, match=type(settings).__name__):
            Gateway(settings)

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"max_output_tokens": 0}, "max_output_tokens"),
            ({"max_output_tokens": True}, "max_output_tokens"),
            ({"retry_attempts": -1}, "retry_attempts"),
            ({"retry_attempts": 1.5}, "retry_attempts"),
            ({"timeout_s": 0}, "timeout_s"),
            ({"timeout_s": float("nan")}, "timeout_s"),
        ],
    )
    def test_a_policy_has_sane_bounds(self, fields: dict[str, Any], says: str) -> None:
        sane: dict[str, Any] = {
            "max_output_tokens": 1,
            "retry_attempts": 0,
            "cache_enabled": False,
            "model_for_tier": {},
        }
        with pytest.raises(ValueError, match=says):
            RoutePolicy(**{**sane, **fields})

    def test_a_policy_does_not_follow_the_mapping_it_was_made_of(self) -> None:
        tiers = {"cheap": "a"}
        policy = RoutePolicy(1, 0, False, tiers)
        tiers["cheap"] = "b"

        assert policy.model_for_tier == {"cheap": "a"}
        with pytest.raises(TypeError):
            policy.model_for_tier["cheap"] = "c"  # type: ignore[index]
        assert hash(policy) == hash(RoutePolicy(1, 0, False, {"cheap": "a"}))

    @pytest.mark.parametrize("api", ["completions", "", None])
    def test_an_openai_api_is_one_of_two(self, api: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"'chat' or 'responses'"):
            OpenAIProvider(api=api)


def test_an_identity_holds_text_alone() -> None:
    with pytest.raises(TypeError, match=r"tenant_id must be a str.*int"):
        LLMRequestContext(tenant_id=42)  # type: ignore[arg-type]
