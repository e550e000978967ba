"""The ``TURNPIKE`` settings, read when they are needed, and what is built from them.

``TURNPIKE`` is a dict with the fields of ``turnpike.Settings``, in upper or lower case: the project's defaults, over which
the environment (``TURNPIKE_CONFIG``, ``TURNPIKE_<FIELD>``) is laid, as with every adapter. The keys of ``PARTS`` exist for
Django only, and no variable stands for them; each holds an object or the dotted path of one.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from turnpike.boundary.admission import Gate, key_store_of
from turnpike.boundary.installation import Installation
from turnpike.boundary.keys import KeyStores
from turnpike.errors import SettingsError
from turnpike.fork import reset_in_child
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike_django.identity import for_both_modes

__all__ = ["KEYS_APP", "PARTS", "build_gate", "forget", "installation", "load_settings", "part"]

PARTS = ("GATEWAY", "GATE", "KEY_STORE", "IDENTIFY")
"""Keys of ``TURNPIKE`` that hold objects: a ``Gateway``, a ``Gate``, a ``KeyStore``, and the function from a request to its
``Principal``. A class is called without arguments."""

KEYS_APP = "turnpike_django.keys"
"""The app whose keys are valid wherever it is installed."""


def load_settings() -> Settings:
    """Return the settings as they are now.

    Raises:
        SettingsError: naming the setting that is wrong.
    """
    written = _written()
    plain = {name: value for name, value in written.items() if name.upper() not in PARTS}
    if not plain and (gateway := part("GATEWAY")) is not None:
        settings: Settings = gateway.settings
        return settings
    return Settings.load(plain)


def part(name: str) -> Any:
    """Return the object that ``TURNPIKE[name]`` holds or names, or ``None``.

    Raises:
        SettingsError: if it cannot be imported.
    """
    found = {key.upper(): value for key, value in _written().items()}.get(name)
    if isinstance(found, str):
        try:
            found = import_string(found)
        except ImportError as error:
            raise SettingsError(f"TURNPIKE['{name}'] names something that cannot be imported: {error}.") from None
    return found() if isinstance(found, type) else found


def build_gate(settings: Settings) -> Gate:
    """Return the gate of ``TURNPIKE``, or a new one over its key store.

    Without a ``KEY_STORE``, keys are looked up where the settings name them, and in the database if the app
    ``turnpike_django.keys`` is installed.

    Raises:
        SettingsError: naming the setting that is wrong.
    """
    gate, store = part("GATE"), part("KEY_STORE")
    if gate is not None and store is not None:
        raise SettingsError("TURNPIKE has a GATE and a KEY_STORE; a gate has its own: Gate(..., key_store=...).")
    if gate is not None:
        return gate  # type: ignore[no-any-return]
    if store is None and apps.is_installed(KEYS_APP):
        from turnpike_django.keys.store import DatabaseKeyStore

        written = key_store_of(settings)
        store = DatabaseKeyStore() if written is None else KeyStores([written, DatabaseKeyStore()])
    return Gate(settings, key_store=store, has_other_identities=part("IDENTIFY") is not None)


def _written() -> Mapping[str, Any]:
    written = getattr(django_settings, "TURNPIKE", None) or {}
    if not isinstance(written, Mapping):
        raise SettingsError(f"TURNPIKE in the Django settings must be a dict; it is a {type(written).__name__}.")
    return written


def _build() -> Installation:
    settings, gateway, identify = load_settings(), part("GATEWAY"), part("IDENTIFY")
    return Installation(
        Gateway(settings) if gateway is None else gateway,
        build_gate(settings),
        settings=settings,
        identify=None if identify is None else for_both_modes(identify),
        owns_gateway=gateway is None,
    )


class _Cache:
    """The project's installation, made at its first use and again after the settings have changed."""

    def __init__(self) -> None:
        self._built: Installation | None = None
        # Whatever the settings name may itself use the gateway while it is imported.
        self._lock = threading.RLock()
        reset_in_child(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.RLock()

    def get(self) -> Installation:
        if (found := self._built) is not None:
            return found
        with self._lock:
            if self._built is None:
                self._built = _build()
            return self._built

    def forget(self) -> None:
        with self._lock:
            dropped, self._built = self._built, None
        if dropped is not None:
            dropped.close()


_cache = _Cache()
atexit.register(_cache.forget)


def installation() -> Installation:
    """Return the project's gateway and gate, and the settings they were made from.

    Raises:
        SettingsError: naming the setting that is wrong.
    """
    return _cache.get()


def forget(*, setting: str | None = None, **_: Any) -> None:
    """Close what was built, so that the next use builds it from the settings of then.

    Connected to Django's ``setting_changed``; call it without arguments after changing the environment.
    """
    # A pepper may come from the secret keys.
    if setting in (None, "TURNPIKE", "SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        _cache.forget()
