"""WSGI middleware that gives every request a scope and announces its quota, for any WSGI framework.

A request runs in a ``contextvars.Context`` of its own, from the call to the body's ``close()``: servers run many requests in
one thread, and what the last one left bound there must not be the next one's identity. It admits nobody and renders
nothing; the adapter does that inside, where the route is known.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from turnpike.boundary.body import ScopedBody
from turnpike.boundary.scope import ABANDONED, REQUEST_FAILED, RequestScope
from turnpike.context import unbind
from turnpike.errors import ConfigurationError

__all__ = ["Environ", "RequestScopeMiddleware", "StartResponse", "WSGIApp", "headers_of", "request_scope"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_SCOPE_KEY = "turnpike.request"
_UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")


def request_scope(environ: Mapping[str, Any]) -> RequestScope:
    """Return the request's scope from its WSGI environment.

    Raises:
        ConfigurationError: if the request did not come through ``RequestScopeMiddleware``.
    """
    found = environ.get(_SCOPE_KEY)
    if not isinstance(found, RequestScope):
        raise ConfigurationError(
            "This request did not come through turnpike.boundary.wsgi.RequestScopeMiddleware. Let the adapter install "
            "it, or put it around the application."
        )
    return found


def headers_of(environ: Mapping[str, Any], only: str | None = None) -> list[tuple[str, str]]:
    """Return the request's headers as a WSGI environment has them: one value for each name.

    Args:
        environ: the environment.
        only: the name of the one header that is wanted, which spares the look at all others.
    """
    if only is not None:
        value = environ.get(_variable(only))
        return [] if value is None else [(only, value)]
    return [
        (_header(name), value) for name, value in environ.items() if name.startswith("HTTP_") or name in _UNPREFIXED
    ]


def _header(variable: str) -> str:
    return variable.removeprefix("HTTP_").replace("_", "-")


@lru_cache(maxsize=64)
def _variable(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in _UNPREFIXED else f"HTTP_{name}"


class RequestScopeMiddleware:
    """Opens a ``RequestScope`` for each request and finishes it when the response's body is closed."""

    def __init__(self, app: WSGIApp) -> None:
        self.app = app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if _SCOPE_KEY in environ:
            # An application mounted inside another one shares the outer request's scope.
            return self.app(environ, start_response)
        owned = environ[_SCOPE_KEY] = RequestScope()
        context = contextvars.copy_context()
        body = context.run(self._call, environ, owned, start_response)
        if isinstance(body, (list, tuple)):
            # It is complete, and servers tell its length from its being a list.
            context.run(owned.finish, ABANDONED)
            return body
        return ScopedBody(body, owned, context)

    def _call(self, environ: Environ, owned: RequestScope, start_response: StartResponse) -> Iterable[bytes]:
        # Identity comes from the request's own key, whatever is bound around the server.
        unbind()
        try:
            return self.app(environ, _announcing(owned, start_response))
        except BaseException:
            owned.finish(REQUEST_FAILED)
            raise


def _announcing(owned: RequestScope, start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        present = {name.lower() for name, _ in headers}
        added = [(name, value) for name, value in owned.headers.items() if name.lower() not in present]
        return start_response(status, [*headers, *added], *exc_info)

    return start
