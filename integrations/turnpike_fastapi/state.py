"""What ``install`` leaves on the application."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI

from turnpike.boundary.admission import Gate
from turnpike.errors import ConfigurationError
from turnpike.gateway.client import Gateway

__all__ = ["SCHEME_NAME", "Turnpike", "turnpike_of"]

SCHEME_NAME = "TurnpikeKey"
"""Name of the security scheme in the OpenAPI document."""


@dataclass(frozen=True)
class Turnpike:
    """The parts of one application, at ``app.state.turnpike``."""

    gateway: Gateway
    gate: Gate


def turnpike_of(app: FastAPI) -> Turnpike:
    """Return what is installed on ``app``.

    Raises:
        ConfigurationError: if nothing is.
    """
    found = getattr(app.state, "turnpike", None)
    if not isinstance(found, Turnpike):
        raise ConfigurationError(
            f"The FastAPI application '{app.title}' has a route that depends on turnpike_fastapi, but no Turnpike. "
            "Call turnpike_fastapi.install(app, settings) where the application is made. A mounted application needs "
            "its own; share the outer one's parts: gateway=app.state.turnpike.gateway, gate=app.state.turnpike.gate."
        )
    return found
