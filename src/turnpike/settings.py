"""What an operator writes: providers, tiers, route policies, keys and limits, from a dict, the environment or TOML.

Every error names the key, says where it was read and what to write instead. Reading settings opens no connection, reads
no key file and imports no SDK.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from turnpike.errors import SettingsError
from turnpike.secret import Secret
from turnpike.struct_types import prepared

__all__ = [
    "ApiKeySettings",
    "LimitSettings",
    "PolicySettings",
    "ProviderSettings",
    "RateLimit",
    "Settings",
    "TierSettings",
    "parse_rate_limit",
]

DEFAULT_TELEMETRY_PATH = "~/.turnpike/telemetry.jsonl"
"""Where the ledger lies unless ``TURNPIKE_TELEMETRY_PATH`` or ``telemetry_path`` says otherwise."""

_PREFIX = "TURNPIKE_"
_ENV_ONLY = {"TURNPIKE_CONFIG", "TURNPIKE_SEMCONV"}
_PLAIN_TEXT = {
    "telemetry_path",
    "ledger_fsync",
    "on_ledger_error",
    "default_provider",
    "key_file",
    "key_header",
    "rate_limit",
    "tenant_rate_limit",
    "redis_url",
    "on_quota_failure",
}
_PERIOD_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
RESERVED_LIMIT_NAMES = frozenset({"default", "tenant"})
"""Names under which clients see ``rate_limit`` and ``tenant_rate_limit``."""
_LIMIT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_RATE = re.compile(r"(\d{1,9})\s*(?:/|per)\s*(second|minute|hour|day)s?", re.ASCII)

T = TypeVar("T")


class RateLimit(msgspec.Struct, frozen=True):
    """``requests`` per window of ``window_s`` seconds."""

    requests: int
    window_s: int


def parse_rate_limit(value: str | int | RateLimit) -> RateLimit:
    """Read ``"60/minute"``, ``"5 per second"`` or a plain number of requests per minute.

    Raises:
        ValueError: if ``value`` is none of these or allows no request at all.
    """
    if isinstance(value, RateLimit):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        requests, window_s = value, 60
    elif match := _RATE.fullmatch(str(value).strip().lower()):
        requests, window_s = int(match[1]), _PERIOD_S[match[2]]
    elif str(value).strip().isdecimal():
        requests, window_s = int(str(value)), 60
    else:
        raise ValueError(f"write a rate limit as '60/minute' (second, minute, hour or day); got {value!r}")
    if requests < 1:
        raise ValueError(f"a rate limit must allow at least 1 request; got {value!r}")
    return RateLimit(requests, window_s)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: unknown keys are errors."""


class ProviderSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider, under the name that policies and tiers use for it."""

    type: Literal["openai", "anthropic"] | None = None
    """Which SDK speaks to it; by default the one of the same name, so it is needed for other names only."""
    api: Literal["chat", "responses"] | None = None
    """OpenAI only: Chat Completions (default) or Responses."""
    base_url: str | None = None
    """By default the SDK's own, including its environment variable (``OPENAI_BASE_URL``, ``ANTHROPIC_BASE_URL``)."""
    api_key: Secret | None = None
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; by default the SDK's own."""
    transport: Literal["default", "aiohttp"] = "default"
    """HTTP library below the SDK in async calls; ``aiohttp`` needs the extra of that name."""
    pricing_provider: str | None = None
    """Whose price list applies when ``base_url`` leads to another vendor, such as ``openrouter`` or ``azure``."""
    max_connections: int = 1000


class TierSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model behind a tier name."""

    model: str
    provider: str | None = None
    """By default the provider of the route's policy."""


class PolicySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rule of one route, or of all that have none of their own."""

    max_output_tokens: int | None = None
    """Upper bound of an answer in tokens; 1024 where nothing sets it. A route takes what it does not set from
    ``default_policy``, here and below."""
    retry_attempts: int | None = None
    """How often a failed request is tried again; 2 where nothing sets it."""
    timeout_s: float | None = None
    """Deadline of a whole call in seconds; by default the ``timeout_s`` of all routes."""
    provider: str | None = None
    tiers: dict[str, str | TierSettings] = {}
    cache_enabled: bool | None = None


class ApiKeySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One caller's key and who that caller is."""

    tenant: str
    caller: str | None = None
    key: Secret | None = None
    key_env: str | None = None
    """Name of the environment variable that holds the key."""
    scopes: tuple[str, ...] = ()
    rate_limit: str | int | None = None
    """By default the service's own."""


class LimitSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit for a class of routes, beside the one that holds for all."""

    rate: str | int
    per: Literal["key", "tenant"] = "key"
    """Whose requests are counted together."""
    routes: tuple[str, ...] = ()
    """Templates of the routes in the class; handlers marked with ``limit(name)`` belong to it as well."""


@prepared
class Settings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an operator can set. ``Settings()`` is valid: no provider, no default policy, the default ledger."""

    providers: dict[str, ProviderSettings] = {}
    default_provider: str | None = None
    """Provider of policies and tiers that name none; by default the only one."""
    tiers: dict[str, str | TierSettings] = {}
    """Tiers of every route: a model name, or a table with ``model`` and ``provider``."""
    default_policy: PolicySettings | None = None
    """Rule of routes without one of their own. Naming a provider implies ``PolicySettings()`` here."""
    routes: dict[str, PolicySettings] = {}
    timeout_s: float = 60.0
    """Deadline of a whole call, retries included, in seconds, where its route sets none."""
    telemetry_path: str = DEFAULT_TELEMETRY_PATH
    ledger: bool = True
    """``False`` writes no ledger at all."""
    ledger_fsync: Literal["none", "interval", "always"] = "interval"
    """When lines are forced to disk: never, about once a second, or each before its call returns."""
    ledger_rotate_bytes: int | None = None
    """Size in bytes beyond which the ledger's file is set aside and a new one begun."""
    ledger_rotate_hours: float | None = None
    """Age in hours beyond which it is."""
    ledger_keep: int | None = None
    """How many files that were set aside are kept; by default all of them."""
    on_ledger_error: Literal["log", "raise"] = "log"
    """Whether a line that cannot be written is kept, tried again and logged, or fails its call as well."""
    open_call_marks: bool = True
    """Whether calls that are under way are marked beside the ledger, so that they are not lost with the process."""
    require_attribution: bool = False
    """``True`` refuses calls for which no tenant is named."""
    api_keys: tuple[ApiKeySettings, ...] = ()
    key_file: str | None = None
    """File of the keys that ``turnpike keys`` manages; they are valid beside ``api_keys``."""
    key_peppers: tuple[Secret, ...] = ()
    """Secrets under which issued keys are digested: the first for new keys, all of them to verify."""
    key_header: str = "X-API-Key"
    rate_limit: str | int = "60/minute"
    """Requests of one key, unless the key has a limit of its own."""
    tenant_rate_limit: str | int | None = None
    """Requests of all keys of a tenant together."""
    limits: dict[str, str | int | LimitSettings] = {}
    """Further limits by name, each for a class of routes."""
    redis_url: Secret | None = None
    """Redis server that counts the requests of all processes; by default each process counts its own."""
    on_quota_failure: Literal["open", "closed"] = "open"
    """Whether requests pass or are refused (503) while they cannot be counted."""
    exempt: tuple[str, ...] = ()
    """Route templates that need no key."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """Read settings from a mapping, such as Django's ``TURNPIKE`` or a decoded file.

        Raises:
            SettingsError: naming the key that is unknown or wrong.
        """
        return _checked(_convert(data, "the settings"), "the settings")

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Settings:
        """Read the ``[turnpike]`` table of a TOML file, or the whole file when it has no such table.

        Raises:
            SettingsError: if the file cannot be read or a key in it is wrong.
        """
        where = f"the file {os.fspath(path)}"
        return _checked(_convert(_read_toml(path), where), where)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, defaults: Mapping[str, Any] | None = None
    ) -> Settings:
        """Read ``TURNPIKE_CONFIG`` (a TOML file) and, over it, ``TURNPIKE_<FIELD>`` for each field.

        Fields that are not text or numbers are written as JSON: ``TURNPIKE_TIERS='{"cheap": "gpt-4o-mini"}'``.
        ``TURNPIKE_API_KEYS`` also takes ``key=tenant:caller`` pairs with commas between them, and ``APP_API_KEY`` is the
        one-key case: it adds caller ``app`` of tenant ``app``. ``RATE_LIMIT_RPM`` is read where
        ``TURNPIKE_RATE_LIMIT`` is not set.

        Args:
            environ: the variables; by default those of the process.
            defaults: settings written in code, which the file and the variables replace field by field.

        Raises:
            SettingsError: naming the variable or the key that is wrong.
        """
        env = os.environ if environ is None else environ
        data = _lower_keys(defaults or {})
        where = "the environment"
        if path := env.get("TURNPIKE_CONFIG"):
            data.update(_lower_keys(_read_toml(path)))
            where = f"the environment or the file {path}"
        if defaults:
            where += " or the defaults"
        data.update(_from_variables(env))
        _add_published_variables(data, env)
        return _checked(_convert(data, where), where)

    @classmethod
    def load(cls, given: Settings | Mapping[str, Any] | None) -> Settings:
        """Return the settings that a gateway or an adapter was given.

        ``Settings`` are taken as they are. A mapping holds the application's defaults, over which the environment is laid,
        so that what an operator sets in a deployment counts; ``None`` is the environment alone.

        Raises:
            SettingsError: if a key is wrong, or ``given`` is none of these.
        """
        if isinstance(given, Settings):
            return given
        if given is None or isinstance(given, Mapping):
            return cls.from_env(defaults=given)
        raise SettingsError(f"settings must be Settings, a mapping or None; got {type(given).__name__}.")

    def policy(self, route: str) -> PolicySettings | None:
        """Return the rule of ``route``, its own over the default; ``None`` if there is neither."""
        own, default = self.routes.get(route), self.default_policy
        if own is None and default is None:
            return PolicySettings() if self.providers else None
        own, default = own or PolicySettings(), default or PolicySettings()
        return PolicySettings(
            max_output_tokens=_first(own.max_output_tokens, default.max_output_tokens),
            retry_attempts=_first(own.retry_attempts, default.retry_attempts),
            timeout_s=_first(own.timeout_s, default.timeout_s),
            provider=_first(own.provider, default.provider),
            tiers={**default.tiers, **own.tiers},
            cache_enabled=_first(own.cache_enabled, default.cache_enabled),
        )

    def provider_name(self) -> str:
        """Return the provider of policies and tiers that name none; empty if there are several to choose from."""
        if self.default_provider is not None:
            return self.default_provider
        if len(self.providers) > 1:
            return ""
        return next(iter(self.providers), "openai")


def _first(value: T | None, fallback: T | None) -> T | None:
    return fallback if value is None else value


def _read_toml(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    name = os.fspath(path)
    try:
        data = tomllib.loads(Path(path).expanduser().read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"Cannot read the settings file {name}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {name} is not valid TOML: {error}.") from None
    table = data.get("turnpike", data)
    if not isinstance(table, Mapping):
        raise SettingsError(f"'turnpike' in {name} must be a table: write [turnpike] and the settings below it.")
    return table


def _from_variables(env: Mapping[str, str]) -> dict[str, Any]:
    known = {_PREFIX + name.upper(): name for name in Settings.__struct_fields__}
    data: dict[str, Any] = {}
    for variable, value in env.items():
        if variable in known and value == "":
            continue  # set but empty means unset, as container tools write it
        if variable in known:
            data[known[variable]] = _parse_variable(variable, known[variable], value)
        elif variable.startswith(_PREFIX) and variable not in _ENV_ONLY:
            _warn_of_typo(variable, known)
    return data


def _add_published_variables(data: dict[str, Any], env: Mapping[str, str]) -> None:
    """Read the names of 0.1.x. Other software may use them too, so they add to what is written and replace nothing."""
    if "rate_limit" not in data and env.get("RATE_LIMIT_RPM"):
        data["rate_limit"] = env["RATE_LIMIT_RPM"]
    if env.get("APP_API_KEY"):
        data["api_keys"] = [*data.get("api_keys", ()), {"key": env["APP_API_KEY"], "tenant": "app", "caller": "app"}]


def _warn_of_typo(variable: str, known: Mapping[str, str]) -> None:
    # Other variables may share the prefix (a service called "turnpike" gets TURNPIKE_SERVICE_HOST from Kubernetes), so
    # only near misses are worth a word.
    if close := get_close_matches(variable, [*known, *_ENV_ONLY], 1, 0.88):
        warnings.warn(f"{variable} is not a Turnpike setting; did you mean {close[0]}?", stacklevel=4)


def _parse_variable(variable: str, name: str, value: str) -> Any:
    if name in _PLAIN_TEXT:
        return value
    if name in ("ledger", "open_call_marks", "require_attribution"):
        return _parse_switch(variable, value)
    if name == "api_keys" and not value.lstrip().startswith("["):
        return [_parse_key_pair(variable, pair) for pair in value.split(",") if pair.strip()]
    if name in ("exempt", "key_peppers") and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        # The value may hold keys, so it is not repeated.
        raise SettingsError(f"{variable} must be JSON, for example {_EXAMPLES.get(name, '1')}.") from None


_EXAMPLES = {
    "providers": """'{"openai": {}}'""",
    "tiers": """'{"cheap": "gpt-4o-mini"}'""",
    "default_policy": """'{"max_output_tokens": 500}'""",
    "routes": """'{"/chat": {"retry_attempts": 1}}'""",
    "limits": """'{"chat": "10/minute"}'""",
    "timeout_s": "30",
}


def _parse_switch(variable: str, value: str) -> bool:
    word = value.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise SettingsError(f"{variable} must be on or off (also true/false, yes/no, 1/0).")


def _parse_key_pair(variable: str, pair: str) -> dict[str, Any]:
    key, equals, who = pair.strip().rpartition("=")
    tenant, _, caller = who.partition(":")
    if not equals or not key or not tenant:
        raise SettingsError(f"{variable} must be JSON or key=tenant:caller pairs with commas between them.")
    return {"key": key, "tenant": tenant, "caller": caller or None}


def _decode_secret(kind: type, value: Any) -> Any:
    if kind is not Secret:
        raise NotImplementedError
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    raise ValueError("Expected `str`")


def _lower_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).lower(): value for key, value in data.items()}


def _convert(data: Mapping[str, Any], where: str) -> Settings:
    if not isinstance(data, Mapping):
        raise SettingsError(f"{where} must be a mapping; got {type(data).__name__}.")
    try:
        return msgspec.convert(_lower_keys(data), Settings, dec_hook=_decode_secret, strict=True)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(str(error), where)) from None


def _explain(message: str, where: str) -> str:
    """Turn msgspec's message and JSON path into one that names the key."""
    text, _, path = message.partition(" - at ")
    key = path.strip("`").removeprefix("$").removeprefix(".").replace("[...]", ".*")
    if unknown := re.search(r"unknown field `([^`]+)`", text):
        section = _section_at(key)
        close = get_close_matches(unknown[1], section.__struct_fields__, 1)
        hint = (
            f" Did you mean '{close[0]}'?" if close else f" Known keys: {', '.join(sorted(section.__struct_fields__))}."
        )
        place = f"'{key}.{unknown[1]}'" if key else f"'{unknown[1]}'"
        return f"Unknown setting {place} in {where}.{hint}"
    if missing := re.search(r"missing required field `([^`]+)`", text):
        return f"Setting '{key + '.' if key else ''}{missing[1]}' is missing in {where}."
    return f"Setting '{key or '?'}' in {where} is wrong: {text[:1].lower()}{text[1:]}."


