"""The app ``turnpike_django``: system checks, and settings that may change while tests run."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.core.signals import setting_changed

__all__ = ["TurnpikeConfig"]


class TurnpikeConfig(AppConfig):
    """Turnpike in the project."""

    name: str = "turnpike_django"
    verbose_name: str = "Turnpike"
    default_auto_field: str = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks and the receiver."""
        from turnpike_django.checks import check_deployment, check_middleware, check_settings
        from turnpike_django.conf import forget

        for check in (check_middleware, check_settings):
            checks.register(check, "turnpike")
        checks.register(check_deployment, "turnpike", deploy=True)
        setting_changed.connect(forget, dispatch_uid="turnpike_django.forget")
