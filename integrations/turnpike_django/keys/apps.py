"""The app ``turnpike_django.keys``."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["KeysConfig"]


class KeysConfig(AppConfig):
    """API keys in the database."""

    name = "turnpike_django.keys"
    label = "turnpike_keys"
    verbose_name = "Turnpike keys"
    default_auto_field = "django.db.models.BigAutoField"
