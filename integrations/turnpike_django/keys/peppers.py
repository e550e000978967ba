"""The peppers of the project: those in the settings, and those that follow from Django's own secret keys."""

from __future__ import annotations

from django.conf import settings as django_settings
from django.utils.crypto import salted_hmac

from turnpike.secret import Secret
from turnpike_django.conf import load_settings

__all__ = ["key_peppers"]


def key_peppers() -> tuple[Secret, ...]:
    """Return the peppers: the first is for new keys, all of them verify.

    ``key_peppers`` of the Turnpike settings come first. Those made of ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS`` stay
    behind them, so that keys issued before peppers were configured, or before ``SECRET_KEY`` was changed, stay valid.

    Raises:
        SettingsError: if the settings cannot be read.
    """
    secrets = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    return (*load_settings().key_peppers, *(_derived(secret) for secret in secrets))


def _derived(secret_key: str | bytes) -> Secret:
    return Secret(salted_hmac("turnpike_django.keys", "pepper", secret=secret_key, algorithm="sha256").hexdigest())
