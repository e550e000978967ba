"""The Flask adapter while a request is served: who is bound where, in views, threads and streamed bodies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("flask", reason="needs flask: install turnpike[flask]")

from flask import (
    Blueprint,
    Flask,
    Response,
    after_this_request,
    copy_current_request_context,
    request,
    stream_with_context,
)
from flask.views import MethodView
from werkzeug.test import create_environ, run_wsgi_app

from turnpike.context import bind, current_binding, propagate
from turnpike.errors import InvalidRequestError, ProviderRateLimitError, UnattributedError
from turnpike_flask import context, gateway

from .flask_service import ACME, BETA, Service


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def app(service: Service) -> Flask:
    return service.app


def ask() -> str:
    return gateway.call_sync("hi", tier="cheap").text


# ------------------------------------------------------------------------------------------------------- views


def test_views_reach_the_gateway_and_the_identity_of_the_key(app: Flask, service: Service) -> None:
    @app.post("/chat/<int:number>")
    def chat(number: int) -> dict[str, Any]:
        return {"text": ask(), "number": number, "who": [context.tenant_id, context.caller_id]}

    answer = service.client().post("/chat/7").json
    assert answer == {"text": "One two three.", "number": 7, "who": ["acme", "web"]}
    (line,) = service.ledger.read
    assert (line["tenant_id"], line["caller_id"], line["route"]) == ("acme", "web", "/chat/<int:number>")


def test_the_identity_is_gone_when_the_request_is_over(app: Flask, service: Service) -> None:
    @app.post("/chat")
    def chat() -> dict[str, Any]:
        return {"tenant": context.tenant_id}

    client = service.client()
    assert [client.post("/chat").json, client.post("/chat", headers=BETA).json] == [
        {"tenant": "acme"},
        {"tenant": "beta"},
    ]
    assert current_binding() is None


def test_async_views_have_the_identity_and_may_await_the_gateway(app: Flask, service: Service) -> None:
    @app.post("/chat")
    async def chat() -> dict[str, Any]:
        first, second = await asyncio.gather(gateway.call("hi", tier="cheap"), gateway.call("ho", tier="cheap"))
        return {"tenant": context.tenant_id, "texts": [first.text, second.text]}

    for _ in range(3):  # each request runs in an event loop of its own
        assert service.client().post("/chat").json == {"tenant": "acme", "texts": ["One two three."] * 2}
    assert service.tenants == ["acme"] * 6


def test_class_based_views_have_the_identity(app: Flask, service: Service) -> None:
    class Chat(MethodView):
        def post(self) -> str:
            return ask()

        async def put(self) -> str:
            return (await gateway.call("hi", tier="cheap")).text

    app.add_url_rule("/chat", view_func=Chat.as_view("chat"))
    assert service.client().post("/chat").text == service.client(BETA).put("/chat").text == "One two three."
    assert service.tenants == ["acme", "beta"]


def test_what_a_view_binds_adds_to_the_identity_of_its_request(app: Flask, service: Service) -> None:
    @app.post("/chat")
    def chat() -> str:
        with bind(feature_id="search"):
            return f"{context.tenant_id} {context.feature_id} {ask()}"

    assert service.client().post("/chat").text == "acme search One two three."


def test_threads_have_identity_and_request_through_propagate(app: Flask, service: Service) -> None:
    @app.post("/chat")
    def chat() -> str:
        def work() -> str:
            return f"{context.tenant_id} {request.path} {ask()}"

        with ThreadPoolExecutor(2) as pool:
            return pool.submit(propagate(work)).result()

    assert service.client().post("/chat").text == "acme /chat One two three."


def test_one_thread_serves_many_tenants_without_mixing_them_up(app: Flask, service: Service) -> None:
    @app.post("/chat")
    def chat() -> str:
        return f"{context.tenant_id} {ask()}"

    @app.get("/open")
    @service.turnpike.exempt
    def nobody() -> str:
        return str(context.tenant_id)

    client = service.client({})
    seen = [
        client.open(path, method=method, headers=headers).text
        for path, method, headers in [("/chat", "POST", ACME), ("/open", "GET", {}), ("/chat", "POST", BETA)]
    ]
    assert seen == ["acme One two three.", "None", "beta One two three."]


def test_threads_that_serve_two_tenants_at_once_keep_them_apart() -> None:
    service = Service({"rate_limit": "1000/minute"})

    @service.app.post("/chat/<int:number>")
    def chat(number: int) -> list[Any]:
        return [number, context.tenant_id, ask(), context.tenant_id]

    barrier = threading.Barrier(4)

    def send(thread: int) -> list[Any]:
        client = service.client({})
        barrier.wait(10)
        numbers = range(thread * 25, thread * 25 + 25)
        return [client.post(f"/chat/{number}", headers=(ACME, BETA)[number % 2]).json for number in numbers]

    with ThreadPoolExecutor(4) as pool:
        answers = [answer for sent in pool.map(send, range(4)) for answer in sent]
    names = ("acme", "beta")
    assert answers == [[n, names[n % 2], "One two three.", names[n % 2]] for n in range(100)]


def test_outside_of_a_request_context_says_what_to_do(app: Flask) -> None:
    with pytest.raises(UnattributedError, match=r"turnpike\.bind\(tenant_id=\.\.\.\)"):
        _ = context.tenant_id
    with pytest.raises(RuntimeError, match="application context"):
        _ = gateway.settings
    with app.app_context():
        assert gateway.settings.tiers == {"cheap": "fake-model"}
    assert (repr(context), repr(gateway)) == ("<LocalProxy unbound>", "<LocalProxy unbound>")


# ----------------------------------------------------------------------------------------------- streamed bodies


def test_a_stream_that_the_view_opened_is_attributed_and_carries_the_quota(app: Flask, service: Service) -> None:
    @app.post("/stream")
    def stream() -> Response:
        return Response(gateway.stream_sync("hi", tier="cheap").sse(), mimetype="text/event-stream")

    with service.client().post("/stream") as response:
        assert '"finish_reason":"stop"' in response.text
        assert response.headers["RateLimit"] == '"default";r=59;t=60'
        assert response.content_type.startswith("text/event-stream")
    (line,) = service.ledger.read
    assert (line["tenant_id"], line["route"], line["status"]) == ("acme", "/stream", "success")


@pytest.mark.parametrize("wrap", [stream_with_context, iter], ids=["with context", "plain"])
def test_bodies_have_the_identity_at_every_step(app: Flask, service: Service, wrap: Any) -> None:
    llm = service.gateway

    @app.post("/late")
    def late() -> Response:
        def body() -> Iterator[str]:
            for _ in range(3):
                yield f"{context.tenant_id} {llm.call_sync('hi', tier='cheap').text} "

        return Response(wrap(body()))

    with service.client().post("/late") as response:
        assert response.text == "acme One two three. " * 3
    assert [made.route for made in service.provider.requests] == ["/late"] * 3


def test_the_proxy_in_a_body_needs_stream_with_context_as_flasks_own_do(app: Flask, service: Service) -> None:
    @app.post("/late")
    def late() -> Response:
        return Response(stream_with_context(piece for piece in gateway.stream_sync("hi", tier="cheap").text()))

    with service.client().post("/late") as response:
        assert response.text == "One two three."
    assert service.tenants == ["acme"]


@pytest.mark.parametrize("wrap", [stream_with_context, iter], ids=["with context", "plain"])
def test_a_client_that_leaves_ends_the_stream_with_its_reason(app: Flask, service: Service, wrap: Any) -> None:
    llm = service.gateway

    @app.post("/stream")
    def stream() -> Response:
        return Response(wrap(llm.stream_sync("hi", tier="cheap").text()))

    body, status, _headers = run_wsgi_app(app, create_environ("/stream", method="POST", headers=ACME))
    assert (status, next(iter(body))) == ("200 OK", b"One")
    body.close()  # type: ignore[attr-defined]
    (line,) = service.ledger.read
    assert (line["tenant_id"], line["status"], line["finish_reason"]) == ("acme", "cancelled", "client_disconnected")
    assert current_binding() is None


def test_a_stream_that_nobody_reads_is_settled_with_its_request(app: Flask, service: Service) -> None:
    @app.post("/unread")
    def unread() -> str:
        gateway.stream_sync("hi", tier="cheap")
        return "done"

    with service.client().post("/unread"):
        pass
    (line,) = service.ledger.read
    assert (line["status"], line["tenant_id"]) == ("cancelled", "acme")


def test_work_after_the_response_is_still_part_of_the_request(app: Flask, service: Service) -> None:
    llm = service.gateway

    @app.post("/later")
    def later() -> str:
        @after_this_request
        def and_then(response: Response) -> Response:
            response.call_on_close(lambda: llm.call_sync("later", tier="cheap"))
            return response

        return "done"

    response = service.client().post("/later")
    assert (response.text, service.provider.requests) == ("done", ())
    response.close()
    assert service.tenants == ["acme"]


# -------------------------------------------------------------------------------------------------------- errors


def test_refusals_of_the_gateway_leave_a_view_as_problems(app: Flask, service: Service) -> None:
    @app.post("/empty")
    def empty() -> str:
        return gateway.call_sync("", tier="cheap").text

    response = service.client().post("/empty")
    assert (response.status_code, response.content_type) == (400, "application/problem+json")
    assert response.headers["RateLimit"] == '"default";r=59;t=60'


def test_a_failing_provider_is_a_problem_in_sync_and_async_views(app: Flask, service: Service) -> None:
    @app.post("/sync")
    def sync() -> str:
        return ask()

    @app.post("/async")
    async def asynchronous() -> str:
        return (await gateway.call("hi", tier="cheap")).text

    for path in ("/sync", "/async"):
        service.provider.script(ProviderRateLimitError("fake", "k-secret says no", retry_after_s=2.5))
        response = service.client().post(path)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "3")
        assert response.json is not None
        assert response.json["request_id"] == service.ledger.read[-1]["request_id"]
        assert "k-secret" not in response.text


@pytest.mark.parametrize("kind", [Exception, ValueError])
def test_an_applications_handler_of_all_errors_leaves_turnpikes_alone(
    app: Flask, service: Service, kind: type[Exception]
) -> None:
    @app.errorhandler(kind)
    def of_all(_error: Exception) -> tuple[str, int]:
        return "oops", 418

    @app.get("/wrong")
    def wrong() -> str:
        raise InvalidRequestError("of the call")

    @app.get("/own")
    def own() -> str:
        raise ValueError("of the application")

    assert service.client().get("/wrong").status_code == 400
    assert service.client({}).get("/wrong").status_code == 401
    assert service.client().get("/own").status_code == 418


def test_a_blueprints_handler_of_all_errors_comes_first_as_always_in_flask(app: Flask, service: Service) -> None:
    blueprint = Blueprint("pages", __name__)
    blueprint.get("/page", endpoint="page")(lambda: "never")
    blueprint.errorhandler(Exception)(lambda _error: ("oops", 418))
    app.register_blueprint(blueprint)
    assert service.client({}).get("/page").status_code == 418


def test_an_application_may_render_turnpikes_errors_itself(app: Flask, service: Service) -> None:
    from turnpike.boundary.problem import Problem

    @app.errorhandler(Problem)
    def in_words(problem: Problem) -> tuple[str, int]:
        return f"<p>{problem.title}</p>", problem.status

    @app.get("/chat")
    def chat() -> str:
        return "never"

    response = service.client({}).get("/chat")
    assert (response.text, response.status_code) == ("<p>Unauthorized</p>", 401)


def test_an_error_of_the_application_ends_the_request_and_its_streams(app: Flask, service: Service) -> None:
    @app.post("/fails")
    def fails() -> str:
        gateway.stream_sync("hi", tier="cheap")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        service.client().post("/fails")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    with service.client().post("/fails") as response:
        assert response.status_code == 500
    ended = [(line["status"], line["finish_reason"]) for line in service.ledger.read]
    assert ended == [("cancelled", "request_failed")] * 2
    assert current_binding() is None


def test_a_failing_thread_with_a_copy_of_the_request_ends_nothing(app: Flask, service: Service) -> None:
    @app.post("/chat")
    def chat() -> str:
        stream = gateway.stream_sync("hi", tier="cheap")

        @copy_current_request_context
        def fail() -> None:
            raise ZeroDivisionError(context.tenant_id)

        with ThreadPoolExecutor(1) as pool, pytest.raises(UnattributedError):
            pool.submit(fail).result()
        return "".join(stream.text())

    assert service.client().post("/chat").text == "One two three."
