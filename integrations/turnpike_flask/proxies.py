"""What views import: ``gateway`` and ``context``, which stand for those of the application and request at hand."""

from __future__ import annotations

from flask import Flask, current_app
from werkzeug.local import LocalProxy

from turnpike.boundary.installation import Installation
from turnpike.context import LLMRequestContext, current_context
from turnpike.errors import ConfigurationError, UnattributedError
from turnpike.gateway.client import Gateway

__all__ = ["context", "gateway", "installation_of"]


class _UnboundContextError(UnattributedError, RuntimeError):
    """Nobody is bound; a ``RuntimeError`` too, because that is how a proxy is told so when it is merely looked at."""


def installation_of(app: Flask) -> Installation:
    """Return what is attached to ``app``.

    Raises:
        ConfigurationError: if nothing is.
    """
    found = app.extensions.get("turnpike")
    if not isinstance(found, Installation):
        raise ConfigurationError(
            f"The Flask application '{app.name}' has no Turnpike. Call Turnpike(app), or turnpike.init_app(app), where "
            "the application is made."
        )
    return found


def _gateway() -> Gateway:
    return installation_of(current_app).gateway


def _context() -> LLMRequestContext:
    try:
        return current_context()
    except UnattributedError:
        raise _UnboundContextError(
            "Nobody is bound here. turnpike_flask.context can be read while a request is served; elsewhere use 'with "
            "turnpike.bind(tenant_id=...):', and for threads turnpike.propagate()."
        ) from None


gateway: Gateway = LocalProxy(_gateway)  # type: ignore[assignment]
"""The current application's gateway: ``gateway.call_sync(...)``. Like ``current_app``, it needs an application context."""

context: LLMRequestContext = LocalProxy(_context)  # type: ignore[assignment]
"""Who is asking: ``context.tenant_id``. All its fields are ``None`` on routes that need no key."""
