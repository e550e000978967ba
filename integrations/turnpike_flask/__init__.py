"""Turnpike in a Flask application.

``Turnpike(app)``, or ``turnpike.init_app(app)`` in a factory, attaches it and guards every route; views call through
``gateway`` and read who is asking from ``context``. Whatever is decided is decided in ``turnpike.boundary``; this package
translates.
"""

from turnpike.errors import MissingExtraError

try:
    import flask as _flask  # noqa: F401
except ImportError:
    raise MissingExtraError("turnpike_flask", "flask") from None

from turnpike.boundary.rules import exempt, limit, requires
from turnpike_flask.extension import Turnpike
from turnpike_flask.proxies import context, gateway
from turnpike_flask.signals import request_admitted, request_denied

__all__ = [
    "Turnpike",
    "context",
    "exempt",
    "gateway",
    "limit",
    "request_admitted",
    "request_denied",
    "requires",
]
