"""Django's ASGI application, watched from outside of Django: what its middleware cannot see is how a client leaves.

In ``asgi.py``, take ``get_asgi_application`` from here in place of ``django.core.asgi``. Without that, the call of a
client that has gone is ended all the same, and recorded as ``cancelled`` instead of ``client_disconnected``.
"""

from __future__ import annotations

import asyncio
from typing import cast

from django.core.asgi import get_asgi_application as get_django_application

from turnpike.boundary.asgi import ASGIApp, Receive, RequestScopeMiddleware, Scope, Send, request_scope
from turnpike.boundary.scope import CLIENT_DISCONNECTED
from turnpike_django.http import SERVED, Served

__all__ = ["get_asgi_application"]


def get_asgi_application() -> ASGIApp:
    """Return the project's ASGI application."""
    return RequestScopeMiddleware(_Attended(cast("ASGIApp", get_django_application())))


class _Attended:
    """Ends what Django leaves behind if a response cannot be sent to its end: the request, and the task that serves it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        served = scope[SERVED] = Served()
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            _end_task(served, scope)
            raise
        finally:
            if served.request is not None and (served.task is None or served.task.done()):
                # Django has a response close its request, unless it cannot be sent. A second time changes nothing.
                served.request.close()
            del scope[SERVED]


def _end_task(served: Served, scope: Scope) -> None:
    """Cancel the task, as the server has cancelled what waits for it: Django does not pass that on."""
    task, request = served.task, served.request
    if task is None or request is None or task.done():
        return
    owned = request_scope(scope)
    owned.end_reason = owned.end_reason or CLIENT_DISCONNECTED
    task.cancel()
    task.add_done_callback(lambda _: request.close())
