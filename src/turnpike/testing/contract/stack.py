"""What is put to the test: a stack (a framework, an adapter, a style of handlers) that serves the contract's small service.

Nothing here imports a framework. A stack describes itself and builds one application for each case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from turnpike.boundary.admission import Gate
from turnpike.boundary.keys import Principal
from turnpike.gateway.client import Gateway
from turnpike.testing.contract.service import ROUTES, SESSION_HEADER, Route

__all__ = ["ContractSetup", "Feature", "Stack"]


class Feature(StrEnum):
    """What not every stack can have. A case that needs one is shown as ``n/a`` where it is missing, with the reason."""

    WEBSOCKETS = "websockets"
    """The stack serves the service's WebSocket route."""
    BACKGROUND = "background"
    """The framework itself runs work after the response has been sent (``BackgroundTasks`` and the like)."""
    TASKS = "tasks"
    """Handlers run on an event loop that goes on after the request, so that a task can outlive it."""
    PUSHED_BODIES = "pushed bodies"
    """The server is told, or notices by itself, that a client has left while the application waits (ASGI)."""


_OF_WSGI = MappingProxyType(
    {
        Feature.WEBSOCKETS: "WSGI has no WebSockets",
        Feature.TASKS: "no event loop outlives a WSGI request",
        Feature.PUSHED_BODIES: "a WSGI server asks for each piece of a body, and closes it between two",
    }
)


@dataclass(frozen=True, kw_only=True)
class ContractSetup:
    """What one application of the contract service is built from.

    Attributes:
        settings: the settings as an operator writes them, for adapters that read a mapping (Django's ``TURNPIKE``). The
            gateway and the gate have been made from the same ones.
        gateway: the gateway that handlers are to reach in the framework's own way.
        gate: the gate that admits requests. It has a clock, and in some cases a quota store, that the case controls.
        identify: present in the cases about identities of the application's own: wire it as the adapter's ``identify``,
            and hand it the value of the request's ``X-Contract-Session`` header or ``None``.
        routes: what to serve.
        resources: closed when the case is over. Enter what has to be undone, such as overridden settings.
    """

    settings: Mapping[str, Any]
    gateway: Gateway
    gate: Gate
    identify: Callable[[str | None], Principal | None] | None = None
    routes: tuple[Route, ...] = ROUTES
    resources: ExitStack = field(default_factory=ExitStack)

    @property
    def session_header(self) -> str:
        """Name of the header whose value ``identify`` takes."""
        return SESSION_HEADER


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """A stack that claims to keep the contract.

    Attributes:
        name: how the table calls it, such as ``fastapi-async``.
        kind: which kind of application ``build`` returns.
        build: makes an application that serves ``setup.routes``. It is called for each case; the application is thrown
            away afterwards, and ``setup.resources`` is closed.
        templates: route templates as this stack writes them, by the contract's own (``/call/{number}``); those that are
            not listed are the same.
        lacks: the features that the stack does not have, each with the reason that the table shows.
    """

    name: str
    kind: Literal["asgi", "wsgi"]
    build: Callable[[ContractSetup], Any]
    templates: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[Feature, str] = field(default_factory=dict)

    def template(self, path: str) -> str:
        """Return the template of the contract's route ``path`` as this stack reports it and its users write it."""
        return self.templates.get(path, path)

    def why_not(self, feature: Feature) -> str | None:
        """Return why the stack lacks ``feature``, or ``None`` if it has it."""
        if feature in self.lacks:
            return self.lacks[feature]
        return _OF_WSGI.get(feature) if self.kind == "wsgi" else None
