"""The WSGI middleware: one scope and one context for each request, to the close of its body."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from turnpike.boundary.admission import Admission
from turnpike.boundary.scope import ABANDONED, CLIENT_DISCONNECTED, REQUEST_FAILED
from turnpike.boundary.wsgi import RequestScopeMiddleware, headers_of, request_scope
from turnpike.context import LLMRequestContext, bind, current_context
from turnpike.errors import ConfigurationError

ADMISSION = Admission(None, LLMRequestContext(tenant_id="acme"), "/a", {"RateLimit": '"default";r=1;t=60'})


class FakeStream:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def finish(self, reason: str, /) -> None:
        self.reasons.append(reason)


class Responses:
    """A server's `start_response`."""

    def __init__(self) -> None:
        self.started: list[tuple[str, list[tuple[str, str]]]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.started.append((status, headers))


def tenant() -> str | None:
    context = current_context(None)
    return None if context is None else context.tenant_id


def serve(app: Any, environ: dict[str, Any] | None = None) -> tuple[Iterable[bytes], Responses]:
    responses = Responses()
    return RequestScopeMiddleware(app)({} if environ is None else environ, responses), responses


def test_the_quota_is_announced_with_the_status() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        request_scope(environ).begin(ADMISSION)
        start_response("200 OK", [("ratelimit-policy", "own")])
        return [b"x"]

    body, responses = serve(app)
    assert body == [b"x"]  # a list stays one: servers tell the length from it
    assert responses.started == [("200 OK", [("ratelimit-policy", "own"), ("RateLimit", '"default";r=1;t=60')])]


def test_a_body_that_starts_its_response_late_is_announced_too() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        request_scope(environ).begin(ADMISSION)
        start_response("200 OK", [])
        yield b"x"

    body, responses = serve(app)
    assert responses.started == []
    assert list(body) == [b"x"]
    assert responses.started == [("200 OK", [("RateLimit", '"default";r=1;t=60')])]


def test_every_step_of_a_body_has_the_identity_and_the_server_never_does() -> None:
    seen: list[str | None] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        request_scope(environ).begin(ADMISSION)
        start_response("200 OK", [])

        def body() -> Iterator[bytes]:
            try:
                for _ in range(2):
                    seen.append(tenant())
                    yield b"x"
            finally:
                seen.append(tenant())

        return body()

    body, _ = serve(app)
    seen.extend(tenant() for _ in body)
    body.close()  # type: ignore[attr-defined]
    assert seen == ["acme", None, "acme", None, "acme"]
    assert tenant() is None


def test_nothing_that_is_bound_around_the_server_is_the_requests() -> None:
    seen: list[str | None] = []

    def app(_environ: Any, _start_response: Any) -> Iterable[bytes]:
        seen.append(tenant())
        return []

    with bind(LLMRequestContext(tenant_id="outer")):
        serve(app)
        assert tenant() == "outer"
    assert seen == [None]


def streaming(stream: FakeStream, *, fail: bool = False) -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        scope = request_scope(environ)
        scope.begin(ADMISSION)
        scope.add(stream)
        start_response("200 OK", [])

        def body() -> Iterator[bytes]:
            yield b"one"
            if fail:
                raise RuntimeError("broken")
            yield b"two"

        return body()

    return app


def test_a_body_that_is_read_to_its_end_was_complete() -> None:
    stream = FakeStream()
    body, _ = serve(streaming(stream))
    assert list(body) == [b"one", b"two"]
    assert stream.reasons == []
    body.close()  # type: ignore[attr-defined]
    body.close()  # type: ignore[attr-defined]
    assert stream.reasons == [ABANDONED]


def test_a_body_that_is_closed_before_its_end_lost_its_client() -> None:
    stream = FakeStream()
    body, _ = serve(streaming(stream))
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    assert stream.reasons == [CLIENT_DISCONNECTED]


def test_a_body_that_was_never_begun_can_be_closed_from_another_thread() -> None:
    stream = FakeStream()
    body, _ = serve(streaming(stream))
    thread = threading.Thread(target=body.close)  # type: ignore[attr-defined]
    thread.start()
    thread.join()
    assert stream.reasons == [CLIENT_DISCONNECTED]


def test_a_body_that_raises_has_failed() -> None:
    stream = FakeStream()
    body, _ = serve(streaming(stream, fail=True))
    with pytest.raises(RuntimeError, match="broken"):
        list(body)
    body.close()  # type: ignore[attr-defined]
    assert stream.reasons == [REQUEST_FAILED]


def test_a_stream_that_dies_with_the_body_can_tell_why() -> None:
    told: list[str | None] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        scope = request_scope(environ)
        start_response("200 OK", [])

        def body() -> Iterator[bytes]:
            try:
                yield b"one"
            finally:
                told.append(scope.end_reason)

        return body()

    body, _ = serve(app)
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    assert told == [CLIENT_DISCONNECTED]


def test_an_application_that_raises_has_failed() -> None:
    stream = FakeStream()

    def app(environ: Any, _start_response: Any) -> Iterable[bytes]:
        request_scope(environ).add(stream)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        serve(app)
    assert stream.reasons == [REQUEST_FAILED]


def test_a_mounted_application_shares_the_outer_requests_scope() -> None:
    scopes: list[Any] = []

    def inner(environ: Any, _start_response: Any) -> Iterable[bytes]:
        scopes.append(request_scope(environ))
        return []

    def outer(environ: Any, start_response: Any) -> Iterable[bytes]:
        scopes.append(request_scope(environ))
        return RequestScopeMiddleware(inner)(environ, start_response)

    serve(outer)
    assert scopes[0] is scopes[1]


def test_headers_are_those_of_the_environment() -> None:
    environ = {"HTTP_X_API_KEY": "k", "CONTENT_TYPE": "text/plain", "PATH_INFO": "/", "wsgi.input": None}
    assert headers_of(environ) == [("X-API-KEY", "k"), ("CONTENT-TYPE", "text/plain")]
    assert headers_of(environ, "X-API-Key") == [("X-API-Key", "k")]
    assert headers_of(environ, "Content-Type") == [("Content-Type", "text/plain")]
    assert headers_of(environ, "Authorization") == []


def test_a_request_outside_the_middleware_says_so() -> None:
    with pytest.raises(ConfigurationError, match="did not come through"):
        request_scope({})
