"""What the Django tests work with: the one configured site, a gateway over a provider that notes who asks, and servers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings

from turnpike.gateway.client import Gateway
from turnpike.testing.contract.books import Books
from turnpike.testing.contract.transports import ASGITransport, WSGITransport
from turnpike.testing.fake_provider import FakeAnswer, FakeProvider, FakeRequest
from turnpike_django import gateway
from turnpike_django.asgi import get_asgi_application

OURS = "turnpike_django.middleware.TurnpikeMiddleware"
KEYS = [
    {"key": "k-acme", "tenant": "acme", "caller": "web", "scopes": ["reports:read"]},
    {"key": "k-beta", "tenant": "beta"},
]
SETTINGS: Mapping[str, Any] = {
    "api_keys": KEYS,
    "providers": {"openai": {}},
    "tiers": {"cheap": "gpt-4o-mini"},
    "limits": {"chat": "1/minute"},
    "rate_limit": "1000/minute",
}
Lines = Sequence[tuple[bytes, bytes]]
ACME: Lines = [(b"X-API-Key", b"k-acme")]
BETA: Lines = [(b"X-API-Key", b"k-beta")]

_numbers = itertools.count()


def whoever_asks(request: FakeRequest) -> FakeAnswer:
    return FakeAnswer(chunks=(f"{request.context.tenant_id} ", "said so"))


class Bench:
    """A gateway with its provider and its ledger, and projects around it."""

    def __init__(self) -> None:
        self.books = Books()
        self.provider = FakeProvider(whoever_asks)
        self.gateway = Gateway({**SETTINGS, "api_keys": []}, ledger=self.books)
        self.gateway.register_provider("openai", self.provider)

    @contextmanager
    def project(self, *patterns: Any, turnpike: Mapping[str, Any] | None = None, **settings: Any) -> Iterator[Project]:
        """A project of these URL patterns; ``turnpike`` is laid over the ordinary ``TURNPIKE``."""
        written = {**SETTINGS, "GATEWAY": self.gateway, **(turnpike or {})}
        with ExitStack() as stack:
            stack.enter_context(override_settings(ROOT_URLCONF=urls(*patterns), TURNPIKE=written, **settings))
            yield Project(stack)

    @property
    def asked(self) -> list[tuple[str | None, str | None]]:
        """Tenant and route of each request that has reached the provider."""
        return [(request.context.tenant_id, request.route) for request in self.provider.requests]


class Project:
    """The project, on servers of this process."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def wsgi(self) -> WSGITransport:
        return WSGITransport(WSGIHandler())

    def asgi(self, make: Callable[[], Any] = get_asgi_application) -> ASGITransport:
        transport = ASGITransport(make())
        self._stack.callback(transport.close)
        return transport

    def on(self, kind: str) -> WSGITransport | ASGITransport:
        return self.wsgi() if kind == "wsgi" else self.asgi()


def urls(*patterns: Any) -> Any:
    """A module of URL patterns, as ROOT_URLCONF takes it."""
    module = ModuleType(f"urls_{next(_numbers)}")
    module.urlpatterns = list(patterns)  # type: ignore[attr-defined]
    return module


def ask(request: HttpRequest, **_: Any) -> HttpResponse:
    """A view that makes one call."""
    return HttpResponse(gateway.call_sync("hi", tier="cheap").text)


async def ask_async(request: HttpRequest, **_: Any) -> HttpResponse:
    """A view that makes one call on the event loop."""
    return HttpResponse((await gateway.call("hi", tier="cheap")).text)


def who(request: HttpRequest, **_: Any) -> JsonResponse:
    """A view that says who is asking."""
    return JsonResponse({"tenant": request.turnpike.tenant_id, "caller": request.turnpike.caller_id})  # type: ignore[attr-defined]


def copy_of(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A view of its own that does the same, so that marks on it are not those of ``view``."""
    return lambda request, **found: view(request, **found)
