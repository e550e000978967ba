"""WebSockets are admitted at the handshake, once, and bound to their sender until they end."""

from __future__ import annotations

from turnpike.testing.contract.bench import Bench
from turnpike.testing.contract.expectations import check, equal, one, same_problem, whose
from turnpike.testing.contract.people import BETA, WEB
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.service import route
from turnpike.testing.contract.stack import Feature

_WS = Feature.WEBSOCKETS


@case(_WS, each={"without a key": ([],), "with two keys": ([*WEB.headers, *BETA.headers],)})
def denied(bench: Bench, headers: list[tuple[bytes, bytes]]) -> None:
    """A handshake without exactly one known key is answered with the same 401 as any other request."""
    with bench.websocket(None, headers=headers) as socket:
        check(socket.denial is not None, "the WebSocket was accepted")
        if socket.denial is not None and (bench.transport.is_in_process or socket.denial.body):
            same_problem(socket.denial, bench.refusal(name="conversation"))
    bench.nobody_was_asked()


@case(_WS, needs_process=True)
def denied_where_no_response_can_be_sent(bench: Bench) -> None:
    """Where the server cannot send a response in place of the handshake, the WebSocket is closed before it is accepted."""
    with bench.websocket(None, deniable=False) as socket:
        check(socket.denial is not None, "the WebSocket was accepted")
    bench.nobody_was_asked()


@case(_WS)
def attributed(bench: Bench) -> None:
    """Every call made for a WebSocket's messages is its sender's, under the route's template."""
    with bench.websocket(WEB) as socket:
        equal(socket.denial, None, "denial")
        equal(
            [socket.ask("one"), socket.ask("two")],
            [f"{text}: {WEB.name} {WEB.name}" for text in ("one", "two")],
            "answers",
        )
        socket.leave()
    envelopes = bench.envelopes(2)
    equal([whose(envelope) for envelope in envelopes], [WEB.name] * 2, "who the envelopes name")
    template = bench.stack.template(route("conversation").path)
    equal({envelope.route for envelope in envelopes}, {template}, "route templates of the envelopes")


@case(_WS)
def of_two_tenants(bench: Bench) -> None:
    """WebSockets of two tenants that are open at the same time stay their senders'."""
    with bench.websocket(WEB) as mine, bench.websocket(BETA) as theirs:
        for _ in range(3):
            equal(mine.ask("x"), f"x: {WEB.name} {WEB.name}", "an answer")
            equal(theirs.ask("x"), f"x: {BETA.name} {BETA.name}", "an answer")
    equal(sorted(whose(envelope) for envelope in bench.envelopes(6)), [WEB.name] * 3 + [BETA.name] * 3, "envelopes")


@case(_WS)
def with_a_stream_left_open(bench: Bench) -> None:
    """A stream that is open when the client leaves is one envelope that says so."""
    with bench.websocket(WEB) as socket:
        equal(socket.ask("stream"), "one ", "the first piece")
        equal(len(bench.books.envelopes), 0, "envelopes while the WebSocket is open")
        socket.leave()
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.finish_reason, whose(envelope)), ("client_disconnected", WEB.name), "how the envelope ended")
    bench.provider.wait_idle()
    equal(bench.provider.requests[0].ending, "closed", "how the provider's stream ended")


@case(_WS, settings={"rate_limit": "1/minute"})
def counted_once(bench: Bench) -> None:
    """A WebSocket is one request however long it lasts; its handshake announces the quota, and beyond it is refused."""
    expected = bench.admission("conversation").headers
    with bench.websocket(WEB) as socket:
        for _ in range(3):
            socket.ask("x")
        for name, value in expected.items():
            equal([found for key, found in socket.headers if key == name.lower()], [value], f"header {name}")
    with bench.websocket(WEB) as socket:
        check(socket.denial is not None, "a WebSocket beyond the limit was accepted")
        if socket.denial is not None and (bench.transport.is_in_process or socket.denial.body):
            same_problem(socket.denial, bench.refusal(WEB.headers, name="conversation"))


@case(_WS)
def and_the_next_request(bench: Bench) -> None:
    """A request after a WebSocket has ended is served as its own sender's."""
    with bench.websocket(WEB) as socket:
        socket.ask("x")
    equal(bench.send("call", BETA).json()["text"], BETA.name, "who is bound in the next request")
    equal(bench.send("open", None).json()["bound"], "nobody", "who is bound on an open route")
