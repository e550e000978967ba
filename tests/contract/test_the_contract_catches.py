"""The suite can fail: stacks that are wrong in one way each, and the cases that must notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from turnpike.boundary.keys import Principal
from turnpike.boundary.problem import Problem
from turnpike.context import Binding, _binding, bind
from turnpike.testing.contract import (
    ContractSetup,
    Stack,
    cases,
    check_stacks,
    format_failures,
    format_table,
    load_stacks,
)

_STACKS = Path(__file__).parent / "stacks"
[_ASGI] = load_stacks(str(_STACKS / "asgi_stack.py"))
[_WSGI] = load_stacks(str(_STACKS / "wsgi_stack.py"))

App = Callable[[Any, Any, Any], Awaitable[None]]


def failing(build: Callable[[ContractSetup], Any], *prefixes: str, like: Stack = _ASGI) -> set[str]:
    """Return the ids of the cases that notice something, of those that begin with one of ``prefixes``."""
    stack = Stack(name="broken", kind=like.kind, build=build, lacks=like.lacks)
    chosen = [made for made in cases() if made.id.startswith(prefixes)]
    cells = check_stacks([stack], only=chosen, timeout_s=0.5)
    return {cell.case.id for cell in cells if cell.outcome == "FAIL"}


class Naive:
    """An adapter of one's own that binds whom the gate admits, and no more: it is the start of each broken stack."""

    def __init__(self, setup: ContractSetup) -> None:
        self._setup = setup
        self._service = _ASGI.build(setup).app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._service(scope, receive, send)
            return
        found = self._service.find(scope)
        try:
            admission = self._setup.gate.admit(
                scope["headers"],
                route=found.template if found is not None else "unmatched",
                method=scope["method"],
                rule=found.rule if found is not None else type(self).rule,
            )
        except Problem as problem:
            await self.refuse(problem, send)
            return
        await self.serve(admission, scope, receive, send)

    rule: Any = None

    async def refuse(self, problem: Problem, send: Any) -> None:
        headers = {**problem.response_headers, "content-length": str(len(problem.body))}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": problem.body})

    async def serve(self, admission: Any, scope: Any, receive: Any, send: Any) -> None:
        async def announce(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in admission.headers.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        with bind(admission.context, route=admission.route):
            await self._service(scope, receive, announce)


class Leaking(Naive):
    """Binds and never unbinds, as an adapter does that forgets to reset its context variable."""

    async def serve(self, admission: Any, scope: Any, receive: Any, send: Any) -> None:
        if admission.principal is not None:
            _binding.set(Binding(admission.context, admission.route))
        await self._service(scope, receive, send)


def test_a_stack_that_leaks_the_identity() -> None:
    found = failing(Leaking, "isolation", "authentication.without_a_key")
    assert "isolation.after_a_request[call]" in found
    assert "isolation.on_a_connection_kept_alive[call]" in found
    assert "isolation.of_a_crowd" not in found, "each request has a task of its own there"
    assert "authentication.without_a_key" not in found


def test_a_stack_that_never_finishes_streams() -> None:
    found = failing(Naive, "streams", "failures", "disconnects.midway[", "identity.in_the_handler", "limits.announced[")
    assert {"streams.never_read", "failures.in_the_handler", "disconnects.midway[stream]"} <= found
    assert not found & {"streams.whole[stream]", "identity.in_the_handler[acme]", "limits.announced[call]"}


class Wrapped:
    """A right stack, behind something that spoils its responses."""

    def __init__(self, setup: ContractSetup) -> None:
        self._app = _ASGI.build(setup)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, lambda message: send(self.spoil(message)))

    def spoil(self, message: Any) -> Any:
        return message


class WithoutHeaders(Wrapped):
    """Forgets the quota wherever the handler streams, as an adapter does that writes to an injected response object."""

    def spoil(self, message: Any) -> Any:
        headers = message.get("headers", ())
        if (b"content-type", b"text/event-stream") in headers:
            return {**message, "headers": [pair for pair in headers if not pair[0].startswith(b"ratelimit")]}
        return message


def test_a_stack_that_forgets_the_headers_of_streams() -> None:
    found = failing(WithoutHeaders, "limits", "problems", "streams")
    assert found == {
        "limits.announced[stream]",
        "limits.announced[stream_late]",
        "limits.announced_at_the_head_of_a_stream",
    }


class Reformatting(Wrapped):
    """Renders problems anew, as a framework does that parses and encodes JSON bodies."""

    def spoil(self, message: Any) -> Any:
        body = message.get("body", b"")
        return {**message, "body": body.replace(b'","', b'", "')} if body.startswith(b'{"type"') else message


