"""What ``install`` leaves on the application, at ``app.state.turnpike``."""

from __future__ import annotations

from fastapi import FastAPI

from turnpike.boundary.installation import Installation
from turnpike.errors import ConfigurationError

__all__ = ["installation_of"]


def installation_of(app: FastAPI) -> Installation:
    """Return what is installed on ``app``.

    Raises:
        ConfigurationError: if nothing is.
    """
    found = getattr(app.state, "turnpike", None)
    if not isinstance(found, Installation):
        raise ConfigurationError(
            f"The FastAPI application '{app.title}' has a route that depends on turnpike_fastapi, but no Turnpike. "
            "Call turnpike_fastapi.install(app, settings) where the application is made. A mounted application needs "
            "its own; share the outer one's parts: gateway=app.state.turnpike.gateway, gate=app.state.turnpike.gate."
        )
    return found
