"""Attaching Turnpike to an application: settings, request scopes, admission, problem responses and commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import Flask

from turnpike.boundary import rules
from turnpike.boundary.admission import Gate
from turnpike.boundary.installation import Identify, Installation
from turnpike.boundary.keys import KeyStore
from turnpike.boundary.problem import Problem
from turnpike.boundary.wsgi import RequestScopeMiddleware
from turnpike.errors import ConfigurationError, TurnpikeError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike_flask.admission import admit, end_at_teardown, respond
from turnpike_flask.cli import commands
from turnpike_flask.config import settings_from

__all__ = ["Turnpike"]

HandlerT = TypeVar("HandlerT")


class Turnpike:
    """The Flask extension. It keeps nothing of an application, so that one object can serve any number of them.

    What it attaches is an ``Installation`` at ``app.extensions["turnpike"]``.

    Args:
        app: the application, unless ``init_app`` is called later.
        settings: ``Settings``, or a mapping over which ``app.config`` is laid, and over that the environment.
        gateway: a gateway of your own, which you close; one that is made here writes what is left at interpreter exit.
        gate: a gate of your own, for another quota store.
        key_store: where keys are looked up, instead of the settings' ``api_keys`` and ``key_file``.
        identify: from Flask's request to the principal that sends it, or ``None`` to look at its key; it may be
            ``async def``.

    Raises:
        ConfigurationError: see ``init_app``.
    """

    def __init__(
        self,
        app: Flask | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        gateway: Gateway | None = None,
        gate: Gate | None = None,
        key_store: KeyStore | None = None,
        identify: Identify | None = None,
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._gate = gate
        self._key_store = key_store
        self._identify = identify
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, settings: Settings | Mapping[str, Any] | None = None) -> None:
        """Attach Turnpike to ``app``, before it serves its first request.

        Every route of the application is guarded from then on, but for those that are exempt and Flask's own route of
        static files. Functions that ``identify`` relies on and that are registered with ``before_request`` must be
        registered before this is called.

        Args:
            app: the application, with its configuration read.
            settings: as for the class, instead of what that was given.

        Raises:
            ConfigurationError: if Turnpike is attached to ``app`` already.
            SettingsError: naming the setting that is wrong.
        """
        if "turnpike" in app.extensions:
            raise ConfigurationError(f"Turnpike is attached to the application '{app.name}' already. Attach it once.")
        app.extensions["turnpike"] = Installation.build(
            settings_from(app, self._settings if settings is None else settings),
            gateway=self._gateway,
            gate=self._gate,
            key_store=self._key_store,
            identify=self._identify and app.ensure_sync(self._identify),
        )
        app.wsgi_app = RequestScopeMiddleware(app.wsgi_app)  # type: ignore[method-assign]
        app.before_request(admit)
        app.teardown_request(end_at_teardown)
        app.register_error_handler(Problem, respond)
        app.register_error_handler(TurnpikeError, respond)
        app.cli.add_command(commands)

    @staticmethod
    def exempt(handler: HandlerT) -> HandlerT:
        """Let everyone use a view, a view class, one of its methods or a blueprint: ``turnpike_flask.exempt``."""
        return rules.exempt(handler)

    @staticmethod
    def limit(name: str) -> Callable[[HandlerT], HandlerT]:
        """Count requests against the limit ``name`` too, beside those that hold for all: ``turnpike_flask.limit``."""
        return rules.limit(name)

    @staticmethod
    def requires(*scopes: str) -> Callable[[HandlerT], HandlerT]:
        """Refuse principals that do not have all of ``scopes``: ``turnpike_flask.requires``."""
        return rules.requires(*scopes)
