"""The middleware: admits each request once its view is known, binds who sends it, and renders what Turnpike refuses.

Place it after ``AuthenticationMiddleware``, so that ``IDENTIFY`` sees ``request.user``, and before whatever calls the
gateway. It runs in the mode of the chain below it, sync or async, under WSGI and ASGI. What it binds is unbound when it
returns, in the thread or task where it was bound: both are used again, for requests of other tenants.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from turnpike.boundary.admission import Headers
from turnpike.boundary.asgi import request_scope
from turnpike.boundary.installation import Installation
from turnpike.boundary.problem import Problem, problem_from
from turnpike.boundary.scope import CLIENT_DISCONNECTED, REQUEST_FAILED, RequestScope
from turnpike.boundary.wsgi import headers_of
from turnpike.context import LLMRequestContext, unbound
from turnpike.gateway.effects import run_sync
from turnpike_django.conf import installation
from turnpike_django.http import SERVED, TurnpikeRequest, current_task, scope_of
from turnpike_django.identity import Sender
from turnpike_django.responses import end_with
from turnpike_django.routes import rule_for, template_of
from turnpike_django.signals import request_admitted, request_denied

__all__ = ["TurnpikeMiddleware"]


class TurnpikeMiddleware:
    """Middleware for ``MIDDLEWARE``.

    Raises:
        SettingsError: when the server starts, naming the setting that is wrong.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response: Callable[[HttpRequest], Any] = get_response
        self._is_async = iscoroutinefunction(get_response)
        self.process_view: Callable[..., Any] = self._process_view
        if self._is_async:
            markcoroutinefunction(self)
            self.process_view = self._process_view_async
        installation()  # wrong settings stop the server here, and price data is loaded before the first call needs it

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve one request."""
        if self._is_async:
            return self.__acall__(request)
        scope = _open_scope(request)
        with unbound():
            try:
                response: HttpResponseBase = self.get_response(request)
            except BaseException:
                scope.finish(REQUEST_FAILED)
                raise
            end_with(response, request, scope)
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """Serve one request on the event loop."""
        scope = _open_scope(request)
        with unbound():
            try:
                response: HttpResponseBase = await self.get_response(request)
            except asyncio.CancelledError:
                # Django cancels what it does for a client that has gone.
                scope.finish(CLIENT_DISCONNECTED)
                raise
            except BaseException:
                scope.finish(REQUEST_FAILED)
                raise
            end_with(response, request, scope)
        return response

    # ------------------------------------------------------------------------------------------- called by Django

    def _process_view(self, request: HttpRequest, view: Any, *_: Any) -> HttpResponse | None:
        return run_sync(self._admit(request, view, may_wait=False))

    async def _process_view_async(self, request: HttpRequest, view: Any, *_: Any) -> HttpResponse | None:
        return await self._admit(request, view, may_wait=True)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Render what Turnpike refuses or fails to do in a view; other errors are the project's."""
        problem = problem_from(exception)
        if problem is None:
            scope = scope_of(request)
            scope.end_reason = scope.end_reason or REQUEST_FAILED
        return None if problem is None else _render(problem)

    async def _admit(self, request: HttpRequest, view: Any, *, may_wait: bool) -> HttpResponse | None:
        """Admit ``request``, or return the response that refuses it. Without ``may_wait`` this never suspends."""
        found, scope = installation(), scope_of(request)
        match, method = request.resolver_match, request.method or "GET"
        assert match is not None, "Django resolves the URL before it calls process_view"
        route = template_of(match.route)
        rule = rule_for(view, method, route, found.settings)
        admit: Any = found.admit_async if may_wait else found.admit
        try:
            pending = admit(
                scope, Sender(request, may_wait), _headers(request, found), route=route, method=method, rule=rule
            )
            context: LLMRequestContext = await pending if may_wait else pending
        except Exception as error:
            problem = problem_from(error)
            if problem is None:
                raise
            await _send(request_denied, may_wait, request=request, problem=problem)
            return _render(problem)
        cast("TurnpikeRequest", request).turnpike = context
        if scope.admission is not None and scope.admission.principal is not None:
            await _send(request_admitted, may_wait, request=request, admission=scope.admission)
        return None


def _open_scope(request: HttpRequest) -> RequestScope:
    served = cast("TurnpikeRequest", request)
    served.turnpike, served.turnpike_scope = LLMRequestContext(), _outer_scope(request) or RequestScope()
    return served.turnpike_scope


def _outer_scope(request: HttpRequest) -> RequestScope | None:
    """Return the scope that ``turnpike_django.asgi`` has opened around Django, and tell it what Django does."""
    asgi_scope = getattr(request, "scope", None)
    if asgi_scope is None or SERVED not in asgi_scope:
        return None
    asgi_scope[SERVED].request, asgi_scope[SERVED].task = request, current_task()
    return request_scope(asgi_scope)


def _headers(request: HttpRequest, found: Installation) -> Headers:
    # ASGI has every header as it was sent; WSGI has one value for each name.
    asgi_scope = getattr(request, "scope", None)
    if asgi_scope is not None:
        return cast("Headers", asgi_scope["headers"])
    return headers_of(request.META, found.gate.key_header)


async def _send(signal: Signal, may_wait: bool, **sent: Any) -> None:
    if not signal.has_listeners(TurnpikeMiddleware):
        return
    if may_wait:
        await sync_to_async(signal.send_robust)(TurnpikeMiddleware, **sent)
    else:
        signal.send_robust(TurnpikeMiddleware, **sent)


def _render(problem: Problem) -> HttpResponse:
    body = problem.body
    return HttpResponse(
        body, status=problem.status, headers={**problem.response_headers, "Content-Length": str(len(body))}
    )
