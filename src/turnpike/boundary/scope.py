"""The scope of one HTTP request: what it was admitted as, and the streams that end with it.

A stream belongs to the request while it is part of its response or was opened in its handler's task. The boundary
finishes those when the request ends, because not every framework closes a response body whose client has left. Streams
of tasks that outlive the request, and those opened under ``turnpike.detached()``, are left alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from turnpike.boundary.admission import Admission
from turnpike.context import Binding, LLMRequestContext, begin_binding, current_context, end_binding
from turnpike.frozen import EMPTY

__all__ = ["ABANDONED", "CLIENT_DISCONNECTED", "REQUEST_FAILED", "RequestScope", "Stream"]

CLIENT_DISCONNECTED = "client_disconnected"
"""The client left before the response was complete."""
ABANDONED = "abandoned"
"""The response was complete, but the stream had not been read to its end."""
REQUEST_FAILED = "request_failed"
"""The application raised before the response was complete."""

_LOG = logging.getLogger(__name__)


class Stream(Protocol):
    """What the scope asks of a stream."""

    def finish(self, reason: str, /) -> None:
        """Settle at once, from any thread; does nothing if the stream has ended."""
        ...


class RequestScope:
    """Owns the streams that are opened while one request is served. Safe to use from any thread."""

    def __init__(self) -> None:
        self.admission: Admission | None = None
        """Set once the request has been admitted, so that it is admitted, and counted, only once."""
        self.end_reason: str | None = None
        """Why the request is ending, as soon as that is known: what a stream that is cancelled meanwhile reports."""
        self._token: contextvars.Token[Binding | None] | None = None
        self._streams: dict[int, tuple[Stream, asyncio.Task[Any] | None]] = {}
        self._lock = threading.Lock()
        self._has_ended = False

    def begin(self, admission: Admission) -> LLMRequestContext:
        """Bind the admitted identity, the route and this scope in the caller's context, until ``finish``.

        For adapters in which no block encloses the handler, the streamed body and the background work. Whoever creates
        the scope restores the context variable afterwards, as ``RequestScopeMiddleware`` does.
        """
        self.admission = admission
        may_call = not admission.is_preflight
        self._token = begin_binding(admission.context, route=admission.route, streams=self, may_call=may_call)
        return current_context()

    @property
    def headers(self) -> Mapping[str, str]:
        """What the response says of the quota; empty unless the request was admitted."""
        return EMPTY if self.admission is None else self.admission.headers

    def add(self, stream: Stream) -> None:
        """Take over ``stream``. After the request's end it is left to whoever opened it."""
        with self._lock:
            if not self._has_ended:
                self._streams[id(stream)] = (stream, _current_task())

    def discard(self, stream: Stream) -> None:
        """Let go of a stream that has ended by itself, so that a long request does not gather them."""
        with self._lock:
            self._streams.pop(id(stream), None)

    def finish(self, reason: str) -> None:
        """Finish all streams that end with this request; every further call does nothing.

        Call it from the task that serves the request, after the response and its background work.
        """
        with self._lock:
            self._has_ended = True
            # What is known of a cause beats what whoever notices the end can see of it.
            self.end_reason = reason = self.end_reason or reason
            streams, self._streams = list(self._streams.values()), {}
            token, self._token = self._token, None
        if token is not None:
            # A middleware may have run the handler in a task of its own: that context is gone, and its binding with it.
            end_binding(token)
        here = _current_task()
        for stream, opener in streams:
            # The framework's own tasks (a streamed body, a middleware) are done by now; one that is not, goes on.
            if opener is None or opener is here or opener.done():
                _finish(stream, reason)


def _finish(stream: Stream, reason: str) -> None:
    try:
        stream.finish(reason)
    except Exception as error:  # noqa: BLE001 - the streams behind it must be finished too
        # The text of an error from a stream may hold a provider's words, so only its type is logged.
        _LOG.error("A stream could not be finished at the request's end: %s", type(error).__name__)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
