"""The middleware in the midst of Django: views of all kinds, other middleware, streams, signals. What every stack does is
the contract's; this is what only Django has."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django", reason="needs django: install turnpike[django]")

# ruff: noqa: E402 - Django is set up before its models are imported.
from . import django_site

django_site.configure()

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.cache import cache
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.http import require_POST

from turnpike.boundary.problem import Problem
from turnpike.context import LLMRequestContext, current_binding
from turnpike.errors import InvalidRequestError, SettingsError
from turnpike.settings import Settings
from turnpike_django import exempt, gateway, limit, request_admitted, request_denied, requires
from turnpike_django.http import TurnpikeRequest
from turnpike_django.middleware import TurnpikeMiddleware
from turnpike_django.routes import rows

from .django_bench import ACME, BETA, OURS, Bench, ask, ask_async, copy_of, who

BOTH = pytest.mark.parametrize("kind", ["wsgi", "asgi"])


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gateway.close()


# ---------------------------------------------------------------------------------------------- what a view is known by


@BOTH
@pytest.mark.parametrize(
    ("pattern", "url", "template"),
    [
        (path("chat/<int:n>", ask), "/chat/7", "/chat/<int:n>"),
        (path("api/", include([path("chat/<slug:who>/", ask)])), "/api/chat/me/", "/api/chat/<slug:who>/"),
        (re_path(r"^chat/(?P<n>\d+)/$", ask), "/chat/7/", "/chat/<n>/"),
        (re_path(r"^a/", include([re_path(r"^b/(?:c-)?(?P<n>[a-z]+)$", ask)])), "/a/b/x", "/a/b/<n>"),
        (path("", ask), "/", "/"),
    ],
    ids=["path", "include", "re_path", "include-re_path", "root"],
)
def test_calls_are_recorded_under_the_template_of_the_url(
    bench: Bench, kind: str, pattern: Any, url: str, template: str
) -> None:
    with bench.project(pattern) as project:
        assert project.on(kind).request("GET", url, ACME).body == b"acme said so"
        assert [row.template for row in rows(Settings())] == [template]
    assert bench.asked == [("acme", template)]
    assert [envelope.route for envelope in bench.books.envelopes] == [template]


class Report(View):
    @exempt
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("free")

    @limit("chat")
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("counted")


@requires("reports:read")
class Guarded(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("scoped")


@method_decorator(exempt, name="dispatch")
class Open(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("open")


@BOTH
def test_marks_on_a_class_count_for_all_its_methods_and_marks_on_a_method_for_that_alone(
    bench: Bench, kind: str
) -> None:
    patterns = [path("report", Report.as_view()), path("guarded", Guarded.as_view()), path("open", Open.as_view())]
    with bench.project(*patterns) as project:
        server = project.on(kind)
        assert server.request("GET", "/report").body == b"free"
        assert server.request("HEAD", "/report").status == 200
        assert server.request("POST", "/report").status == 401
        first, second = (server.request("POST", "/report", BETA) for _ in range(2))
        assert (first.body, second.status) == (b"counted", 429)
        assert server.request("GET", "/guarded", ACME).body == b"scoped"
        assert server.request("GET", "/guarded", BETA).status == 403
        assert server.request("GET", "/open").body == b"open"
        found = {(row.template, row.methods): row for row in rows(Settings())}
    assert found["/report", ("POST",)].rule.limits == ("chat",)
    assert found["/report", ("GET",)].rule.exempt
    assert found["/guarded", ("GET",)].rule.scopes == ("reports:read",)


@BOTH
def test_marks_stand_above_and_below_other_decorators(bench: Bench, kind: str) -> None:
    patterns = [path("above", exempt(require_POST(copy_of(who)))), path("below", require_POST(exempt(copy_of(who))))]
    with bench.project(*patterns) as project:
        for url in ("/above", "/below"):
            assert project.on(kind).request("POST", url).json() == {"tenant": None, "caller": None}


@BOTH
def test_an_entry_with_an_asterisk_exempts_what_begins_like_it(bench: Bench, kind: str) -> None:
    patterns = [path("admin/", include([path("", who), path("<int:n>", who)])), path("adm", who)]
    with bench.project(*patterns, turnpike={"EXEMPT": ["/admin/*"]}) as project:
        server = project.on(kind)
        assert server.request("GET", "/admin/").status == 200
        assert server.request("GET", "/admin/7").status == 200
        assert server.request("GET", "/adm").status == 401


@BOTH
def test_urls_that_lead_nowhere_and_redirects_need_no_key(bench: Bench, kind: str) -> None:
    middleware = ["django.middleware.common.CommonMiddleware", OURS]
    with bench.project(path("slash/", who), MIDDLEWARE=middleware) as project:
        server = project.on(kind)
        assert server.request("GET", "/nowhere").status == 404
        moved = server.request("GET", "/slash")
        assert (moved.status, moved.header("location")) == (301, "/slash/")
        assert server.request("GET", "/slash/").status == 401


class OtherUrls:
    """Middleware that serves some hosts from other URLs, as multi-tenant sites do."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.inner = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        request.urlconf = other_urls  # type: ignore[assignment]
        return self.inner(request)


