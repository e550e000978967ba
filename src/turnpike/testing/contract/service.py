"""The specification of the contract service: which routes a stack serves, under which rules, and what each does.

A stack file is wiring. For each route of ``ROUTES`` it makes a handler of its own style, which reaches gateway and context
as the stack's users do, hands them to the route as a ``Call``, and answers with what the route returns:

=============  ======================================================================================================
``json``       answer with the mapping that ``await route.answer(call)`` returns, in the framework's most ordinary way
``response``   the same, in a response object made by the handler: status 201 and ``OWN_HEADER`` beside the JSON
``stream``     answer with a streamed response over ``route.body(call)``, media type ``STREAM_MEDIA_TYPE``
``background`` as ``json``; and have the framework run ``route.afterwards(call)`` once the response has been sent
``websocket``  accept, then ``await route.converse(call, receive, send)``; ``receive`` returns a text message, or ``None``
               once the client has left
=============  ======================================================================================================

Handlers that are plain functions use ``answer_sync``, ``body_sync`` and ``afterwards_sync``. ``Route.mark`` puts the
adapter's own decorators on a handler. A handler catches nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from turnpike.testing.contract import probes
from turnpike.testing.contract.probes import AsyncWays, Call, SyncWays, Ways, drive

__all__ = ["OWN_HEADER", "ROUTES", "SESSION_HEADER", "STREAM_MEDIA_TYPE", "Call", "Route", "route"]

OWN_HEADER = ("X-Contract", "own")
"""The header that the handler of a ``response`` route sets itself."""
SESSION_HEADER = "X-Contract-Session"
"""The header from which an application with identities of its own learns who is asking."""
STREAM_MEDIA_TYPE = "text/event-stream"
"""Media type of streamed responses."""

HandlerT = TypeVar("HandlerT")
Mark = Callable[[Any], Any]
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """One route of the service.

    Attributes:
        name: a Python identifier, for handlers and route names.
        method: the HTTP method; ``GET`` for the WebSocket.
        path: the path, with ``{number}`` where an integer stands. Stacks write it in their own syntax.
        kind: how the handler answers; see the module's text.
        does: what the route is for, in a few words.
        exempt: whether the handler is marked as open to everyone. All others are guarded.
        limits: names of limits that the handler is marked with.
        scopes: scopes that the handler is marked with.
    """

    name: str
    method: str
    path: str
    kind: Literal["json", "response", "stream", "background", "websocket"]
    does: str
    exempt: bool = False
    limits: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    _answer: Callable[[Call, Callable[[Call], Ways]], Awaitable[Json]] = probes.ask
    _body: Callable[[Call], AsyncIterator[bytes]] = probes.stream_of_handler
    _body_sync: Callable[[Call], Iterator[bytes]] = probes.stream_of_handler_sync

    def mark(
        self, handler: HandlerT, *, exempt: Mark, limit: Callable[[str], Mark], requires: Callable[..., Mark]
    ) -> HandlerT:
        """Return ``handler`` with the marks of this route, put on by the decorators that the adapter exports."""
        marks: list[Mark] = [limit(name) for name in self.limits]
        if self.exempt:
            marks.append(exempt)
        if self.scopes:
            marks.append(requires(*self.scopes))
        for mark in marks:
            handler = mark(handler)
        return handler

    async def answer(self, call: Call) -> Json:
        """Do what the route does, in an ``async def`` handler, and return what to answer."""
        return await self._answer(call, AsyncWays)

    def answer_sync(self, call: Call) -> Json:
        """Do what the route does, in a plain handler, and return what to answer."""
        return drive(_awaited(self._answer(call, SyncWays)))

    def body(self, call: Call) -> AsyncIterator[bytes]:
        """Return the pieces of a streamed response, for stacks that take an asynchronous iterator."""
        return self._body(call)

    def body_sync(self, call: Call) -> Iterator[bytes]:
        """Return the pieces of a streamed response, for stacks that take an iterator."""
        return self._body_sync(call)

    async def afterwards(self, call: Call) -> None:
        """Make a call after the response has been sent, in asynchronous background work."""
        await AsyncWays(call).ask()

    def afterwards_sync(self, call: Call) -> None:
        """Make a call after the response has been sent, in plain background work."""
        drive(SyncWays(call).ask())

    async def converse(
        self, call: Call, receive: Callable[[], Awaitable[str | None]], send: Callable[[str], Awaitable[None]]
    ) -> None:
        """Answer the messages of a WebSocket until its client leaves."""
        await probes.converse(call, receive, send)


async def _awaited(answer: Awaitable[Json]) -> Json:
    return await answer


ROUTES: tuple[Route, ...] = (
    Route(
        name="open",
        method="GET",
        path="/open",
        kind="json",
        exempt=True,
        does="open to everyone by its mark; says who is bound",
        _answer=probes.report,
    ),
    Route(
        name="public",
        method="GET",
        path="/public",
        kind="json",
        does="guarded, and open to everyone by the settings; says who is bound",
        _answer=probes.report,
    ),
    Route(
        name="call",
        method="POST",
        path="/call/{number}",
        kind="json",
        does="makes one call; the one route with a parameter",
    ),
    Route(
        name="own_response",
        method="POST",
        path="/own-response",
        kind="response",
        does="makes one call and answers with a response object of its own",
    ),
    Route(
        name="nested",
        method="POST",
        path="/nested",
        kind="json",
        does="makes calls in a function below the handler, and in a task or thread that it starts",
        _answer=probes.ask_below,
    ),
    Route(
        name="threads",
        method="POST",
        path="/threads",
        kind="json",
        does="makes calls in a pool's threads through turnpike.propagate",
        _answer=probes.ask_in_threads,
    ),
    Route(
        name="background",
        method="POST",
        path="/background",
        kind="background",
        does="makes one call, and another after the response",
    ),
    Route(
        name="thread_outlives",
        method="POST",
        path="/outlives/thread",
        kind="json",
        does="leaves a detached thread behind that reads a stream after the response",
        _answer=probes.outlive_in_thread,
    ),
    Route(
        name="task_outlives",
        method="POST",
        path="/outlives/task",
        kind="json",
        does="leaves a task behind that reads a stream after the response",
        _answer=probes.outlive_in_task,
    ),
    Route(
        name="stream",
        method="POST",
        path="/stream",
        kind="stream",
        does="streams an answer that the handler has opened",
    ),
    Route(
        name="stream_late",
        method="POST",
        path="/stream/late",
        kind="stream",
        does="streams an answer that the body opens",
        _body=probes.stream_of_body,
        _body_sync=probes.stream_of_body_sync,
    ),
    Route(
        name="stream_steps",
        method="POST",
        path="/stream/steps",
        kind="stream",
        does="makes a call at each step of a streamed body",
        _body=probes.ask_at_each_step,
        _body_sync=probes.ask_at_each_step_sync,
    ),
    Route(
        name="stream_fails",
        method="POST",
        path="/stream/fails",
        kind="stream",
        does="raises after the first piece of a streamed answer",
        _body=probes.fail_in_body,
        _body_sync=probes.fail_in_body_sync,
    ),
    Route(
        name="unread",
        method="POST",
        path="/unread",
        kind="json",
        does="opens a stream and never reads it",
        _answer=probes.leave_unread,
    ),
    Route(
        name="fails",
        method="POST",
        path="/fails",
        kind="json",
        does="opens a stream and raises",
        _answer=probes.fail_with_open_stream,
    ),
    Route(
        name="tight",
        method="POST",
        path="/tight",
        kind="json",
        limits=("tight",),
        does="makes one call under the further limit 'tight'",
    ),
    Route(
        name="scoped",
        method="POST",
        path="/scoped",
        kind="json",
        scopes=("reports:read",),
        does="makes one call for whoever may read reports",
    ),
    Route(
        name="preflight",
        method="OPTIONS",
        path="/preflight",
        kind="json",
        does="answers OPTIONS itself, and tries to make a call",
    ),
    Route(
        name="conversation",
        method="GET",
        path="/conversation",
        kind="websocket",
        does="makes one call for each message of a WebSocket",
    ),
)
"""The routes of the service. Every other path is answered by the framework itself."""


def route(name: str) -> Route:
    """Return the route called ``name``."""
    return next(item for item in ROUTES if item.name == name)
