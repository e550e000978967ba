"""What a case works with: one application of the stack under test, its provider, its ledger and its clock."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager

from turnpike.boundary.admission import Admission, Gate
from turnpike.boundary.problem import Problem, problem_from
from turnpike.boundary.rules import RouteRule
from turnpike.control.quota import Verdict
from turnpike.envelope import LLMRequestEnvelope
from turnpike.errors import QuotaUnavailableError
from turnpike.testing.contract.books import Books
from turnpike.testing.contract.clock import HandClock
from turnpike.testing.contract.expectations import equal
from turnpike.testing.contract.people import WEB, Person
from turnpike.testing.contract.service import Route, route
from turnpike.testing.contract.stack import Stack
from turnpike.testing.contract.transports import Connection, Response, Streamed, Transport, WebSocket
from turnpike.testing.contract.transports.interface import Leaving
from turnpike.testing.fake_provider import FakeProvider

__all__ = ["ANSWER", "PIECES", "Bench", "BrokenQuota", "Lines"]

PIECES = ("one ", "two ", "three ", "four")
"""The chunks of every streamed answer."""
ANSWER = "".join(PIECES)

Lines = list[tuple[bytes, bytes]]


class BrokenQuota:
    """A quota store that never answers."""

    def take(self, limits: object) -> Verdict:
        """Raise, as a store does that is down."""
        raise QuotaUnavailableError("the contract's quota store is down")


class Bench:
    """One application of the stack under test, ready for requests.

    Attributes:
        stack: the stack.
        gate: a twin of the application's gate, with counts of its own: what it says is what the application must say.
        provider: the only provider; its answers say who was bound where it was called.
        books: the ledger.
        clock: what the gate reads.
        transport: the way to the application.
    """

    def __init__(
        self, *, stack: Stack, gate: Gate, provider: FakeProvider, books: Books, clock: HandClock, transport: Transport
    ) -> None:
        self.stack = stack
        self.gate = gate
        self.provider = provider
        self.books = books
        self.clock = clock
        self.transport = transport

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


def path_of(asked: Route) -> str:
    """Return the path that requests to a route use."""
    return asked.path.replace("{number}", "7")


def _lines(who: Person | None, headers: Lines | None) -> Lines:
    return [*(who.headers if who is not None else []), *(headers or [])]
