"""Who enters a FastAPI application, by what means, and what the others are told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")

from fastapi import APIRouter, Body, Depends, FastAPI, Request, Response, Security
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse, StreamingResponse

from turnpike.boundary.keys import Principal
from turnpike.context import LLMRequestContext, bind
from turnpike.errors import (
    ConfigurationError,
    InvalidRequestError,
    ProviderRateLimitError,
    SettingsError,
    UnknownTierError,
)
from turnpike_fastapi import DepContext, DepGateway, admitted, exempt, install, limit, requires
from turnpike_fastapi import gateway as the_gateway

from .fastapi_service import ACME, BETA, KEYS, FakeGateway, app_with, client_of, raw_request

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def app(gateway: FakeGateway) -> FastAPI:
    return app_with(gateway)


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
    app = app_with(gateway, rate_limit="1/minute")

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
    app = app_with(gateway, exempt=["/v1/health"])
    router = APIRouter(prefix="/v1", dependencies=[Depends(admitted)])

    @router.get("/health")
    @router.options("/chat")
    async def tenant(who: DepContext) -> str | None:
        return who.tenant_id

    @router.get("/marked/{number}")
    @exempt
    async def marked(number: int, who: DepContext) -> list[Any]:
        return [number, who.tenant_id]

    app.include_router(router)
    client = client_of(app, {})
    assert client.get("/v1/health").json() is None
    assert client.options("/v1/chat").status_code == 200
    response = client.get("/v1/marked/7")
    assert response.json() == [7, None]
    assert "ratelimit" not in response.headers


def test_open_routes_are_left_alone(app: FastAPI) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    response = client_of(app, {}).get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "ratelimit" not in response.headers


# ------------------------------------------------------------------------------------------- scopes and limits


def test_a_scope_that_a_route_demands_is_looked_at_without_a_second_admission(app: FastAPI) -> None:
    router = APIRouter(dependencies=[Depends(admitted)])

    @router.get("/reports", dependencies=[Security(admitted, scopes=["reports:read"])])
    async def reports(who: DepContext) -> str | None:
        return who.tenant_id

    app.include_router(router)
    response = client_of(app).get("/reports")
    assert (response.json(), response.headers.get_list("ratelimit")) == ("acme", ['"default";r=59;t=60'])
    response = client_of(app, BETA).get("/reports")
    assert (response.status_code, response.json()["required"]) == (403, ["reports:read"])
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get_list("ratelimit") == ['"default";r=59;t=60']


async def writer(who: Annotated[LLMRequestContext, Security(admitted, scopes=["reports:write"])]) -> str | None:
    return who.tenant_id


def test_all_scopes_on_the_way_to_the_admission_are_demanded_together(app: FastAPI) -> None:
    @app.get("/reports")
    async def reports(tenant: Annotated[str, Security(writer, scopes=["llm:call"])]) -> str:
        return tenant

    response = client_of(app).get("/reports")
    assert (response.status_code, sorted(response.json()["required"])) == (403, ["llm:call", "reports:write"])


@pytest.mark.parametrize("order", ["above", "below"])
def test_marks_hold_on_either_side_of_the_routes_decorator(gateway: FakeGateway, order: str) -> None:
    app = app_with(gateway, limits={"reports": "1/minute"})

    async def reports(llm: DepGateway) -> str:
        return str(await llm.call("hi"))

    if order == "above":
        requires("reports:read")(limit("reports")(app.get("/reports")(reports)))
    else:
        app.get("/reports")(requires("reports:read")(limit("reports")(reports)))

    assert client_of(app, BETA).get("/reports").json()["required"] == ["reports:read"]
    response = client_of(app).get("/reports")
    assert response.json() == "acme"
    assert response.headers["ratelimit"] == '"default";r=59;t=60, "reports";r=0;t=60'
    response = client_of(app).get("/reports")
    assert (response.status_code, response.json()["violated-policies"]) == (429, ["reports"])


def test_a_limit_that_the_settings_do_not_have_is_the_services_fault(app: FastAPI) -> None:
    @app.get("/chat", dependencies=[Depends(admitted)])
    @limit("chatt")
    async def chat() -> None: ...

    response = client_of(app).get("/chat")
    assert (response.status_code, response.json()["type"]) == (500, "urn:turnpike:problem:misconfigured")
    assert "chatt" not in response.text


# ----------------------------------------------------------------------------------------- identities of one's own


def by_session(request: HTTPConnection) -> Principal | None:
    """Know who sends a request by what a session middleware has found out, and leave the others to their keys."""
    user = getattr(request.state, "user", None)
    return None if user is None else Principal(tenant="sessions", caller=user, scopes=("llm:call",))


async def by_session_later(request: HTTPConnection) -> Principal | None:
    await asyncio.sleep(0)
    return by_session(request)


async def with_session(request: Request, call_next: Any) -> Any:
    if user := request.headers.get("x-session-user"):
        request.state.user = user
    return await call_next(request)


@pytest.mark.parametrize("identify", [by_session, by_session_later])
def test_an_application_may_know_by_itself_who_sends_a_request(gateway: FakeGateway, identify: Any) -> None:
    app = FastAPI()
    install(app, {"api_keys": KEYS}, gateway=gateway, identify=identify)  # type: ignore[arg-type]
    app.middleware("http")(with_session)

    @app.get("/chat", dependencies=[Security(admitted, scopes=["llm:call"])])
    async def chat(llm: DepGateway, who: DepContext) -> list[Any]:
        return [await llm.call("hi"), who.caller_id]

    assert client_of(app, {"x-session-user": "ann"}).get("/chat").json() == ["sessions", "ann"]
    assert client_of(app, ACME).get("/chat").json() == ["acme", "web"]
    assert client_of(app, {}).get("/chat").status_code == 401


def test_keys_may_be_looked_up_in_a_store_of_ones_own(gateway: FakeGateway) -> None:
    class Keys:
        async def find_async(self, raw_key: str) -> Principal | None:
            await asyncio.sleep(0)
            return self.find(raw_key)

        def find(self, raw_key: str) -> Principal | None:
            return Principal(tenant="stored") if raw_key == "k-stored" else None

    app = FastAPI()
    install(app, gateway=gateway, key_store=Keys())  # type: ignore[arg-type]

    @app.get("/chat")
    async def chat(llm: DepGateway) -> str:
        return str(await llm.call("hi"))

    assert client_of(app, {"X-API-Key": "k-stored"}).get("/chat").json() == "stored"
    assert client_of(app, ACME).get("/chat").status_code == 401


# ------------------------------------------------------------------------------------------------ replaced in tests


async def as_tester() -> AsyncIterator[LLMRequestContext]:
    with bind(tenant_id="tester") as context:
        yield context


def as_tester_sync() -> LLMRequestContext:
    return LLMRequestContext(tenant_id="tester")


@pytest.mark.parametrize("instead", [as_tester, as_tester_sync, lambda: LLMRequestContext(tenant_id="tester")])
def test_tests_can_replace_the_admission(app: FastAPI, gateway: FakeGateway, instead: Any) -> None:
    @app.get("/chat/{number}", dependencies=[Security(admitted, scopes=["reports:write"])])
    async def chat(number: int, llm: DepGateway, who: DepContext) -> list[Any]:
        return [await llm.call("hi"), who.tenant_id]

    @app.get("/stream")
    def stream(llm: DepGateway) -> StreamingResponse:
        return StreamingResponse(llm.stream("hi").text())

    app.dependency_overrides[admitted] = instead
    client = client_of(app, {})
    assert client.get("/chat/7").json() == ["tester", "tester"]
    assert client.get("/stream").text == "tester tester "
    if instead is not as_tester:
        assert gateway.route == "/stream"
        assert gateway.streams[0].reasons == ["abandoned"]


def test_an_override_that_names_nobody_leaves_calls_attributed_to_nobody(app: FastAPI) -> None:
    @app.get("/chat")
    async def chat(llm: DepGateway, who: DepContext) -> list[Any]:
        return [await llm.call("hi"), who.tenant_id]

    app.dependency_overrides[admitted] = lambda: None
    assert client_of(app, {}).get("/chat").json() == ["None", None]


def test_tests_can_replace_the_gateway_and_leave_the_rest(app: FastAPI, gateway: FakeGateway) -> None:
    other = FakeGateway()

    @app.get("/chat")
    async def chat(llm: DepGateway, who: DepContext) -> str:
        return f"{await llm.call('hi')} {who.tenant_id}"

    app.dependency_overrides[the_gateway] = lambda: other
    assert client_of(app).get("/chat").json() == "acme acme"
    assert (len(other.bindings), gateway.bindings) == (1, [])


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
