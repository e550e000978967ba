"""What a case works with: one application of the stack under test, its provider, its ledger and its clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

from turnpike.boundary.admission import Admission, Gate
from turnpike.boundary.keys import Principal
from turnpike.boundary.problem import Problem, problem_from
from turnpike.boundary.rules import RouteRule
from turnpike.control.quota import Quota, Verdict
from turnpike.envelope import LLMRequestEnvelope
from turnpike.errors import QuotaUnavailableError
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike.testing.contract.books import Books
from turnpike.testing.contract.expectations import equal
from turnpike.testing.contract.people import SESSIONS, WEB, Person, key_settings
from turnpike.testing.contract.probes import TIER, whoever
from turnpike.testing.contract.service import Route, route
from turnpike.testing.contract.stack import ContractSetup, Stack
from turnpike.testing.contract.transports import (
    ASGITransport,
    Connection,
    Response,
    Streamed,
    Transport,
    WebSocket,
    WSGITransport,
)
from turnpike.testing.contract.transports.interface import Leaving
from turnpike.testing.fake_provider import FakeAnswer, FakeProvider, FakeRequest
from turnpike.testing.waiting import TIMEOUT_S

__all__ = ["ANSWER", "PIECES", "Bench", "BrokenQuota", "Serve", "open_bench"]

MODEL = "contract-1"
PIECES = ("one ", "two ", "three ", "four")
"""The chunks of every streamed answer."""
ANSWER = "".join(PIECES)

Lines = list[tuple[bytes, bytes]]
Serve = Callable[[Stack, Any], AbstractContextManager[Transport]]
"""Serves an application for the length of a block; servers beyond this process's own transports plug in here."""


class HandClock:
    """A clock that only the case moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        """Seconds that only ``advance`` adds to."""
        return self.now_s

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return 1_700_000_000.0 + self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class BrokenQuota:
    """A quota store that never answers."""

    def take(self, limits: object) -> Verdict:
        """Raise, as a store does that is down."""
        raise QuotaUnavailableError("the contract's quota store is down")


class Bench:
    """One application of the stack under test, ready for requests.

    Attributes:
        stack: the stack.
        settings: the service's settings, as they were written.
        gate: a twin of the application's gate, with counts of its own: what it says is what the application must say.
        provider: the only provider; its answers say who was bound where it was called.
        books: the ledger.
        clock: what the gate reads.
        transport: the way to the application.
    """

    def __init__(
        self, stack: Stack, settings: Mapping[str, Any], gate: Gate, clock: HandClock, timeout_s: float
    ) -> None:
        self.stack = stack
        self.settings = settings
        self.gate = gate
        self.clock = clock
        self.provider = FakeProvider(_say_who, retryable=True, timeout_s=timeout_s)
        self.books = Books(timeout_s=timeout_s)
        self.transport: Transport

    # ------------------------------------------------------------------------------------------------- requests

    def send(
        self, name: str, who: Person | None = WEB, *, headers: Lines | None = None, path: str = "", body: bytes = b""
    ) -> Response:
        """Send a request to the route ``name`` and return the response.

        Args:
            name: of a route in ``ROUTES``.
            who: whose key is sent; ``None`` sends none.
            headers: further header lines.
            path: in place of the route's own, such as one with a query.
            body: the request's body.
        """
        asked = route(name)
        return self.transport.request(asked.method, path or path_of(asked), _lines(who, headers), body)

    def start(self, name: str, who: Person | None = WEB, *, headers: Lines | None = None) -> Future[Response]:
        """Send a request without waiting for the response."""
        asked = route(name)
        return self.transport.start(asked.method, path_of(asked), _lines(who, headers))

    def stream(
        self, name: str, who: Person | None = WEB, *, leaving: Leaving = "told"
    ) -> AbstractContextManager[Streamed]:
        """Send a request and wait for the head of the response."""
        asked = route(name)
        return self.transport.stream(asked.method, path_of(asked), _lines(who, None), leaving=leaving)

    def websocket(
        self, who: Person | None = WEB, *, headers: Lines | None = None, deniable: bool = True
    ) -> AbstractContextManager[WebSocket]:
        """Open the service's WebSocket."""
        return self.transport.websocket(path_of(route("conversation")), _lines(who, headers), deniable=deniable)

    def connection(self, around: AbstractContextManager[object] | None = None) -> AbstractContextManager[_KeptAlive]:
        """Open a connection that is kept alive; the server's own code for it runs within ``around``."""
        return _kept_alive(self.transport.connection(around))

    # ------------------------------------------------------------------------------------------- what is expected

    def admission(self, name: str, who: Person = WEB) -> Admission:
        """Return how the gate itself admits such a request; it counts as much as the application's own gate."""
        return self._admit(route(name), who.headers, None)

    def refusal(self, headers: Lines | None = None, *, name: str = "call", rule: RouteRule | None = None) -> Problem:
        """Return the problem that the gate itself answers such a request with.

        Raises:
            AssertionError: if it admits the request.
        """
        asked = route(name)
        try:
            self._admit(asked, headers or [], rule)
        except Problem as problem:
            return problem
        raise AssertionError(f"the gate admits this request to {asked.path}")

    def _admit(self, asked: Route, headers: Lines, rule: RouteRule | None) -> Admission:
        own = rule if rule is not None else RouteRule(asked.exempt, asked.limits, asked.scopes)
        return self.gate.admit(headers, route=self.stack.template(asked.path), method=asked.method, rule=own)

    def problem_of(self, error: BaseException) -> Problem:
        """Return the problem that ``error`` becomes."""
        problem = problem_from(error)
        if problem is None:
            raise AssertionError(f"{type(error).__name__} becomes no problem")
        return problem

    def nobody_was_asked(self) -> None:
        """Fail if a request has reached the provider, or a call is on the books."""
        equal(len(self.provider.requests), 0, "requests that reached the provider")
        equal(len(self.books.envelopes), 0, "envelopes on the books")

    def envelopes(self, number: int) -> tuple[LLMRequestEnvelope, ...]:
        """Wait for as many envelopes, and return them; one too many fails the case at its end."""
        return self.books.wait_for(number)

    def reconcile(self) -> None:
        """Fail unless each request that reached the provider is one attempt in one envelope, and each call one envelope."""
        envelopes = self.books.envelopes
        attempts = sum(len(envelope.attempts) for envelope in envelopes)
        equal(attempts, len(self.provider.requests), "attempts in envelopes, by the requests that reached the provider")
        ids = [envelope.request_id for envelope in envelopes]
        equal(len(set(ids)), len(ids), "different calls among the envelopes")


