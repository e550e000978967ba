"""The plugin: what ``Litestar(plugins=[TurnpikePlugin(settings)])`` adds to an application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from click import Group
from litestar.config.app import AppConfig
from litestar.connection import Request
from litestar.di import Provide
from litestar.plugins import CLIPlugin, InitPlugin
from litestar.plugins.base import ReceiveRoutePlugin
from litestar.response import Response
from litestar.routes.base import BaseRoute

from turnpike.boundary.admission import Gate
from turnpike.boundary.installation import Identify, Installation
from turnpike.boundary.keys import KeyStore
from turnpike.boundary.problem import Problem, problem_from
from turnpike.boundary.route_table import unknown_limits
from turnpike.boundary.rules import NO_RULE, rule_of
from turnpike.context import LLMRequestContext, current_context
from turnpike.errors import ConfigurationError, TurnpikeError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike_litestar.dependencies import DepContext, DepGateway
from turnpike_litestar.middleware import ROW, TurnpikeMiddleware, note_error
from turnpike_litestar.openapi import document_key, document_route
from turnpike_litestar.rules import handlers_of, row_of

__all__ = ["TurnpikePlugin"]


class TurnpikePlugin(InitPlugin, CLIPlugin, ReceiveRoutePlugin):
    """Guards every route of an application, and gives its handlers ``gateway`` and ``llm_context``.

    Routes are opened by ``@exempt``, by ``opt={"turnpike_exempt": True}`` or by ``exempt`` in the settings; the pages of the
    OpenAPI document are open. Dependencies, exception handlers and names that the application has itself are left to it.

    Args:
        settings: ``Settings``, or a mapping over which the environment is laid; by default the given gateway's, or else
            the environment alone.
        gateway: a gateway of your own, which you close; one that is made here is closed at the application's shutdown.
        gate: a gate of your own, for another quota store.
        key_store: where keys are looked up, instead of the settings' ``api_keys`` and ``key_file``.
        identify: from the ``ASGIConnection`` to the principal that sends it, or ``None`` to look at its key. It may be a
            coroutine function. It runs inside the application's own middleware, so ``connection.user`` is there.

    Raises:
        ConfigurationError: if both ``gate`` and ``key_store`` are given; and where the application is made, if a route
            names a limit that the settings do not have, has a wrong ``opt`` flag, or contradicts itself.
        SettingsError: naming the setting that is wrong.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        gateway: Gateway | None = None,
        gate: Gate | None = None,
        key_store: KeyStore | None = None,
        identify: Identify | None = None,
    ) -> None:
        self.installation: Installation = Installation.build(
            settings, gateway=gateway, gate=gate, key_store=key_store, identify=identify
        )
        """The gateway and the gate."""

    @property
    def gateway(self) -> Gateway:
        """The gateway through which the application's handlers call: ``app.plugins.get(TurnpikePlugin).gateway``."""
        return self.installation.gateway

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add middleware, dependencies, exception handlers, the security scheme and the gateway's end."""
        app_config.middleware.append(TurnpikeMiddleware(self.installation))
        app_config.dependencies = {
            "gateway": Provide(self._provide_gateway, sync_to_thread=False),
            "llm_context": Provide(_provide_context, sync_to_thread=False),
            **app_config.dependencies,
        }
        app_config.exception_handlers = {Problem: _respond, TurnpikeError: _respond, **app_config.exception_handlers}
        app_config.after_exception.append(note_error)
        app_config.signature_namespace = {**_NAMES, **app_config.signature_namespace}
        if app_config.openapi_config is not None:
            app_config.openapi_config = document_key(
                app_config.openapi_config,
                self.installation.gate,
                # A guard of the application's holds for its pages too, and there is nobody on exempt routes to pass it.
                opens_pages=all(rule_of(guard) == NO_RULE for guard in app_config.guards),
            )
        # Last, because the application's own shutdown may still want to make a call.
        app_config.on_shutdown.append(self.installation.aclose)
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Take note of what a new route says of itself, and check it.

        Raises:
            ConfigurationError: if the route names a limit that the settings do not have, has a wrong ``opt`` flag, or
                contradicts itself.
        """
        gate = self.installation.gate
        for handler in handlers_of(route):
            row = row_of(route, handler)
            for template, name in unknown_limits([row], gate):
                raise ConfigurationError(
                    f"Route '{template}' names the limit '{name}', which the settings do not have. Write it there: "
                    f'limits: {{"{name}": "10/minute"}}.'
                )
            handler.opt[ROW] = row
            document_route(handler, row, gate)

    def on_cli_init(self, cli: Group) -> None:
        """Add ``litestar turnpike routes`` and ``litestar turnpike keys``."""
        from turnpike_litestar.cli import add_commands

        add_commands(cli, self.installation)

    def _provide_gateway(self) -> Gateway:
        return self.installation.gateway


# Not Gateway: a module's own class of that name would be shadowed, because Litestar looks here before it looks there.
_NAMES = {"DepContext": DepContext, "DepGateway": DepGateway, "LLMRequestContext": LLMRequestContext}


def _provide_context() -> LLMRequestContext:
    return current_context()


def _respond(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    problem = problem_from(error)
    assert problem is not None
    headers = problem.response_headers
    return Response(problem.body, status_code=problem.status, headers=headers, media_type=headers["Content-Type"])
