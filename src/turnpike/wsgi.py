"""Turnpike around any WSGI application: Bottle, Pyramid, or a plain function.

    app = TurnpikeMiddleware(app, settings, routes=["/chat/{id}"])

For Flask and Django there are ``turnpike_flask`` and ``turnpike_django``, which know more of their frameworks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from turnpike.boundary.admission import Gate
from turnpike.boundary.installation import Identify, Installation
from turnpike.boundary.keys import KeyStore
from turnpike.boundary.problem import Problem, problem_from
from turnpike.boundary.route_templates import Route, Routes, finder
from turnpike.boundary.wsgi import Environ, RequestScopeMiddleware, StartResponse, WSGIApp, headers_of, request_scope
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings

__all__ = ["Route", "TurnpikeMiddleware"]


class TurnpikeMiddleware:
    """Admits every request of ``app``, and binds who sends it until the response's body is closed.

    Errors of Turnpike that the application lets through when it is called become problem responses.

    Args:
        app: the application.
        settings: ``Settings``, or a mapping over which the environment is laid; by default the given gateway's, or else
            the environment alone.
        gateway: a gateway of your own, which you close; one that is made here writes what is left at interpreter exit.
        gate: a gate of your own, for another quota store.
        key_store: where keys are looked up, instead of the settings' ``api_keys`` and ``key_file``.
        identify: from the WSGI environment to the principal that sends the request, or ``None`` to look at its key.
        routes: the application's route templates, such as ``/chat/{id}``, or a function from the WSGI environment to the
            template (or to a ``Route``, which has a rule). What matches none is named ``unmatched``.

    Raises:
        SettingsError: naming the setting that is wrong.
    """

    def __init__(
        self,
        app: WSGIApp,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        gateway: Gateway | None = None,
        gate: Gate | None = None,
        key_store: KeyStore | None = None,
        identify: Identify | None = None,
        routes: Routes | None = None,
    ) -> None:
        self.app: WSGIApp = app
        self.installation: Installation = Installation.build(
            settings, gateway=gateway, gate=gate, key_store=key_store, identify=identify
        )
        """The gateway and the gate."""
        self._route_of = finder(routes, _path)
        self._guarded = RequestScopeMiddleware(self._admit)

    @property
    def gateway(self) -> Gateway:
        """The gateway through which the application's handlers call."""
        return self.installation.gateway

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        return self._guarded(environ, start_response)

    def _admit(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            route = self._route_of(environ)
            self.installation.admit(
                request_scope(environ),
                environ,
                headers_of(environ, self.installation.gate.key_header),
                route=route.template,
                method=environ["REQUEST_METHOD"],
                rule=route.rule,
            )
            return self.app(environ, start_response)
        except Exception as error:
            problem = problem_from(error)
            if problem is None:
                raise
            return _respond(problem, start_response)


def _respond(problem: Problem, start_response: StartResponse) -> list[bytes]:
    try:
        phrase = HTTPStatus(problem.status).phrase
    except ValueError:
        phrase = "Error"
    headers = {**problem.response_headers, "Content-Length": str(len(problem.body))}
    start_response(f"{problem.status} {phrase}", list(headers.items()))
    return [problem.body]


def _path(environ: Environ) -> str:
    # PEP 3333 hands the path's bytes on as Latin-1.
    raw: str = environ.get("PATH_INFO") or "/"
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")
