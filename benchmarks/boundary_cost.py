"""What the boundary costs a request: a valid key, a limit and a bound identity, beside a bare endpoint of each framework.

    python benchmarks/boundary_cost.py [--rounds 15] [--requests 400]

Both applications run in this process and are called as a server calls them, without sockets, so the ratio is the largest
that a service can see: a real request also goes through a server. Rounds of the two alternate, and each ratio is the median
of the rounds' own ratios. CPU time of the process is measured. Frameworks that are not installed are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {
    "providers": {"openai": {}},
    "api_keys": [{"key": f"k-{number}", "tenant": f"tenant-{number}"} for number in range(100)],
    "rate_limit": "1000000/second",
}
KEY = "k-50"
Serve = Callable[[int], None]
"""Serves that many requests."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        SETTINGS["telemetry_path"] = str(Path(folder) / "telemetry.jsonl")
        print(f"{'framework':<16} {'bare µs':>8} {'with Turnpike µs':>17} {'added µs':>9} {'ratio':>6}")
        for name, bare, guarded in pairs():
            print(row(name, bare, guarded, arguments.rounds, arguments.requests), flush=True)


def row(name: str, bare: Serve, guarded: Serve, rounds: int, requests: int) -> str:
    wait_for_the_warm_up()
    for serve in (bare, guarded):
        serve(requests)
    plain, ours = [], []
    for _ in range(rounds):
        plain.append(cpu_us(bare, requests))
        ours.append(cpu_us(guarded, requests))
    ratio = statistics.median(b / a for a, b in zip(plain, ours, strict=True))
    a, b = statistics.median(plain), statistics.median(ours)
    return f"{name:<16} {a:>8.1f} {b:>17.1f} {b - a:>9.1f} {ratio:>6.2f}"


def wait_for_the_warm_up() -> None:
    """Let the thread end in which a new gateway imports the SDKs: it would be measured, and take the interpreter's lock."""
    for thread in threading.enumerate():
        if thread.name.startswith("turnpike"):
            thread.join()


def cpu_us(serve: Serve, requests: int) -> float:
    begun = time.process_time()
    serve(requests)
    return (time.process_time() - begun) / requests * 1e6


def pairs() -> Iterator[tuple[str, Serve, Serve]]:
    from turnpike import asgi, wsgi

    options = {"routes": ["/items/{number}"]}
    yield "plain ASGI", on_asgi(asgi_app), on_asgi(asgi.TurnpikeMiddleware(asgi_app, SETTINGS, **options))
    yield "plain WSGI", on_wsgi(wsgi_app), on_wsgi(wsgi.TurnpikeMiddleware(wsgi_app, SETTINGS, **options))
    for name, module, build, drive in (
        ("FastAPI", "fastapi", fastapi_app, on_asgi),
        ("Litestar", "litestar", litestar_app, on_asgi),
        ("Flask", "flask", flask_app, on_wsgi),
    ):
        if importlib.util.find_spec(module):
            yield name, drive(build(guarded=False)), drive(build(guarded=True))
    if importlib.util.find_spec("django"):
        yield from django_pairs()


# ------------------------------------------------------------------------------------------------------------- the endpoints


async def asgi_app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"number":7}'})


def wsgi_app(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"number":7}']


def fastapi_app(*, guarded: bool) -> Any:
    from fastapi import Depends, FastAPI

    from turnpike_fastapi import admitted, install

    app = FastAPI(dependencies=[Depends(admitted)] if guarded else [])
    if guarded:
        install(app, SETTINGS)

    @app.get("/items/{number}")
    async def item(number: int) -> dict[str, int]:
        return {"number": number}

    return app


def litestar_app(*, guarded: bool) -> Any:
    from litestar import Litestar, get

    from turnpike_litestar import TurnpikePlugin

    @get("/items/{number:int}")
    async def item(number: int) -> dict[str, int]:
        return {"number": number}

    return Litestar([item], plugins=[TurnpikePlugin(SETTINGS)] if guarded else [])


def flask_app(*, guarded: bool) -> Any:
    from flask import Flask

    from turnpike_flask import Turnpike

    app = Flask("benchmark")
    if guarded:
        Turnpike(settings=SETTINGS).init_app(app)

    @app.get("/items/<int:number>")
    def item(number: int) -> dict[str, int]:
        return {"number": number}

    return app


def django_pairs() -> Iterator[tuple[str, Serve, Serve]]:
    import django
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import JsonResponse
    from django.test import override_settings
    from django.urls import path

    def item(_request: Any, number: int) -> JsonResponse:
        return JsonResponse({"number": number})

    async def item_async(_request: Any, number: int) -> JsonResponse:
        return JsonResponse({"number": number})

    routes = type(sys)("benchmark_urls")
    routes.urlpatterns = [path("items/<int:number>", item), path("async/<int:number>", item_async)]  # type: ignore[attr-defined]
    sys.modules[routes.__name__] = routes
    settings.configure(
        ROOT_URLCONF=routes.__name__, ALLOWED_HOSTS=["*"], INSTALLED_APPS=["turnpike_django"], TURNPIKE=SETTINGS
    )
    django.setup()
    bare = {"wsgi": WSGIHandler(), "asgi": ASGIHandler()}
    with override_settings(MIDDLEWARE=["turnpike_django.middleware.TurnpikeMiddleware"]):
        guarded = {"wsgi": WSGIHandler(), "asgi": ASGIHandler()}
    yield "Django WSGI", on_wsgi(bare["wsgi"]), on_wsgi(guarded["wsgi"])
    yield "Django ASGI", on_asgi(bare["asgi"], "/async/7"), on_asgi(guarded["asgi"], "/async/7")


# --------------------------------------------------------------------------------------------------------- being the server


def on_asgi(app: Any, path: str = "/items/7") -> Serve:
    loop = asyncio.new_event_loop()
    headers = [(b"host", b"service"), (b"accept", b"*/*"), (b"x-api-key", KEY.encode())]

    async def one() -> None:
        status: list[int] = []
        unread = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not unread:
                await loop.create_future()  # the client stays: Django listens for its leaving until it has answered
            return unread.pop()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        await app(scope, receive, send)
        assert status == [200], status

    async def many(requests: int) -> None:
        for _ in range(requests):
            await asyncio.create_task(one())

    return lambda requests: loop.run_until_complete(many(requests))


def on_wsgi(app: Any) -> Serve:
    import io

    def one() -> None:
        status: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/items/7",
            "QUERY_STRING": "",
            "SERVER_NAME": "service",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "service",
            "HTTP_ACCEPT": "*/*",
            "HTTP_X_API_KEY": KEY,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        body = app(environ, lambda line, _headers, _error=None: status.append(line))
        b"".join(body)
        if (close := getattr(body, "close", None)) is not None:
            close()
        assert status == ["200 OK"], status

    def many(requests: int) -> None:
        for _ in range(requests):
            one()

    return many


if __name__ == "__main__":
    main()