other_urls: Any = (path("there", ask),)


@BOTH
@pytest.mark.parametrize("order", [0, 1])
def test_the_view_of_another_urlconf_is_the_one_that_counts(bench: Bench, kind: str, order: int) -> None:
    middleware = [OURS]
    middleware.insert(order, f"{__name__}.OtherUrls")
    with bench.project(path("here", exempt(copy_of(ask))), MIDDLEWARE=middleware) as project:
        server = project.on(kind)
        assert server.request("GET", "/there").status == 401
        assert server.request("GET", "/there", ACME).status == 200
        assert server.request("GET", "/here").status == 404
    assert bench.asked == [("acme", "/there")]


# -------------------------------------------------------------------------------------------------- other middleware

seen: list[Any] = []


def watching(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Plain middleware, as most projects have some: it cannot run on an event loop."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        binding = current_binding()
        turnpike = getattr(request, "turnpike", None)
        seen.append((binding and binding.context.tenant_id, turnpike and turnpike.tenant_id))
        return response

    return middleware


@pytest.mark.parametrize("view", [ask, ask_async])
@pytest.mark.parametrize("order", ["outside", "inside"])
@BOTH
def test_middleware_that_knows_no_async_stands_on_either_side(bench: Bench, kind: str, order: str, view: Any) -> None:
    seen.clear()
    middleware = [f"{__name__}.watching", OURS] if order == "outside" else [OURS, f"{__name__}.watching"]
    with bench.project(path("ask", view), path("who", who), MIDDLEWARE=middleware) as project:
        server = project.on(kind)
        assert server.request("GET", "/ask", ACME).body == b"acme said so"
        assert server.request("GET", "/who", BETA).json() == {"tenant": "beta", "caller": None}
        assert server.request("GET", "/who").status == 401
    inside = order == "inside"
    # Outside nobody is bound any more; the request itself still says who has asked.
    assert seen == [("acme" if inside else None, "acme"), ("beta" if inside else None, "beta"), (None, None)]


@BOTH
def test_answers_may_be_cached_by_django(bench: Bench, kind: str) -> None:
    middleware = [
        "django.middleware.cache.UpdateCacheMiddleware",
        OURS,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    cache.clear()
    with bench.project(path("ask", ask), MIDDLEWARE=middleware, CACHE_MIDDLEWARE_SECONDS=60) as project:
        server = project.on(kind)
        assert [server.request("GET", "/ask", ACME).body for _ in range(2)] == [b"acme said so"] * 2
    assert len(bench.asked) == 1
    cache.clear()


def test_wrong_settings_stop_the_server_before_it_serves() -> None:
    for load in (WSGIHandler, ASGIHandler):
        with (
            override_settings(TURNPIKE={"RATE_LIMITS": "1/minute"}),
            pytest.raises(SettingsError, match="Did you mean 'rate_limit'"),
        ):
            load()


# ------------------------------------------------------------------------------------------------------------- errors


def refuse(request: HttpRequest) -> HttpResponse:
    raise InvalidRequestError("no such thing")


async def refuse_async(request: HttpRequest) -> HttpResponse:
    raise Problem(422, "Unprocessable content", "no such thing")


class _Lazy(TemplateResponse):
    @property
    def rendered_content(self) -> Any:
        raise InvalidRequestError("no such thing")


def refuse_in_template(request: HttpRequest) -> HttpResponse:
    return _Lazy(request, "none")


@BOTH
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("view", "status"), [(refuse, 400), (refuse_async, 422), (refuse_in_template, 400)])
def test_what_a_view_raises_of_turnpikes_is_a_problem(
    bench: Bench, kind: str, debug: bool, view: Any, status: int
) -> None:
    with bench.project(path("x", view), DEBUG=debug) as project:
        response = project.on(kind).request("GET", "/x", ACME)
    assert (response.status, response.header("content-type")) == (status, "application/problem+json")
    assert response.header("ratelimit-policy") == '"default";q=1000;w=60'
    assert response.json()["detail"] == "no such thing"


@BOTH
def test_what_is_djangos_stays_djangos(bench: Bench, kind: str) -> None:
    def missing(request: HttpRequest) -> HttpResponse:
        raise Http404

    with bench.project(path("missing", missing)) as project:
        response = project.on(kind).request("GET", "/missing", ACME)
    assert (response.status, response.header("content-type")) == (404, "text/html; charset=utf-8")
    assert response.header("ratelimit") is not None


# ------------------------------------------------------------------------------------------------------------ streams

LONG = 200


def _stream(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(_pieces())


def _pieces() -> Iterator[bytes]:
    stream = gateway.stream_sync("hi", tier="cheap")
    try:
        for chunk in stream:
            yield chunk.delta.encode()
    finally:
        closed.append(_tenant())


async def _stream_async(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(_pieces_async())


async def _pieces_async() -> AsyncIterator[bytes]:
    stream = gateway.stream("hi", tier="cheap")
    try:
        async for chunk in stream:
            yield chunk.delta.encode()
    finally:
        closed.append(_tenant())


closed: list[str | None] = []


def _tenant() -> str | None:
    binding = current_binding()
    return None if binding is None else binding.context.tenant_id


@pytest.mark.parametrize(("kind", "view"), [("wsgi", _stream), ("asgi", _stream), ("asgi", _stream_async)])
def test_a_body_whose_client_leaves_is_closed_with_its_identity_bound(bench: Bench, kind: str, view: Any) -> None:
    closed.clear()
    with bench.project(path("stream", view)) as project, bench.provider.hold() as held:
        held.release(1)
        with project.on(kind).stream("GET", "/stream", ACME) as streamed:
            assert streamed.read() == b"acme "
            streamed.leave()
            with suppress(TimeoutError):
                bench.books.wait_for(1, timeout_s=0.2)
            held.open()
            streamed.result()
    [envelope] = bench.books.wait_for(1)
    assert (envelope.tenant_id, envelope.finish_reason) == ("acme", "client_disconnected")
    assert closed == ["acme"]


@pytest.mark.parametrize("view", [_stream, _stream_async])
def test_without_turnpikes_asgi_application_the_call_of_a_client_that_leaves_is_ended_too(
    bench: Bench, view: Any
) -> None:
    closed.clear()
    with bench.project(path("stream", view)) as project, bench.provider.hold() as held:
        held.release(1)
        with project.asgi(ASGIHandler).stream("GET", "/stream", ACME) as streamed:
            assert streamed.read() == b"acme "
            streamed.leave()
            with suppress(TimeoutError):
                bench.books.wait_for(1, timeout_s=0.2)
            held.open()
            streamed.result()
    [envelope] = bench.books.wait_for(1)
    assert (envelope.tenant_id, envelope.status) == ("acme", "cancelled")
    assert closed == ["acme"]


@BOTH
def test_a_plain_stream_is_sent_piece_by_piece_by_both(bench: Bench, kind: str) -> None:
    with bench.project(path("stream", _stream)) as project, bench.provider.hold() as held:
        held.release(1)
        with project.on(kind).stream("GET", "/stream", ACME) as streamed:
            assert streamed.read() == b"acme "
            held.open()
            assert streamed.rest() == b"said so"


def test_a_file_is_left_to_the_servers_own_way_of_sending_it(bench: Bench, tmp_path: Path) -> None:
    served = tmp_path / "file.txt"
    served.write_bytes(b"contents")
    with bench.project(path("file", lambda request: FileResponse(served.open("rb")))):
        sent: list[Any] = []

        def wrapper(file: Any, block_size: int) -> list[bytes]:
            sent.append(file)
            return [file.read()]

        environ = RequestFactory().get("/file", HTTP_X_API_KEY="k-acme").environ
        heads: list[Any] = []
        body = WSGIHandler()({**environ, "wsgi.file_wrapper": wrapper}, lambda *head: heads.append(head))
        assert body == [b"contents"]
        sent[0].close()
    assert "RateLimit" in dict(heads[0][1])


def test_a_file_like_object_is_sent_by_asgi(bench: Bench) -> None:
    with bench.project(path("file", lambda request: FileResponse(io.BytesIO(b"contents")))) as project:
        with pytest.warns(Warning, match="must consume synchronous iterators"):
            response = project.asgi().request("GET", "/file", ACME)
        assert response.body == b"contents"


# ------------------------------------------------------------------------------------------------------------ signals


@BOTH
def test_signals_tell_who_was_admitted_and_what_was_denied(bench: Bench, kind: str) -> None:
    told: list[Any] = []

    def admitted(sender: Any, request: Any, admission: Any, **_: Any) -> None:
        told.append((sender, request.path, admission.principal.tenant))

    async def denied(sender: Any, request: Any, problem: Any, **_: Any) -> None:
        told.append((sender, request.path, problem.status))

    def broken(**_: Any) -> None:
        raise ZeroDivisionError

    request_admitted.connect(admitted)
    request_admitted.connect(broken)
    request_denied.connect(denied)
    try:
        with bench.project(path("ask", ask), path("open", exempt(copy_of(who)))) as project:
            server = project.on(kind)
            assert server.request("GET", "/ask", ACME).status == 200
            assert server.request("GET", "/ask").status == 401
            assert server.request("GET", "/open", ACME).status == 200
            assert server.request("OPTIONS", "/ask").status == 401  # the view's own call is refused: nobody could pay
    finally:
        request_admitted.disconnect(admitted)
        request_admitted.disconnect(broken)
        request_denied.disconnect(denied)
    assert told == [(TurnpikeMiddleware, "/ask", "acme"), (TurnpikeMiddleware, "/ask", 401)]


# ------------------------------------------------------------------------------------------------- Django's test tools


def test_djangos_test_client_needs_nothing_special(bench: Bench) -> None:
    with bench.project(path("ask", ask), path("stream", _stream)):
        client = Client()
        assert client.get("/ask").status_code == 401
        response = client.get("/ask", headers={"x-api-key": "k-acme"})
        assert (response.content, response.headers["RateLimit-Policy"]) == (b"acme said so", '"default";q=1000;w=60')
        streamed = client.get("/stream", headers={"x-api-key": "k-acme"})
        assert b"".join(streamed.streaming_content) == b"acme said so"  # type: ignore[attr-defined]
    assert current_binding() is None


def test_without_django_the_package_says_what_to_install() -> None:
    code = "import sys; sys.modules['django'] = None; import turnpike_django"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "pip install 'turnpike[django]'" in done.stderr


def test_a_view_called_by_hand_reads_what_the_test_puts_there() -> None:
    def view(request: TurnpikeRequest) -> HttpResponse:
        return HttpResponse(request.turnpike.tenant_id)

    request: Any = RequestFactory().get("/")
    request.turnpike = LLMRequestContext(tenant_id="acme")
    assert view(request).content == b"acme"
