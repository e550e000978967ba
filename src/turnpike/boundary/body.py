"""Response bodies that are produced after the handler has returned, still as part of its request.

Each step runs with what was bound where the body was made, because nothing else encloses it; and however the body ends, by
its end, an error or a client that leaves, the request's scope is finished, once. No context variable stays set across a
``yield`` that hands control to the server.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from opentelemetry import context as otel_context

from turnpike.boundary.scope import ABANDONED, CLIENT_DISCONNECTED, REQUEST_FAILED, RequestScope
from turnpike.context import current_binding, restored

__all__ = ["ScopedAsyncBody", "ScopedBody"]

ChunkT = TypeVar("ChunkT")


class _Ending:
    """How a body ends, and the scope that is finished with it."""

    def __init__(self, scope: RequestScope) -> None:
        self._scope = scope
        self._reason = CLIENT_DISCONNECTED

    def complete(self) -> None:
        self._reason = ABANDONED

    def failed(self) -> None:
        self._reason = REQUEST_FAILED

    def announce(self) -> None:
        """Say why the request ends before its body is closed, so that a stream which dies of that can say why."""
        if self._reason is not ABANDONED:
            self._scope.end_reason = self._scope.end_reason or self._reason

    def finish(self) -> None:
        self._scope.finish(self._reason)


class ScopedBody(Generic[ChunkT]):
    """A synchronous body of a request; whoever serves it calls ``close()``, as PEP 3333 demands.

    Args:
        body: what the application returned.
        scope: the request's scope, finished by ``close()``.
        context: where each step runs; by default a copy of the context in which this is made.
    """

    def __init__(self, body: Iterable[ChunkT], scope: RequestScope, context: contextvars.Context | None = None) -> None:
        self._body = body
        self._context = contextvars.copy_context() if context is None else context
        self._iterator: Iterator[ChunkT] | None = None
        self._ending = _Ending(scope)

    def __iter__(self) -> ScopedBody[ChunkT]:
        return self

    def __next__(self) -> ChunkT:
        try:
            if self._iterator is None:
                self._iterator = self._context.run(iter, self._body)
            return self._context.run(next, self._iterator)
        except StopIteration:
            self._ending.complete()
            raise
        except BaseException:
            self._ending.failed()
            raise

    def close(self) -> None:
        """Close the application's body, and end the request."""
        self._ending.announce()
        try:
            if (close := getattr(self._body, "close", None)) is not None:
                self._context.run(close)
        finally:
            self._context.run(self._ending.finish)


class ScopedAsyncBody(Generic[ChunkT]):
    """An asynchronous body of a request. ``aclose()`` ends it in a task, ``close()`` from anywhere.

    Args:
        body: what the application returned.
        scope: the request's scope, finished when the body is closed.
    """

    def __init__(self, body: AsyncIterable[ChunkT], scope: RequestScope) -> None:
        self._iterator: AsyncIterator[ChunkT] = aiter(body)
        self._binding = current_binding()
        self._tracing = otel_context.get_current()
        self._ending = _Ending(scope)

    def __aiter__(self) -> ScopedAsyncBody[ChunkT]:
        return self

    async def __anext__(self) -> ChunkT:
        try:
            with restored(self._binding, self._tracing):
                return await anext(self._iterator)
        except StopAsyncIteration:
            self._ending.complete()
            raise
        except Exception:
            # A cancellation is no failure of the application: it is how servers tell that the client has gone.
            self._ending.failed()
            raise

    async def aclose(self) -> None:
        """Close the application's body, and end the request."""
        self._ending.announce()
        close: Any = getattr(self._iterator, "aclose", None)
        try:
            if close is not None:
                with restored(self._binding, self._tracing):
                    await close()
        finally:
            self._ending.finish()

    def close(self) -> None:
        """End the request, without a chance to wait for the application's body to be closed."""
        self._ending.announce()
        self._ending.finish()
