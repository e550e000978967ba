"""Turnpike in a Django project.

``INSTALLED_APPS`` gets ``turnpike_django``, ``MIDDLEWARE`` gets ``turnpike_django.middleware.TurnpikeMiddleware``, and
``TURNPIKE = {...}`` holds the settings. Views call ``gateway`` and read ``request.turnpike``. Whatever is decided is
decided in ``turnpike.boundary``; this package translates.
"""

from turnpike.errors import MissingExtraError

try:
    import django as _django  # noqa: F401
except ImportError:
    raise MissingExtraError("turnpike_django", "django") from None

from turnpike_django.decorators import exempt, limit, requires
from turnpike_django.proxies import context, gateway
from turnpike_django.signals import request_admitted, request_denied

__all__ = ["context", "exempt", "gateway", "limit", "request_admitted", "request_denied", "requires"]
