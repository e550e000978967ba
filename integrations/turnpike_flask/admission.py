"""What happens to every request: it is admitted before its view runs, and Turnpike's errors become problem responses.

Identity is bound in the context in which the middleware around the application runs the whole request, and stays bound
until the response's body is closed, which Flask's teardown functions do not wait for. So only two kinds of requests end at
their teardown: those that failed, and those of ``test_request_context``, which come through no middleware.
"""

from __future__ import annotations

from flask import Flask, Request, Response, current_app, request

from turnpike.boundary.problem import Problem, problem_from
from turnpike.boundary.scope import ABANDONED, REQUEST_FAILED, RequestScope
from turnpike.boundary.wsgi import headers_of, request_scope
from turnpike.context import current_binding
from turnpike.errors import ConfigurationError
from turnpike_flask.proxies import installation_of
from turnpike_flask.routes import rule_of_route
from turnpike_flask.signals import request_admitted, request_denied

__all__ = ["admit", "end_at_teardown", "respond"]

_OWN_SCOPE = "turnpike_flask.scope"


def admit() -> None:
    """Admit the request at hand, and bind its identity.

    What matches no route is Flask's own to answer (404, 405, redirects), and is not admitted.

    Raises:
        Problem: if the request is refused.
    """
    app, asked = _current_app(), _current_request()
    route = asked.url_rule
    if route is None:
        return
    scope = _scope_of(asked)
    try:
        found = installation_of(app)
        context = found.admit(
            scope,
            asked,
            headers_of(asked.environ, found.gate.key_header),
            route=route.rule,
            method=asked.method,
            rule=rule_of_route(app, route.endpoint, asked.method),
        )
    except Problem as problem:
        request_denied.send(app, _async_wrapper=app.ensure_sync, problem=problem)
        raise
    if scope.admission is not None and scope.admission.principal is not None:
        request_admitted.send(app, _async_wrapper=app.ensure_sync, context=context)


def respond(error: Exception) -> Response:
    """Return the response that an error of Turnpike's becomes."""
    problem = problem_from(error)
    if problem is None:
        raise error
    return _current_app().response_class(problem.body, problem.status, problem.response_headers)


def end_at_teardown(error: BaseException | None) -> None:
    """End the request if its view failed, or if no middleware does so after the body. May be called more than once."""
    own: RequestScope | None = request.environ.pop(_OWN_SCOPE, None)
    if own is not None:
        own.finish(ABANDONED if error is None else REQUEST_FAILED)
    elif isinstance(error, Exception) and (scope := getattr(current_binding(), "streams", None)) is not None:
        # Flask tears down in other threads too, where a copy of the request's context was in use and nothing is bound.
        scope.finish(REQUEST_FAILED)


def _scope_of(asked: Request) -> RequestScope:
    try:
        return request_scope(asked.environ)
    except ConfigurationError:
        own: RequestScope = asked.environ.setdefault(_OWN_SCOPE, RequestScope())
        return own


def _current_app() -> Flask:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app


def _current_request() -> Request:
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]
    return asked
