"""Settings from a dict, the environment and TOML: what is wrong is named, with its place and what to write instead."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnpike import Settings
from turnpike.errors import SettingsError
from turnpike.settings import PolicySettings, RateLimit, TierSettings, parse_rate_limit

CANARY = "sk-canary"
WRITTEN = {
    "providers": {
        "openai": {"api_key": CANARY, "api": "responses", "transport": "aiohttp"},
        "local": {"type": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "LOCAL_KEY"},
    },
    "default_provider": "openai",
    "tiers": {"cheap": "gpt-4o-mini", "smart": {"model": "claude", "provider": "local"}},
    "default_policy": {"max_output_tokens": 500, "retry_attempts": 1},
    "routes": {"/chat/{id}": {"timeout_s": 5.5, "tiers": {"cheap": "gpt-4.1-nano"}, "cache_enabled": True}},
    "timeout_s": 30,
    "telemetry_path": "ledger.jsonl",
    "ledger": False,
    "require_attribution": True,
    "api_keys": [{"key": CANARY, "tenant": "acme", "caller": "ada", "scopes": ["chat"], "rate_limit": "5/second"}],
    "key_header": "X-Key",
    "rate_limit": "100/minute",
    "exempt": ["/health"],
}
TOML = f"""
default_provider = "openai"
timeout_s = 30
telemetry_path = "ledger.jsonl"
ledger = false
require_attribution = true
key_header = "X-Key"
rate_limit = "100/minute"
exempt = ["/health"]

[providers.openai]
api_key = "{CANARY}"
api = "responses"
transport = "aiohttp"

[providers.local]
type = "openai"
base_url = "http://127.0.0.1:1/v1"
api_key_env = "LOCAL_KEY"

[tiers]
cheap = "gpt-4o-mini"
smart = {{ model = "claude", provider = "local" }}

[default_policy]
max_output_tokens = 500
retry_attempts = 1

[routes."/chat/{{id}}"]
timeout_s = 5.5
tiers = {{ cheap = "gpt-4.1-nano" }}
cache_enabled = true

[[api_keys]]
key = "{CANARY}"
tenant = "acme"
caller = "ada"
scopes = ["chat"]
rate_limit = "5/second"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "turnpike.toml"
    path.write_text(TOML)
    return path


