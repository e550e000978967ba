"""The request as views see it, for annotations: ``def summarize(request: TurnpikeRequest) -> HttpResponse``."""

from __future__ import annotations

from django.http import HttpRequest

from turnpike.boundary.scope import RequestScope
from turnpike.context import LLMRequestContext

__all__ = ["SERVING_TASK", "TurnpikeRequest", "scope_of"]

SERVING_TASK = "turnpike_django.task"
"""Key of the ASGI scope under which the middleware leaves the task that serves the request."""


class TurnpikeRequest(HttpRequest):
    """A request that came through ``TurnpikeMiddleware``."""

    turnpike: LLMRequestContext
    """Who is asking; without any name in it where nobody was asked for."""
    turnpike_scope: RequestScope
    """What ends with the request."""


def scope_of(request: HttpRequest) -> RequestScope:
    """Return the scope that ``TurnpikeMiddleware`` opened for ``request``."""
    scope: RequestScope = request.turnpike_scope  # type: ignore[attr-defined]
    return scope