class _KeptAlive:
    """A connection that knows the service's routes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, name: str, who: Person | None = WEB) -> Response:
        asked = route(name)
        return self._connection.request(asked.method, path_of(asked), _lines(who, None))

    def whoever(self) -> str:
        """Return who is bound in the server's own code, as ``tenant/caller``; ``nobody`` is right."""
        binding = self._connection.bound()
        return "nobody" if binding is None else f"{binding.context.tenant_id}/{binding.context.caller_id}"


@contextmanager
def _kept_alive(opening: AbstractContextManager[Connection]) -> Iterator[_KeptAlive]:
    with opening as connection:
        yield _KeptAlive(connection)


@contextmanager
def open_bench(
    stack: Stack,
    *,
    settings: Mapping[str, Any],
    identities: bool = False,
    quota: Quota | None = None,
    serve: Serve | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Bench]:
    """Build an application of ``stack`` and serve it for the length of the block; reconcile its books at the end.

    Args:
        stack: the stack under test.
        settings: what differs from the service's ordinary settings.
        identities: whether the application identifies requests by their sessions.
        quota: what counts requests, instead of memory.
        serve: how the application is served; by default in this process.
        timeout_s: how long anything may take that the case waits for, in seconds.
    """
    written = {**_ordinary_settings(stack), **settings}
    chosen, clock = Settings.from_dict(written), HandClock()
    gate = Gate(chosen, quota=quota, clock=clock, has_other_identities=identities)
    twin = Gate(chosen, quota=quota, clock=clock, has_other_identities=identities)
    bench = Bench(stack, written, twin, clock, timeout_s)
    gateway = Gateway(chosen, ledger=bench.books)
    gateway.prices.register(MODEL, 1.0, 2.0)
    gateway.register_provider("fake", bench.provider)
    with ExitStack() as resources:
        resources.callback(gateway.close)
        setup = ContractSetup(
            settings=written,
            gateway=gateway,
            gate=gate,
            identify=_identify if identities else None,
            resources=resources,
        )
        app = stack.build(setup)
        with _served_here(stack, app, timeout_s) if serve is None else serve(stack, app) as transport:
            bench.transport = transport
            yield bench
        bench.reconcile()


@contextmanager
def _served_here(stack: Stack, app: Any, timeout_s: float) -> Iterator[Transport]:
    """Call the application in this process, as a server of its kind does."""
    make = ASGITransport if stack.kind == "asgi" else WSGITransport
    transport: Transport = make(app, timeout_s=timeout_s)
    try:
        yield transport
    except BaseException:
        # What the case has found says more than what its closing meets afterwards.
        with suppress(Exception):
            transport.close()
        raise
    transport.close()


def path_of(asked: Route) -> str:
    """Return the path that requests to a route use."""
    return asked.path.replace("{number}", "7")


def _ordinary_settings(stack: Stack) -> dict[str, Any]:
    return {
        "api_keys": key_settings(),
        "rate_limit": "1000/minute",
        "limits": {"tight": "2/minute"},
        "exempt": [stack.template("/public")],
        "default_policy": {"provider": "fake", "retry_attempts": 0},
        "tiers": {TIER: MODEL},
    }


def _identify(session: str | None) -> Principal | None:
    return None if session is None else SESSIONS.get(session)


def _lines(who: Person | None, headers: Lines | None) -> Lines:
    return [*(who.headers if who is not None else []), *(headers or [])]


def _say_who(request: FakeRequest) -> FakeAnswer:
    return FakeAnswer(chunks=PIECES) if request.streamed else FakeAnswer(text=whoever())