class TestReading:
    def test_a_dict_a_file_and_the_environment_say_the_same(self, toml: Path) -> None:
        from_dict = Settings.from_dict(WRITTEN)

        assert Settings.from_toml(toml) == from_dict
        assert Settings.from_env({"TURNPIKE_CONFIG": str(toml)}) == from_dict
        assert from_dict.providers["openai"].api_key.reveal() == CANARY
        assert from_dict.tiers == {"cheap": "gpt-4o-mini", "smart": TierSettings(model="claude", provider="local")}

    def test_nothing_written_is_valid(self) -> None:
        assert Settings.from_dict({}) == Settings.from_env({}) == Settings()

    def test_a_file_may_have_a_table_of_its_own_for_us(self, tmp_path: Path) -> None:
        path = tmp_path / "app.toml"
        path.write_text("[turnpike]\ntimeout_s = 5\n[other]\nx = 1\n")

        assert Settings.from_toml(path).timeout_s == 5

    def test_the_keys_of_a_django_dict_may_be_upper_case(self) -> None:
        assert Settings.from_dict({"TIMEOUT_S": 5, "TIERS": {"Cheap": "m"}}) == Settings(
            timeout_s=5, tiers={"Cheap": "m"}
        )

    def test_variables_go_over_the_file(self, toml: Path) -> None:
        env = {"TURNPIKE_CONFIG": str(toml), "TURNPIKE_TIMEOUT_S": "7", "TURNPIKE_LEDGER": "on"}

        read = Settings.from_env(env)
        assert (read.timeout_s, read.ledger, read.key_header) == (7, True, "X-Key")

    def test_variables_are_json_where_they_are_no_plain_text(self) -> None:
        read = Settings.from_env(
            {
                "TURNPIKE_PROVIDERS": '{"openai": {}}',
                "TURNPIKE_TIERS": '{"cheap": "m"}',
                "TURNPIKE_DEFAULT_POLICY": '{"retry_attempts": 0}',
                "TURNPIKE_ROUTES": '{"/x": {}}',
                "TURNPIKE_EXEMPT": "/a, /b",
                "TURNPIKE_API_KEYS": "k1=acme:ada, k2=beta",
                "TURNPIKE_TELEMETRY_PATH": "x.jsonl",
                "TURNPIKE_RATE_LIMIT": "5",
            }
        )

        assert list(read.providers) == ["openai"]
        assert (read.tiers, read.exempt, read.telemetry_path) == ({"cheap": "m"}, ("/a", "/b"), "x.jsonl")
        assert [(key.key.reveal(), key.tenant, key.caller) for key in read.api_keys] == [
            ("k1", "acme", "ada"),
            ("k2", "beta", None),
        ]

    def test_the_published_variables_are_read(self) -> None:
        read = Settings.from_env({"APP_API_KEY": "k", "RATE_LIMIT_RPM": "30"})

        assert [(key.key.reveal(), key.tenant, key.caller) for key in read.api_keys] == [("k", "app", "app")]
        assert read.rate_limit == "30"
        assert Settings.from_env({"RATE_LIMIT_RPM": "30", "TURNPIKE_RATE_LIMIT": "5/second"}).rate_limit == "5/second"

    @pytest.mark.parametrize(
        ("word", "meant"),
        [("on", True), ("TRUE", True), ("yes", True), ("1", True), ("off", False), ("0", False), ("no", False)],
    )
    def test_switches_have_several_words(self, word: str, meant: bool) -> None:
        assert Settings.from_env({"TURNPIKE_LEDGER": word}).ledger is meant

    @pytest.mark.parametrize("variable", ["TURNPIKE_TELEMETRY_PAHT", "TURNPIKE_TIER", "TURNPIKE_RATE_LIMITS"])
    def test_a_misspelt_variable_is_warned_of(self, variable: str) -> None:
        with pytest.warns(UserWarning, match=f"{variable} is not a Turnpike setting; did you mean TURNPIKE_"):
            Settings.from_env({variable: "x"})

    @pytest.mark.parametrize(
        "variable", ["TURNPIKE_SERVICE_HOST", "TURNPIKE_PORT_80_TCP", "TURNPIKE_TEST_REQUIRE", "PATH"]
    )
    def test_somebody_else_s_variable_is_left_alone(self, variable: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Settings.from_env({variable: "x"}) == Settings()


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("data", "says"),
        [
            ({"tiemout_s": 5}, ["Unknown setting 'tiemout_s'", "Did you mean 'timeout_s'?"]),
            ({"frobnicate": 5}, ["Unknown setting 'frobnicate'", "Known keys:", "providers"]),
            ({"timeout_s": "long"}, ["'timeout_s'", "float", "str"]),
            ({"timeout_s": 0}, ["'timeout_s'", "positive"]),
            ({"timeout_s": float("nan")}, ["'timeout_s'", "positive"]),
            ({"timeout_s": float("inf")}, ["'timeout_s'"]),
            ({"ledger": "maybe"}, ["'ledger'", "bool"]),
            ({"providers": []}, ["'providers'", "object"]),
            ({"providers": {"openai": {"bas_url": "x"}}}, ["bas_url", "Did you mean 'base_url'?"]),
            ({"providers": {"openai": {"api": "compl"}}}, ["providers", "api"]),
            ({"providers": {"openai": {"api_key": 5}}}, ["providers", "api_key"]),
            ({"providers": {"groq": {}}}, ["'providers.groq.type'", 'type = "openai"']),
            ({"providers": {"anthropic": {"api": "chat"}}}, ["'providers.anthropic.api'", "OpenAI"]),
            ({"providers": {"openai": {"max_connections": 0}}}, ["'providers.openai.max_connections'"]),
            ({"default_provider": "x"}, ["'default_provider'", "'x'", "providers"]),
            ({"tiers": {"cheap": {"provider": "openai"}}}, ["tiers", "model", "missing"]),
            ({"tiers": {"cheap": {"model": "m", "provdier": "x"}}}, ["provdier", "Did you mean 'provider'?"]),
            ({"tiers": {"cheap": 5}}, ["tiers"]),
            ({"default_policy": {"max_output_tokens": 0}}, ["'default_policy.max_output_tokens'", "at least 1"]),
            ({"routes": {"/x": {"retry_attempts": -1}}}, ["'routes./x.retry_attempts'", "0 or more"]),
            ({"routes": {"/x": {"timeout_s": 0}}}, ["'routes./x.timeout_s'", "positive"]),
            ({"routes": {"/x": {"retry_atempts": 1}}}, ["retry_atempts", "'retry_attempts'"]),
            ({"rate_limit": "fast"}, ["'rate_limit'", "60/minute", "fast"]),
            ({"rate_limit": 0}, ["'rate_limit'", "at least 1"]),
            ({"api_keys": [{"key": "k"}]}, ["api_keys", "tenant", "missing"]),
            ({"api_keys": [{"tenant": "t"}]}, ["'api_keys[0]'", "key", "key_env"]),
            ({"api_keys": [{"tenant": "t", "key": "k", "key_env": "E"}]}, ["'api_keys[0]'", "exactly one"]),
            ({"api_keys": [{"tenant": "", "key": "k"}]}, ["'api_keys[0].tenant'", "empty"]),
            ({"api_keys": [{"tenant": "t", "key": "k", "rate_limit": "x"}]}, ["'api_keys[0].rate_limit'", "60/minute"]),
            ({"key_header": "X Key"}, ["'key_header'", "X-API-Key"]),
            ({"key_header": "X-Schlüssel"}, ["'key_header'", "X-API-Key"]),
        ],
        ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
    )
    def test_is_named_with_its_place_and_its_cure(self, data: dict[str, Any], says: list[str]) -> None:
        with pytest.raises(SettingsError) as caught:
            Settings.from_dict(data)
        message = str(caught.value)
        assert [fragment for fragment in says if fragment not in message] == [], message
        assert "the settings" in message

    @pytest.mark.parametrize(
        ("env", "says"),
        [
            ({"TURNPIKE_TIERS": "cheap=x"}, "TURNPIKE_TIERS must be JSON, for example"),
            ({"TURNPIKE_TIMEOUT_S": "long"}, "TURNPIKE_TIMEOUT_S must be JSON, for example 30"),
            ({"TURNPIKE_LEDGER": "perhaps"}, "TURNPIKE_LEDGER must be on or off"),
            ({"TURNPIKE_API_KEYS": "sk-canary"}, r"TURNPIKE_API_KEYS must be JSON or key=tenant:caller"),
            ({"TURNPIKE_RATE_LIMIT": "abc"}, "'rate_limit' in the environment"),
            ({"RATE_LIMIT_RPM": "abc"}, "'rate_limit' in the environment"),
            ({"TURNPIKE_CONFIG": "/nowhere/x.toml"}, r"/nowhere/x\.toml: No such file"),
        ],
    )
    def test_in_the_environment_is_named_by_its_variable(self, env: dict[str, str], says: str) -> None:
        with pytest.raises(SettingsError, match=says) as caught:
            Settings.from_env(env)
        assert CANARY not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("timeout_s = ", "not valid TOML"),
            (b"\xff\xfe", "not valid TOML"),
            ("turnpike = 5", "must be a table"),
            ("[turnpike]\ntimeout = 5", "'timeout'.*Did you mean 'timeout_s'"),
            ("timeout_s = inf", "'timeout_s'"),
        ],
    )
    def test_in_a_file_is_named_with_the_file(self, tmp_path: Path, text: str | bytes, says: str) -> None:
        path = tmp_path / "turnpike.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

        with pytest.raises(SettingsError, match=says) as caught:
            Settings.from_toml(path)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("data", [5, None, "x", [("timeout_s", 5)]])
    def test_is_what_is_no_mapping(self, data: Any) -> None:
        with pytest.raises(SettingsError, match=f"must be a mapping; got {type(data).__name__}"):
            Settings.from_dict(data)

    json_like = st.recursive(
        st.none() | st.booleans() | st.integers(-100, 100) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
        max_leaves=5,
    )

    @settings(deadline=None)
    @given(st.dictionaries(st.sampled_from(Settings.__struct_fields__), json_like, max_size=4))
    def test_is_always_a_settings_error(self, data: dict[str, Any]) -> None:
        try:
            Settings.from_dict(data)
        except SettingsError:
            return


