"""System checks: ``manage.py check --tag turnpike``, with ``--deploy`` for what matters in production only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

from turnpike.boundary.route_table import unknown_limits
from turnpike.errors import ConfigurationError
from turnpike_django import conf
from turnpike_django.routes import rows

__all__ = ["check_deployment", "check_middleware", "check_settings"]

_OURS = "turnpike_django.middleware.TurnpikeMiddleware"
_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def check_middleware(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Check where the middleware stands: E001, W001, W003."""
    paths = list(django_settings.MIDDLEWARE)
    position = next((at for at, path in enumerate(paths) if _is_ours(path)), None)
    if position is None:
        hint = f"Add '{_OURS}' to MIDDLEWARE, after AuthenticationMiddleware."
        return [Error("TurnpikeMiddleware is not in MIDDLEWARE, so no request is admitted.", hint, id="turnpike.E001")]
    return [*_synchronous(paths[position + 1 :]), *_before_authentication(paths[position + 1 :])]


def check_settings(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Check what ``TURNPIKE`` and the environment say, and what routes name of it: E002, E003."""
    try:
        settings = conf.load_settings()
        gate = conf.build_gate(settings)
        for name in ("GATEWAY", "IDENTIFY"):
            conf.part(name)
    except ConfigurationError as error:
        return [Error(str(error), "Correct TURNPIKE in the settings, or the environment.", id="turnpike.E002")]
    return [
        Error(
            f"The route '{template}' names the limit '{name}', which the settings do not have.",
            f'Write it in TURNPIKE: "LIMITS": {{"{name}": "10/minute"}}.',
            id="turnpike.E003",
        )
        for template, name in unknown_limits(rows(settings), gate)
    ]


def check_deployment(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Check what only matters where several processes serve: W002."""
    try:
        settings = conf.load_settings()
        counts_elsewhere = settings.redis_url is not None or conf.part("GATE") is not None
    except ConfigurationError:
        return []  # E002 says so
    if counts_elsewhere:
        return []
    return [
        checks.Warning(
            "Requests are counted in the memory of each process, so several workers allow several times the limit.",
            'Set TURNPIKE["REDIS_URL"] or TURNPIKE_REDIS_URL, or silence this if there is one process.',
            id="turnpike.W002",
        )
    ]


def _is_ours(path: str) -> bool:
    from turnpike_django.middleware import TurnpikeMiddleware

    found = _imported(path)
    return isinstance(found, type) and issubclass(found, TurnpikeMiddleware)


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except Exception:  # noqa: BLE001 - Django says so when it loads the middleware
        return None


def _synchronous(below: Sequence[str]) -> Iterator[CheckMessage]:
    for path in below:
        middleware = _imported(path)
        if middleware is not None and not getattr(middleware, "async_capable", False):
            yield checks.Warning(
                f"{path} is synchronous and stands below TurnpikeMiddleware, so under ASGI both run in threads.",
                "Move it above TurnpikeMiddleware, or make it async-capable. Under WSGI, silence this.",
                id="turnpike.W001",
            )


def _before_authentication(below: Sequence[str]) -> Iterator[CheckMessage]:
    try:
        identifies = conf.part("IDENTIFY") is not None
    except ConfigurationError:
        return
    if identifies and _AUTHENTICATION in below:
        yield checks.Warning(
            "TurnpikeMiddleware stands above AuthenticationMiddleware, so IDENTIFY sees no request.user.",
            f"Move '{_OURS}' below '{_AUTHENTICATION}'.",
            id="turnpike.W003",
        )