def test_a_stack_that_renders_problems_in_its_own_way() -> None:
    found = failing(Reformatting, "problems", "streams.whole")
    assert {"problems.unauthorized", "problems.quota_exceeded", "problems.provider_failed[timeout]"} <= found
    assert "streams.whole[stream]" not in found


class Buffering(Wrapped):
    """Sends a body in one piece, as middleware does that collects it first."""

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        for message in messages:
            await send(message)


def test_a_stack_that_buffers_streams() -> None:
    found = failing(Buffering, "streams.whole", "streams.piece_by_piece")
    assert found == {"streams.piece_by_piece[stream]", "streams.piece_by_piece[stream_late]"}


def _believing(setup: ContractSetup) -> Any:
    app = _ASGI.build(setup)

    def claimed(scope: Any) -> Principal | None:
        values = [value for name, value in scope["headers"] if name == b"x-tenant-id"]
        return Principal(tenant=values[0].decode()) if values else None

    app.installation._identify = claimed
    return app


def test_a_stack_that_binds_the_identity_from_a_header() -> None:
    found = failing(_believing, "identity")
    assert found == {
        "identity.never_from_what_a_client_claims[plain]",
        "identity.never_from_what_a_client_claims[streamed]",
        "identity.never_from_claims_alone",
    }


def _naming_paths(setup: ContractSetup) -> Any:
    app = _ASGI.build(setup)
    find = app._route_of
    app._route_of = lambda scope: find(scope)._replace(template=scope["path"])
    return app


def test_a_stack_that_names_routes_by_their_paths() -> None:
    found = failing(_naming_paths, "identity.with_the_template", "limits.of_a_template", "routes.", "streams.whole")
    assert found == {
        "identity.with_the_template_of_the_route",
        "limits.of_a_template",
        "routes.open_by_template",
        "routes.not_open_by_path",
    }


def _counting_twice(setup: ContractSetup) -> Any:
    app = _ASGI.build(setup)
    admit = app._admit

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        try:
            setup.gate.admit(scope.get("headers", ()), route="again", method=scope.get("method", "GET"))
        except Problem:
            pass
        await admit(scope, receive, send)

    app._guarded.app = twice
    return app


def test_a_stack_that_counts_requests_twice() -> None:
    found = failing(_counting_twice, "limits.announced[", "limits.exceeded", "problems.unauthorized")
    assert {"limits.announced[call]", "limits.exceeded[call]"} <= found
    assert "problems.unauthorized" not in found


def _binding_only_the_call(setup: ContractSetup) -> Any:
    service = _WSGI.build(setup).app

    def app(environ: Any, start_response: Any) -> Any:
        found = service.find(environ)
        key = environ.get("HTTP_X_API_KEY", "")
        admission = setup.gate.admit([("X-API-Key", key)], route=found.template, method="POST", rule=found.rule)
        with bind(admission.context, route=admission.route):
            return service(environ, start_response)

    return app


def test_a_stack_whose_binding_ends_before_the_body_is_produced() -> None:
    found = failing(_binding_only_the_call, "identity.in_", like=_WSGI)
    assert {"identity.in_calls_of_a_streamed_body", "identity.in_a_streamed_body[stream_late]"} <= found
    assert "identity.in_the_handler[acme]" not in found


def _spending_on_preflights(setup: ContractSetup) -> Any:
    app = _ASGI.build(setup)
    admit, service = app._admit, app.app

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("method") != "OPTIONS":
            await admit(scope, receive, send)
            return
        service.find(scope)
        with bind(tenant_id="acme", caller_id="web"):
            await service(scope, receive, send)

    app._guarded.app = serve
    return app


def test_a_stack_that_lets_preflights_spend() -> None:
    found = failing(_spending_on_preflights, "routes.preflight")
    assert "routes.preflight_that_calls[without a key]" in found


def test_the_table_says_what_failed_and_why() -> None:
    chosen = [made for made in cases() if made.id.startswith("streams.piece_by_piece") or made.subject == "websockets"]
    stack = Stack(name="broken", kind="asgi", build=Buffering)
    cells = check_stacks([stack, _WSGI], only=chosen, timeout_s=0.5)
    table = format_table(cells).splitlines()
    assert table[0].split() == ["case", "broken", "wsgi"]
    assert next(line for line in table if line.startswith("streams.piece_by_piece[stream]")).split()[-2:] == [
        "FAIL",
        "pass",
    ]
    assert next(line for line in table if line.startswith("websockets.attributed")).split()[-2:] == ["pass", "n/a"]
    assert table[-1] == "20 cells (10 cases x 2 stacks): 10 pass, 2 FAIL, 8 n/a"
    notes = format_failures(cells)
    assert "FAIL broken: streams.piece_by_piece[stream]\n     Each piece reaches the client" in notes
    assert "n/a  wsgi: 8 cases, WSGI has no WebSockets" in notes
