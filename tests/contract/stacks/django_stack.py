"""Django under WSGI and under ASGI, with plain views and with ``async def`` views."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import override_settings
from django.urls import path
from django.views.decorators.http import require_http_methods

from turnpike.testing.contract import OWN_HEADER, STREAM_MEDIA_TYPE, Call, ContractSetup, Feature, Route, Stack
from turnpike_django import exempt, gateway, limit, requires
from turnpike_django.asgi import get_asgi_application


def _load_site() -> Any:
    """Load the one Django configuration of this process, wherever this file was loaded from."""
    name = "turnpike_django_site"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, Path(__file__).parents[2] / "integrations" / "django_site.py"
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


View = Callable[..., Any]


def _call_of(request: HttpRequest, number: int | None) -> Call:
    return Call(gateway, request.turnpike, number)  # type: ignore[attr-defined]


def _answered(route: Route, answer: dict[str, Any]) -> HttpResponse:
    if route.kind == "response":
        return JsonResponse(answer, status=201, headers=dict([OWN_HEADER]))
    return JsonResponse(answer)


def _sync_view(route: Route) -> View:
    def answer(request: HttpRequest, number: int | None = None) -> HttpResponseBase:
        return _answered(route, route.answer_sync(_call_of(request, number)))

    def stream(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(route.body_sync(_call_of(request, None)), content_type=STREAM_MEDIA_TYPE)

    return stream if route.kind == "stream" else answer


def _async_view(route: Route) -> View:
    async def answer(request: HttpRequest, number: int | None = None) -> HttpResponseBase:
        return _answered(route, await route.answer(_call_of(request, number)))

    async def stream(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(route.body(_call_of(request, None)), content_type=STREAM_MEDIA_TYPE)

    return stream if route.kind == "stream" else answer


def _async_view_under_wsgi(route: Route) -> View:
    # WSGI asks for the pieces of a body one by one, which only a plain iterator has.
    return _sync_view(route) if route.kind == "stream" else _async_view(route)


def _urls(setup: ContractSetup, view_of: Callable[[Route], View]) -> ModuleType:
    urls = ModuleType("turnpike_django_contract_urls")
    patterns = []
    for route in setup.routes:
        if route.kind == "websocket":
            continue
        view = require_http_methods([route.method])(view_of(route))
        view = route.mark(view, exempt=exempt, limit=limit, requires=requires)
        patterns.append(path(route.path.removeprefix("/").replace("{number}", "<int:number>"), view))
    urls.urlpatterns = patterns  # type: ignore[attr-defined]
    return urls


def _settings(setup: ContractSetup) -> dict[str, Any]:
    written = {**setup.settings, "GATEWAY": setup.gateway, "GATE": setup.gate}
    if (identify := setup.identify) is not None:
        written["IDENTIFY"] = lambda request: identify(request.headers.get(setup.session_header))
    return written


def _build(setup: ContractSetup, view_of: Callable[[Route], View], application: Callable[[], Any]) -> Any:
    _load_site().configure()
    own = override_settings(ROOT_URLCONF=_urls(setup, view_of), TURNPIKE=_settings(setup))
    setup.resources.enter_context(own)
    return application()


def _wsgi(view_of: Callable[[Route], View]) -> Callable[[ContractSetup], Any]:
    return lambda setup: _build(setup, view_of, WSGIHandler)


def _asgi(view_of: Callable[[Route], View]) -> Callable[[ContractSetup], Any]:
    return lambda setup: _build(setup, view_of, get_asgi_application)


_TEMPLATES = {"/call/{number}": "/call/<int:number>"}
_LACKS = {
    Feature.BACKGROUND: "Django runs nothing of a view's own after the response",
    Feature.WEBSOCKETS: "Django has no WebSockets",
}
_NO_LOOP = {Feature.TASKS: "a plain view runs in a thread without an event loop"}

STACKS = (
    Stack(name="django-wsgi-sync", kind="wsgi", build=_wsgi(_sync_view), templates=_TEMPLATES, lacks=_LACKS),
    Stack(
        name="django-wsgi-async",
        kind="wsgi",
        build=_wsgi(_async_view_under_wsgi),
        templates=_TEMPLATES,
        lacks=_LACKS,
    ),
    Stack(
        name="django-asgi-sync",
        kind="asgi",
        build=_asgi(_sync_view),
        templates=_TEMPLATES,
        lacks={**_LACKS, **_NO_LOOP},
    ),
    Stack(name="django-asgi-async", kind="asgi", build=_asgi(_async_view), templates=_TEMPLATES, lacks=_LACKS),
)