def _section_at(key: str) -> type[msgspec.Struct]:
    head = re.split(r"[.\[]", key)[0] if key else ""
    sections: dict[str, type[msgspec.Struct]] = {
        "providers": ProviderSettings,
        "tiers": TierSettings,
        "routes": PolicySettings,
        "default_policy": PolicySettings,
        "api_keys": ApiKeySettings,
        "limits": LimitSettings,
    }
    return sections.get(head, Settings)


def _checked(settings: Settings, where: str) -> Settings:
    """Check what types alone cannot."""
    for check in (_check_limits, _check_providers, _check_policies, _check_keys):
        check(settings, where)
    return settings


def _check_limits(settings: Settings, where: str) -> None:
    _check_rate(settings.rate_limit, "rate_limit", where)
    if settings.tenant_rate_limit is not None:
        _check_rate(settings.tenant_rate_limit, "tenant_rate_limit", where)
    for name, limit in settings.limits.items():
        _check_named_limit(name, limit, where)
    for index, entry in enumerate(settings.api_keys):
        if entry.rate_limit is not None:
            _check_rate(entry.rate_limit, f"api_keys[{index}].rate_limit", where)
    _check_ledger(settings, where)
    if not 0 < settings.timeout_s < math.inf:
        raise SettingsError(f"Setting 'timeout_s' in {where} must be a positive, finite number of seconds.")
    if not settings.key_header.isascii() or not re.fullmatch(r"[A-Za-z0-9-]+", settings.key_header):
        raise SettingsError(f"Setting 'key_header' in {where} must be a header name such as X-API-Key.")


