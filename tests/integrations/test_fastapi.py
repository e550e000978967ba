"""The FastAPI adapter, with a gateway that only notes who called it: what FastAPI does is what is tested here."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")

from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Router

from turnpike.boundary.admission import Gate
from turnpike.context import Binding, LLMRequestContext, bind, current_binding
from turnpike.errors import (
    ConfigurationError,
    InvalidRequestError,
    ProviderRateLimitError,
    SettingsError,
    UnknownTierError,
)
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike_fastapi import DepContext, DepGateway, admitted, install

pytestmark = pytest.mark.anyio

KEYS = [{"key": "k-acme", "tenant": "acme", "caller": "web"}, {"key": "k-beta", "tenant": "beta"}]
ACME = {"X-API-Key": "k-acme"}
BETA = {"X-API-Key": "k-beta"}


class FakeStream:
    """A stream of two pieces that remembers how it ended."""

    def __init__(self, tenant: str | None) -> None:
        self.tenant = tenant
        self.reasons: list[str] = []
        self.left = 2

    def finish(self, reason: str, /) -> None:
        self.reasons.append(reason)

    def piece(self) -> str:
        self.left -= 1
        return f"{self.tenant} "

    def text(self) -> FakeStream:
        return self

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> str:
        if not self.left:
            raise StopAsyncIteration
        return self.piece()


class FakeGateway:
    """Notes the binding under which each call is made, as the gateway itself would read it."""

    def __init__(self) -> None:
        self.settings = Settings.from_dict({"api_keys": KEYS})
        self.bindings: list[Binding | None] = []
        self.streams: list[FakeStream] = []
        self.closed = 0

    def call_sync(self, _prompt: str = "") -> str:
        binding = current_binding()
        self.bindings.append(binding)
        return "nobody" if binding is None else str(binding.context.tenant_id)

    async def call(self, _prompt: str = "") -> str:
        await asyncio.sleep(0)
        return self.call_sync()

    def stream(self, _prompt: str) -> FakeStream:
        stream = FakeStream(self.call_sync())
        self.streams.append(stream)
        binding = self.bindings[-1]
        if binding is not None and binding.streams is not None:
            binding.streams.add(stream)
        return stream

    stream_sync = stream

    async def aclose(self) -> None:
        self.closed += 1

    @property
    def route(self) -> str | None:
        binding = self.bindings[-1]
        return None if binding is None else binding.route


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def app(gateway: FakeGateway) -> FastAPI:
    app = FastAPI()
    install(app, gateway=gateway)  # type: ignore[arg-type]
    return app


def client_of(app: FastAPI, headers: dict[str, str] = ACME, *, raises: bool = True) -> TestClient:
    return TestClient(app, headers=headers, raise_server_exceptions=raises)


def with_limit(rate_limit: str) -> Gate:
    return Gate(Settings.from_dict({"api_keys": KEYS, "rate_limit": rate_limit}))


# ---------------------------------------------------------------------------------------------------- identity


def test_handlers_get_the_gateway_and_the_identity_of_the_key(app: FastAPI, gateway: FakeGateway) -> None:
    @app.post("/chat/{number}")
    async def chat(number: int, llm: DepGateway, who: DepContext) -> dict[str, Any]:
        return {"text": await llm.call("hi"), "who": [who.tenant_id, who.caller_id], "same": id(llm) == id(gateway)}

    answer = client_of(app).post("/chat/7").json()
    assert answer == {"text": "acme", "who": ["acme", "web"], "same": True}


def test_the_identity_is_gone_when_the_request_is_over(app: FastAPI) -> None:
    @app.post("/chat")
    async def chat(llm: DepGateway) -> str:
        return str(await llm.call("hi"))

    @app.get("/open")
    async def nobody() -> bool:
        return current_binding() is None

    client = client_of(app)
    assert [client.post("/chat").json(), client.post("/chat", headers=BETA).json()] == ["acme", "beta"]
    assert client.get("/open").json() is True


async def test_nothing_is_left_bound_where_server_and_application_share_a_task(app: FastAPI) -> None:
    @app.post("/chat")
    async def chat(llm: DepGateway) -> str:
        return str(await llm.call("hi"))

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://t", headers=ACME) as client:
        assert (await client.post("/chat")).json() == "acme"
        assert current_binding() is None


def test_sync_handlers_have_the_identity_too(app: FastAPI) -> None:
    @app.post("/chat")
    def chat(llm: DepGateway) -> str:
        return str(llm.call_sync("hi"))

    assert client_of(app).post("/chat").json() == "acme"


def test_streamed_bodies_and_background_tasks_have_the_identity_too(app: FastAPI, gateway: FakeGateway) -> None:
    @app.post("/late")
    async def late(llm: DepGateway, tasks: BackgroundTasks) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            async for piece in llm.stream("hi").text():
                yield piece

        tasks.add_task(llm.call, "async")
        tasks.add_task(llm.call_sync, "sync")
        return StreamingResponse(body())

    assert client_of(app).post("/late").text == "acme acme "
    assert [binding and binding.context.tenant_id for binding in gateway.bindings] == ["acme"] * 3


def test_an_identity_bound_before_the_admission_does_not_take_it_away(app: FastAPI, gateway: FakeGateway) -> None:
    async def with_feature() -> AsyncIterator[None]:
        with bind(feature_id="search"):
            yield

    @app.post("/late", dependencies=[Depends(with_feature), Depends(admitted)])
    async def late(llm: DepGateway) -> StreamingResponse:
        return StreamingResponse(llm.stream("hi").text())

    assert client_of(app).post("/late").text == "acme acme "
    assert gateway.bindings[0] is not None
    assert gateway.bindings[0].context == LLMRequestContext(tenant_id="acme", caller_id="web", feature_id="search")


def test_sync_bodies_have_the_identity_at_every_step(app: FastAPI) -> None:
    @app.post("/late")
    def late(llm: DepGateway) -> StreamingResponse:
        def body() -> Iterator[str]:
            for _ in range(3):
                yield str(llm.call_sync("hi"))

        return StreamingResponse(body())

    assert client_of(app).post("/late").text == "acme" * 3


def test_a_middleware_that_runs_the_application_in_a_task_of_its_own_changes_nothing(
    app: FastAPI, gateway: FakeGateway
) -> None:
    async def through(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=through)

    @app.post("/stream")
    async def stream(llm: DepGateway) -> StreamingResponse:
        return StreamingResponse(llm.stream("hi").text())

    response = client_of(app).post("/stream")
    assert response.text == "acme acme "
    assert "ratelimit" in response.headers
    assert gateway.streams[0].reasons == ["abandoned"]


async def test_two_hundred_requests_at_once_keep_their_identities(gateway: FakeGateway) -> None:
    app = FastAPI()
    install(app, gateway=gateway, gate=with_limit("1000/minute"))  # type: ignore[arg-type]

    @app.post("/chat/{number}")
    async def chat(number: int, llm: DepGateway, who: DepContext) -> list[Any]:
        await asyncio.sleep(0.001 * (number % 7))
        first = await llm.call("hi")
        await asyncio.sleep(0.001 * (number % 5))
        return [number, first, who.tenant_id, await llm.call("hi")]

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://t") as client:
        asked = [client.post(f"/chat/{n}", headers=(ACME, BETA)[n % 2]) for n in range(200)]
        answers = [response.json() for response in await asyncio.gather(*asked)]
    assert answers == [[n, *[("acme", "beta")[n % 2]] * 3] for n in range(200)]


# ------------------------------------------------------------------------------------------------------ routes


def test_the_route_is_the_template_with_its_routers_prefixes(app: FastAPI, gateway: FakeGateway) -> None:
    inner, outer = APIRouter(prefix="/chat"), APIRouter(prefix="/v1", dependencies=[Depends(admitted)])

    @inner.post("/{number}/{rest:path}")
    async def chat(number: int, rest: str, llm: DepGateway) -> None:
        await llm.call("hi")

    outer.include_router(inner)
    app.include_router(outer, prefix="/api")
    assert client_of(app).post("/api/v1/chat/7/a/b").status_code == 200
    assert gateway.route == "/api/v1/chat/{number}/{rest:path}"


def test_the_route_of_a_mounted_application_includes_the_mounts_template(app: FastAPI, gateway: FakeGateway) -> None:
    mounted = FastAPI()
    install(mounted, gateway=app.state.turnpike.gateway, gate=app.state.turnpike.gate)
    router = APIRouter(prefix="/v2")

    @router.post("/chat/{number}")
    async def chat(number: int, llm: DepGateway) -> None:
        await llm.call("hi")

    mounted.include_router(router)
    app.mount("/sub", mounted)
    app.router.routes.append(Mount("/of/{customer}", routes=[Mount("/deep", mounted)]))
    response = client_of(app).post("/sub/v2/chat/7")
    assert (response.status_code, gateway.route) == (200, "/sub/v2/chat/{number}")
    assert response.headers.get_list("ratelimit") == ['"default";r=59;t=60']
    assert client_of(app).post("/of/tyrell/deep/v2/chat/7").status_code == 200
    assert gateway.route == "/of/{customer}/deep/v2/chat/{number}"


def test_a_mount_inside_an_application_of_another_kind_is_named_by_its_path(app: FastAPI, gateway: FakeGateway) -> None:
    mounted = FastAPI()
    install(mounted, gateway=app.state.turnpike.gateway, gate=app.state.turnpike.gate)
    inner = Router(routes=[Mount("/b", mounted)])

    @mounted.post("/chat/{number}")
    async def chat(number: int, llm: DepGateway) -> None:
        await llm.call("hi")

    async def opaque(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    app.mount("/a", opaque)
    assert client_of(app).post("/a/b/chat/7").status_code == 200
    assert gateway.route == "/a/b/chat/{number}"


def test_a_servers_root_path_is_no_part_of_the_route(app: FastAPI, gateway: FakeGateway) -> None:
    @app.post("/chat")
    async def chat(llm: DepGateway) -> None:
        await llm.call("hi")

    with TestClient(app, headers=ACME, root_path="/behind/proxy") as client:
        assert client.post("/chat").status_code == 200
    assert gateway.route == "/chat"


# --------------------------------------------------------------------------------------------------- admission


def test_without_a_key_nothing_reaches_the_handler(app: FastAPI, gateway: FakeGateway) -> None:
    @app.post("/chat")
    async def chat(llm: DepGateway) -> None:
        await llm.call("hi")

    response = client_of(app, {}).post("/chat")
    assert (response.status_code, gateway.bindings) == (401, [])
    assert response.headers["www-authenticate"] == 'ApiKey realm="turnpike"'
    assert response.headers["content-type"] == "application/problem+json"
    assert response.content == (
        b'{"type":"about:blank","title":"Unauthorized","status":401,'
        b'"detail":"This request needs exactly one valid API key. Send it as \'X-API-Key: <key>\'."}'
    )


@pytest.mark.parametrize(
    "lines", [[b"k-acme", b"k-acme"], [b"k-acme,k-beta"], [b"\xff"], [b""], [b"k" * 9000], [b"k-acme\x00"]]
)
async def test_hostile_headers_are_a_401(app: FastAPI, lines: list[bytes]) -> None:
    @app.get("/chat", dependencies=[Depends(admitted)])
    async def chat() -> None: ...

    assert (await raw_request(app, "/chat", [(b"x-api-key", line) for line in lines]))[0]["status"] == 401


def test_a_request_is_counted_once_however_often_its_route_asks_for_admission(app: FastAPI) -> None:
    router = APIRouter(dependencies=[Depends(admitted)])

    @router.get("/all", dependencies=[Security(admitted, scopes=["llm:call"]), Depends(admitted, use_cache=False)])
    async def all_ways(llm: DepGateway, who: DepContext) -> str:
        return str(await llm.call("hi")) + str(who.tenant_id)

    app.include_router(router)
    response = client_of(app).get("/all")
    assert response.json() == "acmeacme"
    assert response.headers.get_list("ratelimit") == ['"default";r=59;t=60']


def test_the_quota_is_announced_whatever_kind_of_response_the_handler_makes(app: FastAPI) -> None:
    router = APIRouter(dependencies=[Depends(admitted)])

    @router.get("/dict")
    async def plain() -> dict[str, str]:
        return {}

    @router.get("/response")
    async def response() -> Response:
        return JSONResponse({})

    @router.get("/stream")
    async def stream(llm: DepGateway) -> StreamingResponse:
        return StreamingResponse(llm.stream("hi").text())

    app.include_router(router)
    client = client_of(app)
    left = [client.get(path).headers["ratelimit"] for path in ("/dict", "/response", "/stream")]
    assert left == ['"default";r=59;t=60', '"default";r=58;t=60', '"default";r=57;t=60']
    assert client.get("/dict").headers["ratelimit-policy"] == '"default";q=60;w=60'
    assert client.get("/dict", params={"n": "x"}).headers.get_list("ratelimit") == ['"default";r=55;t=60']


def test_beyond_the_limit_the_answer_is_a_429(gateway: FakeGateway) -> None:
    app = FastAPI()
    install(app, gateway=gateway, gate=with_limit("1/minute"))  # type: ignore[arg-type]

    @app.get("/chat", dependencies=[Depends(admitted)])
    async def chat() -> None: ...

    client = client_of(app)
    assert client.get("/chat").status_code == 200
    response = client.get("/chat")
    assert response.status_code == 429
    assert response.json()["violated-policies"] == ["default"]
    assert response.headers["retry-after"] == "60"
    assert response.headers.get_list("ratelimit") == ['"default";r=0;t=60']
    assert client.get("/chat", headers=BETA).status_code == 200


def test_exempt_routes_and_preflights_need_no_key(gateway: FakeGateway) -> None:
    app = FastAPI()
    install(app, Settings.from_dict({"api_keys": KEYS, "exempt": ["/v1/health"]}), gateway=gateway)  # type: ignore[arg-type]
    router = APIRouter(prefix="/v1", dependencies=[Depends(admitted)])

    @router.get("/health")
    @router.options("/chat")
    async def tenant(who: DepContext) -> str | None:
        return who.tenant_id

    app.include_router(router)
    client = client_of(app, {})
    assert client.get("/v1/health").json() is None
    assert client.options("/v1/chat").status_code == 200


def test_open_routes_are_left_alone(app: FastAPI) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    response = client_of(app, {}).get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "ratelimit" not in response.headers


def test_tests_can_replace_the_admission(app: FastAPI) -> None:
    async def as_tester() -> AsyncIterator[LLMRequestContext]:
        with bind(tenant_id="tester") as context:
            yield context

    @app.get("/chat", dependencies=[Depends(admitted)])
    async def chat(llm: DepGateway, who: DepContext) -> list[Any]:
        return [await llm.call("hi"), who.tenant_id]

    app.dependency_overrides[admitted] = as_tester
    assert client_of(app, {}).get("/chat").json() == ["tester", "tester"]


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            ProviderRateLimitError("openai", "said sk-canary", retry_after_s=2.5),
            503,
            (
                b'{"type":"urn:turnpike:problem:upstream-rate-limited",'
                b'"title":"The model provider is rate limiting","status":503,'
                b'"detail":"The model provider is not taking more requests at the moment. Try again later."}'
            ),
        ),
        (
            UnknownTierError("cheep", "/fail", ["cheap"]),
            500,
            (
                b'{"type":"urn:turnpike:problem:misconfigured",'
                b'"title":"The service is misconfigured","status":500,'
                b'"detail":"The service is not set up to serve this request. '
                b'Its operator finds the reason in the log."}'
            ),
        ),
        (
            InvalidRequestError("prompt must not be empty"),
            400,
            (
                b'{"type":"urn:turnpike:problem:invalid-request","title":"Invalid request",'
                b'"status":400,"detail":"prompt must not be empty"}'
            ),
        ),
    ],
)
def test_the_gateways_errors_become_problems(app: FastAPI, error: Exception, status: int, body: bytes) -> None:
    @app.get("/fail", dependencies=[Depends(admitted)])
    async def fail() -> None:
        raise error

    response = client_of(app).get("/fail")
    assert (response.status_code, response.content) == (status, body)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["ratelimit"] == '"default";r=59;t=60'
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)


def test_validation_errors_stay_fastapis_own(app: FastAPI) -> None:
    @app.post("/chat", dependencies=[Depends(admitted)])
    async def chat(question: Annotated[str, Body(embed=True)]) -> str:
        return question

    assert client_of(app).post("/chat", json={}).status_code == 422
    assert client_of(app, {}).post("/chat", json={}).status_code == 401


def test_a_route_without_an_installation_says_what_to_call() -> None:
    app = FastAPI(title="Forgetful")

    @app.get("/chat", dependencies=[Depends(admitted)])
    async def chat() -> None: ...

    with pytest.raises(ConfigurationError, match=r"'Forgetful' .*install\(app, settings\)"):
        client_of(app).get("/chat")
    assert client_of(app, raises=False).get("/chat").status_code == 500


def test_without_fastapi_the_adapter_says_what_to_install() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import turnpike_fastapi"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in run.stderr
    assert "pip install 'turnpike[fastapi]'" in run.stderr


def test_installing_twice_is_an_error(app: FastAPI) -> None:
    with pytest.raises(ConfigurationError, match="installed on this application already"):
        install(app, {})


def test_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match="key_hedder"):
        install(FastAPI(), {"key_hedder": "X-Key"})


# ----------------------------------------------------------------------------------------------------- streams


async def raw_request(
    app: FastAPI, path: str, headers: list[tuple[bytes, bytes]], leaves_after: int | None = None
) -> list[Any]:
    """Send a request as a server would; the client leaves once it has had ``leaves_after`` messages."""
    sent: list[Any] = []
    left = asyncio.Event()

    async def receive() -> Any:
        if leaves_after is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == leaves_after:
            left.set()
        await asyncio.sleep(0)

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    return sent


async def test_a_stream_whose_client_leaves_is_finished_then(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/stream")
    async def stream(llm: DepGateway) -> StreamingResponse:
        opened = llm.stream("hi")

        async def body() -> AsyncIterator[str]:
            while opened:
                yield "x"

        return StreamingResponse(body())

    await raw_request(app, "/stream", [(b"x-api-key", b"k-acme")], leaves_after=4)
    assert gateway.streams[0].reasons == ["client_disconnected"]
    assert current_binding() is None


async def test_a_sync_body_that_the_framework_never_closes_is_finished_too(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/stream")
    def stream(llm: DepGateway) -> StreamingResponse:
        def body() -> Iterator[str]:
            opened = llm.stream_sync("hi")
            while opened:
                yield "x"

        return StreamingResponse(body())

    await raw_request(app, "/stream", [(b"x-api-key", b"k-acme")], leaves_after=4)
    assert gateway.streams[0].reasons == ["client_disconnected"]


async def test_a_stream_that_the_body_opened_is_finished_too(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/late")
    async def late(llm: DepGateway) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            llm.stream("hi")
            while True:
                yield "x"

        return StreamingResponse(body())

    await raw_request(app, "/late", [(b"x-api-key", b"k-acme")], leaves_after=4)
    assert gateway.streams[0].reasons == ["client_disconnected"]


def test_a_stream_that_the_handler_never_read_is_finished_at_the_end(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/unread")
    async def unread(llm: DepGateway) -> str:
        llm.stream("hi")
        return "ok"

    assert client_of(app).get("/unread").status_code == 200
    assert gateway.streams[0].reasons == ["abandoned"]


def test_a_stream_of_a_handler_that_raises_is_finished(app: FastAPI, gateway: FakeGateway) -> None:
    @app.get("/boom")
    async def boom(llm: DepGateway) -> None:
        llm.stream("hi")
        raise ZeroDivisionError

    assert client_of(app, raises=False).get("/boom").status_code == 500
    assert gateway.streams[0].reasons == ["request_failed"]


# ----------------------------------------------------------------------------------- OpenAPI, start and shutdown


@pytest.mark.parametrize("header", ["X-API-Key", "X-Own-Key"])
def test_only_guarded_routes_are_documented_as_needing_a_key(gateway: FakeGateway, header: str) -> None:
    app = FastAPI()
    install(app, {"api_keys": KEYS, "key_header": header}, gateway=gateway)  # type: ignore[arg-type]

    @app.post("/chat")
    async def chat(llm: DepGateway) -> None: ...

    @app.get("/healthz")
    def healthz() -> None: ...

    for _ in range(2):
        document = client_of(app).get("/openapi.json").json()
        assert document["paths"]["/chat"]["post"]["security"] == [{"TurnpikeKey": []}]
        assert "security" not in document["paths"]["/healthz"]["get"]
        scheme = document["components"]["securitySchemes"]["TurnpikeKey"]
        assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", header)
    assert client_of(app, {header: "k-acme"}).post("/chat").status_code == 200


def test_an_application_without_guarded_routes_documents_no_key(app: FastAPI) -> None:
    assert "components" not in app.openapi()


def test_the_gateway_that_install_makes_is_closed_after_the_applications_own_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    async def aclose(_gateway: Gateway) -> None:
        order.append("gateway closed")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, str]]:
        order.append("started")
        yield {"from": "lifespan"}
        order.append("application stopped")

    monkeypatch.setattr(Gateway, "aclose", aclose)
    app = FastAPI(lifespan=lifespan)
    install(app, {"api_keys": KEYS, "ledger": False})

    @app.get("/state")
    async def state(request: Request, llm: DepGateway) -> list[Any]:
        return [isinstance(llm, Gateway), getattr(request.state, "from", None)]

    assert client_of(app).get("/state").json() == [True, None]
    assert order == []
    with client_of(app) as client:
        assert client.get("/state").json() == [True, "lifespan"]
    assert order == ["started", "application stopped", "gateway closed"]


def test_a_gateway_of_ones_own_is_not_closed(app: FastAPI, gateway: FakeGateway) -> None:
    with client_of(app):
        pass
    assert gateway.closed == 0


def test_without_settings_the_environment_is_read_when_install_is_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("APP_API_KEY", "k-env")
    monkeypatch.setenv("TURNPIKE_TELEMETRY_PATH", str(tmp_path / "ledger.jsonl"))
    app = FastAPI()
    install(app)

    @app.get("/who")
    async def who(who: DepContext) -> str | None:
        return who.tenant_id

    assert client_of(app, {"X-API-Key": "k-env"}).get("/who").json() == "app"
