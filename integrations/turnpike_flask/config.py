"""Settings from ``app.config``: the keys that begin with ``TURNPIKE_``, over what is written in code, below the environment.

Values may be Python objects, or text in the form of the environment variable of the same name: that is what
``app.config.from_prefixed_env()`` leaves there where a value is no JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from flask import Flask

from turnpike.errors import SettingsError
from turnpike.settings import Settings

__all__ = ["settings_from"]

_PREFIX = "TURNPIKE_"


def settings_from(app: Flask, given: Settings | Mapping[str, Any] | None) -> Settings | Mapping[str, Any] | None:
    """Return ``given`` with the application's configuration laid over it.

    Raises:
        SettingsError: naming the key that is unknown or wrong, or if nothing can be laid over ``given``.
    """
    configured = {
        key.removeprefix(_PREFIX).lower(): _value(key, value)
        for key, value in app.config.items()
        if key.startswith(_PREFIX) and value not in (None, "")  # as an environment variable that is set to nothing
    }
    if not configured:
        return given
    if isinstance(given, Settings):
        raise SettingsError(
            f"app.config has {_PREFIX}{min(configured).upper()}, but Turnpike was given complete Settings, over which "
            "nothing is laid. Give it a mapping of defaults instead, or write everything into the Settings."
        )
    return {**{str(key).lower(): value for key, value in (given or {}).items()}, **configured}


def _value(key: str, value: Any) -> Any:
    name = key.removeprefix(_PREFIX).lower()
    if name not in Settings.__struct_fields__:
        known = [_PREFIX + field.upper() for field in Settings.__struct_fields__]
        close = get_close_matches(key, known, 1)
        hint = f"Did you mean {close[0]}?" if close else f"Settings are: {', '.join(sorted(known))}."
        raise SettingsError(f"app.config has {key}, which is not a setting. {hint}")
    if not isinstance(value, (str, int)) or name == "default_provider":
        return value  # that one is a name, and looked up among the providers once all settings are there
    try:
        return getattr(Settings.from_env({key: str(value)}), name)
    except SettingsError as error:
        raise SettingsError(f"app.config['{key}']: {error}") from None
