"""The Flask adapter before a view runs: which requests are admitted, under which name, rule and limits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("flask", reason="needs flask: install turnpike[flask]")

from flask import Blueprint, Flask, Request, Response, abort, g, redirect, session
from flask.views import MethodView, View
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from turnpike.boundary.keys import Principal
from turnpike.context import current_binding
from turnpike_flask import context, exempt, gateway, limit, request_admitted, request_denied, requires

from .flask_service import ACME, BETA, Service


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def app(service: Service) -> Flask:
    return service.app


def view() -> Callable[[], str]:
    """A view of its own for each route, because marks stay on the function that they are put on."""
    return lambda: f"{context.tenant_id}"


def policies(response: Any) -> list[str]:
    """The names of the limits that the response announces."""
    announced = response.headers.get("RateLimit-Policy", "")
    return [part.split('"')[1] for part in announced.split(", ") if part]


# ------------------------------------------------------------------------------------------------------- the route


def test_the_route_is_the_rule_with_the_prefixes_of_its_blueprints(app: Flask, service: Service) -> None:
    inner, outer = Blueprint("inner", __name__), Blueprint("outer", __name__, url_prefix="/v1")

    @inner.post("/<int:number>/<path:rest>")
    def chat(number: int, rest: str) -> str:
        return gateway.call_sync(f"{number} {rest}", tier="cheap").text

    outer.register_blueprint(inner, url_prefix="/chat")
    app.register_blueprint(outer, url_prefix="/api")
    assert service.client().post("/api/chat/7/a/b").status_code == 200
    assert service.provider.requests[0].route == "/api/chat/<int:number>/<path:rest>"


def test_where_an_application_is_mounted_is_no_part_of_its_routes(app: Flask, service: Service) -> None:
    app.post("/chat/<number>")(lambda number: gateway.call_sync(number, tier="cheap").text)
    outer = Service()
    outer.app.post("/chat")(lambda: gateway.call_sync("outer", tier="cheap").text)
    both = Client(DispatcherMiddleware(outer.app, {"/sub": app}))
    assert both.post("/sub/chat/7", headers=BETA).status_code == 200
    assert both.post("/chat", headers=ACME).status_code == 200
    assert [(made.route, made.context.tenant_id) for made in service.provider.requests] == [("/chat/<number>", "beta")]
    assert [(made.route, made.context.tenant_id) for made in outer.provider.requests] == [("/chat", "acme")]


def test_an_application_inside_of_another_shares_the_request_of_the_outer_one(app: Flask, service: Service) -> None:
    inner = Service()
    inner.app.post("/chat")(lambda: gateway.call_sync("inner", tier="cheap").text)
    app.get("/open", endpoint="open")(exempt(view()))
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/sub": inner.app})  # type: ignore[method-assign]
    response = service.client().post("/sub/chat")
    assert response.headers.getlist("RateLimit") == ['"default";r=59;t=60']
    assert inner.tenants == ["acme"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/no", 404), ("PUT", "/chat/", 405), ("GET", "/chat", 308)]
)
def test_what_no_route_serves_is_answered_by_flask_without_a_key(
    app: Flask, service: Service, method: str, path: str, status: int
) -> None:
    app.get("/chat/", endpoint="chat")(view())
    response = service.client({}).open(path, method=method)
    assert response.status_code == status
    assert "RateLimit" not in service.client().open(path, method=method).headers


def test_static_files_need_no_key(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("* {}")
    app = Flask("service", static_folder=tmp_path, static_url_path="/static")
    blueprint = Blueprint("pages", __name__, url_prefix="/pages", static_folder=tmp_path, static_url_path="/static")
    app.register_blueprint(blueprint)
    client = Service(app=app).client({})
    for path in ("/static/style.css", "/pages/static/style.css"):
        with client.get(path) as response:
            assert (response.status_code, response.text) == (200, "* {}")


def test_a_view_of_ones_own_that_is_called_static_is_guarded() -> None:
    app = Flask("service", static_folder=None)
    app.add_url_rule("/static/<name>", "static", lambda name: name)
    assert Service(app=app).client({}).get("/static/secret").status_code == 401


def test_preflights_pass_without_a_key_and_without_a_call(app: Flask, service: Service) -> None:
    app.post("/chat", endpoint="chat")(view())

    @app.route("/own", methods=["OPTIONS"])
    def own() -> str:
        return gateway.call_sync("hi", tier="cheap").text

    client = service.client({})
    response = client.options("/chat")
    assert (response.status_code, sorted(response.allow)) == (200, ["OPTIONS", "POST"])
    assert client.options("/own").status_code == 401
    assert service.provider.requests == ()


# ------------------------------------------------------------------------------------------------------- refusals


def test_without_a_key_nothing_reaches_the_view(app: Flask, service: Service) -> None:
    @app.post("/chat")
    def chat() -> str:
        pytest.fail("the view was called")

    response = service.client({}).post("/chat")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'ApiKey realm="turnpike"'
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.data == (
        b'{"type":"about:blank","title":"Unauthorized","status":401,'
        b'"detail":"This request needs exactly one valid API key. Send it as \'X-API-Key: <key>\'."}'
    )


@pytest.mark.parametrize("line", ["k-nobody", "k-acme,k-beta", "\xff", "", "k" * 9000, "k-acme\x00", "k\x7f"])
def test_hostile_headers_are_a_401(app: Flask, service: Service, line: str) -> None:
    app.get("/chat", endpoint="chat")(view())
    client = app.test_client()
    client.environ_base["HTTP_X_API_KEY"] = line
    assert client.get("/chat").status_code == 401


def test_beyond_the_limit_the_answer_is_a_429(app: Flask, service: Service) -> None:
    app.get("/chat", endpoint="chat")(limit("chat")(view()))
    client = service.client()
    assert [client.get("/chat").status_code for _ in range(2)] == [200, 200]
    response = client.get("/chat")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
    assert response.json is not None
    assert response.json["violated-policies"] == ["chat"]
    assert response.headers.getlist("RateLimit") == ['"default";r=58;t=60, "chat";r=0;t=60']
    assert client.get("/chat", headers=BETA).status_code == 200


def test_every_response_of_an_admitted_request_announces_the_quota_once(app: Flask, service: Service) -> None:
    views: dict[str, Callable[[], Any]] = {
        "text": view(),
        "response": lambda: Response("hi", 201, {"X-Own": "own"}),
        "nothing": lambda: ("", 204),
        "away": lambda: redirect("/text"),
        "missing": lambda: abort(404),
    }
    for name, each in views.items():
        app.add_url_rule(f"/{name}", name, each)
    client = service.client()
    for used, name in enumerate(views, start=1):
        assert client.get(f"/{name}").headers.getlist("RateLimit") == [f'"default";r={60 - used};t=60']
    assert "RateLimit" in client.head("/text").headers


def test_refusals_pass_through_after_request_as_cors_headers_need(app: Flask, service: Service) -> None:
    @app.after_request
    def allow_origin(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "https://app.example"
        response.headers["Access-Control-Expose-Headers"] = "RateLimit"
        return response

    app.get("/chat", endpoint="chat")(limit("chat")(view()))
    client = service.client()
    statuses = [client.get("/chat").status_code for _ in range(2)]
    for response in (client.get("/chat"), service.client({}).get("/chat"), service.client({}).options("/chat")):
        statuses.append(response.status_code)
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert statuses == [200, 200, 429, 401, 200]


def test_a_limit_that_the_settings_do_not_have_closes_its_route_only(
    app: Flask, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    app.get("/wrong", endpoint="wrong")(limit("chatt")(view()))
    app.get("/right", endpoint="right")(view())
    assert service.client().get("/wrong").status_code == 500
    assert "'chatt'" in caplog.text
    assert service.client().get("/right").status_code == 200


# ---------------------------------------------------------------------------------------------------------- rules


def test_marks_hold_above_and_below_the_route_and_under_other_decorators(app: Flask, service: Service) -> None:
    def logged(view: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(view)
        def run(**values: Any) -> Any:
            return view(**values)

        return run

    @app.get("/below")
    @exempt
    def below() -> str:
        return f"{context.tenant_id}"

    @exempt
    @app.get("/above")
    def above() -> str:
        return f"{context.tenant_id}"

    @app.get("/wrapped")
    @logged
    @service.turnpike.exempt
    def wrapped() -> str:
        return f"{context.tenant_id}"

    client = service.client({})
    assert [client.get(path).text for path in ("/below", "/above", "/wrapped")] == ["None"] * 3


def test_the_settings_name_open_routes_by_their_templates() -> None:
    service = Service({"exempt": ["/health/<part>"]})
    service.app.get("/health/<part>")(lambda part: part)
    assert service.client({}).get("/health/db").text == "db"


def test_a_scope_is_required_of_the_principal(app: Flask, service: Service) -> None:
    @app.get("/reports")
    @service.turnpike.requires("reports:read")
    def reports() -> str:
        return f"{context.tenant_id}"

    assert service.client().get("/reports").text == "acme"
    response = service.client(BETA).get("/reports")
    assert response.status_code == 403
    assert response.json is not None
    assert response.json["required"] == ["reports:read"]


def test_a_view_class_and_each_of_its_methods_may_be_marked(app: Flask, service: Service) -> None:
    @limit("chat")
    class Item(MethodView):
        decorators: ClassVar = [limit("search")]

        @exempt
        def get(self) -> str:
            return f"{context.tenant_id}"

        @requires("reports:read")
        def post(self) -> str:
            return f"{context.tenant_id}"

        def put(self) -> str:
            return f"{context.tenant_id}"

    class Page(View):
        @exempt
        def dispatch_request(self) -> str:
            return f"{context.tenant_id}"

    app.add_url_rule("/item", view_func=Item.as_view("item"))
    app.add_url_rule("/page", view_func=Page.as_view("page"))
    nobody, beta = service.client({}), service.client(BETA)
    assert [nobody.get("/item").text, nobody.get("/page").text] == ["None", "None"]
    assert nobody.head("/item").status_code == 200
    assert [nobody.post("/item").status_code, beta.post("/item").status_code] == [401, 403]
    assert policies(beta.put("/item")) == ["default", "chat", "search"]


def test_a_blueprint_may_be_marked_for_all_of_its_views_and_those_nested_in_it(app: Flask, service: Service) -> None:
    public, docs = Blueprint("public", __name__), Blueprint("docs", __name__)
    chat = limit("chat")(requires("llm:call")(Blueprint("chat", __name__)))
    exempt(public)
    docs.get("/docs", endpoint="docs")(view())
    public.get("/about", endpoint="about")(view())
    chat.get("/chat", endpoint="chat")(view())
    public.register_blueprint(docs)
    app.register_blueprint(public)
    app.register_blueprint(chat)
    nobody = service.client({})
    assert [nobody.get(path).text for path in ("/about", "/docs")] == ["None", "None"]
    assert policies(service.client().get("/chat")) == ["default", "chat"]
    assert service.client(BETA).get("/chat").status_code == 403


def test_what_stands_closest_to_the_view_says_whether_it_is_open(app: Flask, service: Service) -> None:
    guarded, public = requires("llm:call")(Blueprint("guarded", __name__)), exempt(Blueprint("public", __name__))
    guarded.get("/health", endpoint="health")(exempt(view()))
    public.get("/admin", endpoint="admin")(requires("admin")(view()))
    public.get("/search", endpoint="search")(limit("search")(view()))
    app.register_blueprint(guarded)
    app.register_blueprint(public)
    assert service.client({}).get("/health").text == "None"
    assert service.client({}).get("/admin").status_code == 401
    assert service.client().get("/admin").status_code == 403
    assert policies(service.client().get("/search")) == ["default", "search"]


# ------------------------------------------------------------------------------------------------------- identity


def test_an_application_may_know_by_itself_who_is_asking() -> None:
    app = Flask("service")
    app.secret_key = "test"

    @app.before_request
    def load_user() -> None:
        g.user = session.get("user")

    def identify(request: Request) -> Principal | None:
        return Principal(tenant=g.user, caller=request.path) if g.user else None

    service = Service(app=app, identify=identify)
    app.get("/who")(lambda: f"{context.tenant_id} {context.caller_id}")

    @app.post("/login/<user>")
    @exempt
    def login(user: str) -> str:
        session["user"] = user
        return "hello"

    client = service.client({})
    assert client.get("/who").status_code == 401
    assert client.post("/login/tyrell").status_code == 200
    assert client.get("/who").text == "tyrell /who"
    assert service.client(ACME).get("/who").text == "acme web"


def test_identify_may_be_a_coroutine_function() -> None:
    async def identify(request: Request) -> Principal | None:
        return Principal(tenant=str(request.args["tenant"]))

    service = Service(identify=identify)
    service.app.get("/who", endpoint="who")(view())
    assert service.client({}).get("/who?tenant=tyrell").text == "tyrell"


def test_keys_may_come_from_a_store_of_ones_own() -> None:
    class Keys:
        def find(self, raw_key: str) -> Principal | None:
            return Principal(tenant="gamma", key_id="1") if raw_key == "k-gamma" else None

    service = Service(key_store=Keys())
    service.app.get("/who", endpoint="who")(view())
    assert service.client({"X-API-Key": "k-gamma"}).get("/who").text == "gamma"
    assert service.client(ACME).get("/who").status_code == 401


# -------------------------------------------------------------------------------------------------------- signals


def test_signals_tell_of_admitted_and_refused_requests(app: Flask, service: Service) -> None:
    heard: list[Any] = []
    other = Service()
    for each in (app, other.app):
        each.get("/chat", endpoint="chat")(view())
        each.get("/open", endpoint="open")(exempt(view()))

    def admitted(sender: Flask, *, context: Any) -> None:
        heard.append((sender, context.tenant_id, current_binding() is not None))

    async def denied(sender: Flask, *, problem: Any) -> None:
        heard.append((sender, problem.status))

    with request_admitted.connected_to(admitted, app), request_denied.connected_to(denied, app):
        for client in (service.client(), service.client({}), other.client(), other.client({})):
            client.get("/chat")
            client.get("/open")
    service.client().get("/chat")
    assert heard == [(app, "acme", True), (app, 401)]


# -------------------------------------------------------------------------------------------- without the middleware


def test_a_request_context_of_ones_own_is_admitted_by_preprocess_request(app: Flask, service: Service) -> None:
    app.post("/chat", endpoint="chat")(view())
    with app.test_request_context("/chat", method="POST", headers=ACME):
        for _ in range(2):  # counted once
            assert app.preprocess_request() is None
        assert (context.tenant_id, gateway.call_sync("hi", tier="cheap").text) == ("acme", "One two three.")
        gateway.stream_sync("hi", tier="cheap")
    assert current_binding() is None
    assert service.client().post("/chat").headers["RateLimit"] == '"default";r=58;t=60'
    assert [line["status"] for line in service.ledger.read] == ["success", "cancelled"]


def test_a_request_context_of_ones_own_can_be_refused(app: Flask, service: Service) -> None:
    from turnpike.boundary.problem import Problem

    app.post("/chat", endpoint="chat")(view())
    with app.test_request_context("/chat", method="POST"):
        with pytest.raises(Problem, match="401"):
            app.preprocess_request()
        assert app.full_dispatch_request().status_code == 401
    assert current_binding() is None


def test_the_test_client_may_keep_the_request_context_and_nothing_else(app: Flask, service: Service) -> None:
    from flask import request

    app.post("/chat", endpoint="chat")(view())
    with service.client() as client:
        for headers in (ACME, BETA):
            response = client.post("/chat", headers=headers)
            assert (request.path, request.headers["X-API-Key"]) == ("/chat", headers["X-API-Key"])
            assert response.text in ("acme", "beta")
            assert current_binding() is None
    assert current_binding() is None
