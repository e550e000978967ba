"""The app ``turnpike_django.keys``."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["KeysConfig"]


class KeysConfig(AppConfig):
    """API keys in the database."""

    name: str = "turnpike_django.keys"
    label: str = "turnpike_keys"
    verbose_name: str = "Turnpike keys"
    default_auto_field: str = "django.db.models.BigAutoField"