class TestSecrets:
    def test_are_in_no_repr(self) -> None:
        read = Settings.from_dict(WRITTEN)

        assert CANARY not in repr(read) + str(read) + f"{read}"

    @pytest.mark.parametrize(
        "data",
        [
            {"providers": {"openai": {"api_key": [CANARY]}}},
            {"providers": {"openai": CANARY}},
            {"providers": CANARY},
            {"api_keys": CANARY},
            {"api_keys": [CANARY]},
            {"api_keys": [{"key": CANARY, "tenant": 5}]},
            {"api_keys": [{"key": CANARY, "tenant": "t", "rate_limit": "x"}]},
        ],
    )
    def test_are_in_no_error(self, data: dict[str, Any]) -> None:
        with pytest.raises(SettingsError) as caught:
            Settings.from_dict(data)
        assert CANARY not in str(caught.value)


class TestPolicies:
    def test_are_the_route_s_own_else_the_default_else_implied_by_a_provider(self) -> None:
        own, default = PolicySettings(retry_attempts=5), PolicySettings(retry_attempts=3)

        assert Settings(routes={"/x": own}, default_policy=default).policy("/x") == own
        assert Settings(routes={"/x": own}, default_policy=default).policy("/y") == default
        assert Settings(routes={"/x": own}).policy("/y") is None
        assert Settings.from_dict({"providers": {"openai": {}}}).policy("/y") == PolicySettings()

    def test_fall_back_to_the_only_provider(self) -> None:
        assert Settings().provider_name() == "openai"
        assert Settings.from_dict({"providers": {"anthropic": {}}}).provider_name() == "anthropic"
        assert Settings.from_dict({"providers": {"anthropic": {}, "openai": {}}}).provider_name() == ""
        both = {"providers": {"anthropic": {}, "openai": {}}, "default_provider": "openai"}
        assert Settings.from_dict(both).provider_name() == "openai"


class TestRateLimits:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("60/minute", (60, 60)),
            ("5 per second", (5, 1)),
            ("100 / hours", (100, 3600)),
            (" 7/DAY ", (7, 86400)),
            (30, (30, 60)),
            ("30", (30, 60)),
            (RateLimit(1, 2), (1, 2)),
        ],
    )
    def test_are_read_in_several_forms(self, written: Any, meant: tuple[int, int]) -> None:
        assert parse_rate_limit(written) == RateLimit(*meant)

    @pytest.mark.parametrize("written", ["", "fast", "1/fortnight", "0/minute", "-1", -1, 0, True, "1.5/minute"])
    def test_that_are_none_are_refused(self, written: Any) -> None:
        with pytest.raises(ValueError, match="rate limit"):
            parse_rate_limit(written)
