"""Django's ASGI application, watched from outside of Django: what its middleware cannot see is how a client leaves.

In ``asgi.py``, take ``get_asgi_application`` from here in place of ``django.core.asgi``. Without that, the call of a
client that has gone is ended all the same, and recorded as ``cancelled`` instead of ``client_disconnected``.
"""

from __future__ import annotations

import asyncio

from django.core.asgi import get_asgi_application as get_django_application

from turnpike.boundary.asgi import ASGIApp, Receive, RequestScopeMiddleware, Scope, Send, request_scope
from turnpike.boundary.scope import CLIENT_DISCONNECTED
from turnpike_django.http import SERVING_TASK

__all__ = ["get_asgi_application"]


def get_asgi_application() -> ASGIApp:
    """Return the project's ASGI application."""
    return RequestScopeMiddleware(_Attended(get_django_application()))


class _Attended:
    """Ends what Django leaves running when a server cancels a request: the task in which it serves it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            task: asyncio.Task[object] | None = scope.get(SERVING_TASK)
            if task is not None and not task.done():
                owned = request_scope(scope)
                owned.end_reason = owned.end_reason or CLIENT_DISCONNECTED
                task.cancel()
            raise