def _check_ledger(settings: Settings, where: str) -> None:
    for name in ("ledger_rotate_bytes", "ledger_rotate_hours", "ledger_keep"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise SettingsError(f"Setting '{name}' in {where} must be positive, or left out.")


def _check_named_limit(name: str, limit: str | int | LimitSettings, where: str) -> None:
    if not _LIMIT_NAME.fullmatch(name) or name in RESERVED_LIMIT_NAMES:
        raise SettingsError(
            f"Setting 'limits' in {where} has the name '{name}': use letters, digits, '-', '_' and '.', and neither "
            "'default' nor 'tenant', which stand for rate_limit and tenant_rate_limit."
        )
    _check_rate(limit.rate if isinstance(limit, LimitSettings) else limit, f"limits.{name}", where)


def _check_rate(value: str | int, key: str, where: str) -> None:
    try:
        parse_rate_limit(value)
    except ValueError as error:
        raise SettingsError(f"Setting '{key}' in {where}: {error}.") from None


def _check_providers(settings: Settings, where: str) -> None:
    for name, provider in settings.providers.items():
        if (provider.type or name) not in ("openai", "anthropic"):
            raise SettingsError(
                f"Setting 'providers.{name}.type' is missing in {where}: write type = \"openai\" for a server that speaks "
                'the OpenAI API, or type = "anthropic".'
            )
        if provider.max_connections < 1:
            raise SettingsError(f"Setting 'providers.{name}.max_connections' in {where} must be at least 1.")
        if provider.api is not None and (provider.type or name) != "openai":
            raise SettingsError(f"Setting 'providers.{name}.api' in {where} belongs to OpenAI providers only.")
    if settings.default_provider is not None and settings.default_provider not in settings.providers:
        raise SettingsError(
            f"Setting 'default_provider' in {where} names '{settings.default_provider}', which is not under providers."
        )


def _check_policies(settings: Settings, where: str) -> None:
    named = dict(settings.routes)
    policies = {f"routes.{route}": policy for route, policy in named.items()}
    if settings.default_policy is not None:
        policies["default_policy"] = settings.default_policy
    for key, policy in policies.items():
        if policy.max_output_tokens is not None and policy.max_output_tokens < 1:
            raise SettingsError(f"Setting '{key}.max_output_tokens' in {where} must be at least 1.")
        if policy.retry_attempts is not None and policy.retry_attempts < 0:
            raise SettingsError(f"Setting '{key}.retry_attempts' in {where} must be 0 or more.")
        if policy.timeout_s is not None and not 0 < policy.timeout_s < math.inf:
            raise SettingsError(f"Setting '{key}.timeout_s' in {where} must be a positive, finite number of seconds.")


def _check_keys(settings: Settings, where: str) -> None:
    for index, entry in enumerate(settings.api_keys):
        if (entry.key is None) == (entry.key_env is None):
            raise SettingsError(f"Setting 'api_keys[{index}]' in {where} needs exactly one of key and key_env.")
        if not entry.tenant:
            raise SettingsError(f"Setting 'api_keys[{index}].tenant' in {where} must not be empty.")
