"""The request as views see it, for annotations: ``def summarize(request: TurnpikeRequest) -> HttpResponse``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from turnpike.boundary.scope import RequestScope
from turnpike.context import LLMRequestContext

__all__ = ["SERVED", "Served", "TurnpikeRequest", "current_task", "scope_of"]

SERVED = "turnpike_django.served"
"""Key of the ASGI scope under which ``turnpike_django.asgi`` is told of the request."""


@dataclass(slots=True)
class Served:
    """What Django does for one ASGI connection."""

    request: HttpRequest | None = None
    task: asyncio.Task[Any] | None = None
    """In which the response is made and sent; ``None`` where that is a thread."""


def current_task() -> asyncio.Task[Any] | None:
    """Return the running task, or ``None`` in a thread."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


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
