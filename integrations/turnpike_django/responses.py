"""The end of a request: when its response is closed, whether the client has read it or has gone.

A streamed body runs step by step with what was bound in the view, and so does whatever closes it. Nothing here is kept on
a response that Django may cache.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from opentelemetry import context as otel_context

from turnpike.boundary.body import ScopedAsyncBody, ScopedBody
from turnpike.boundary.scope import ABANDONED, CLIENT_DISCONNECTED, REQUEST_FAILED, RequestScope
from turnpike.context import current_binding, restored

__all__ = ["end_with"]

_END: Any = object()


def end_with(response: HttpResponseBase, request: HttpRequest, scope: RequestScope) -> None:
    """Announce the quota in ``response``, and have the request's scope end with it.

    Call it where the request's identity is bound.
    """
    for name, value in scope.headers.items():
        response.headers.setdefault(name, value)
    if scope.admission is None:
        return  # no view was asked, so nobody was bound and nothing can have been opened
    if isinstance(response, StreamingHttpResponse) and getattr(response, "file_to_stream", None) is None:
        body = _scoped(response, scope, is_asgi=hasattr(request, "scope"))
        response.streaming_content = body
        response.close = _bound(response.close, body)  # type: ignore[method-assign]
    # Django has every response close its request, and leaves the response itself as it is: a cache may pickle that.
    request.close = _finishing(request.close, scope)  # type: ignore[method-assign]


def _finishing(close: Callable[[], None], scope: RequestScope) -> Callable[[], None]:
    def close_and_finish() -> None:
        close()
        # In a copy of the context, because the middleware has undone the binding in this one already.
        contextvars.copy_context().run(scope.finish, ABANDONED)

    return close_and_finish


# ------------------------------------------------------------------------------------------------------- bodies


def _scoped(response: StreamingHttpResponse, scope: RequestScope, *, is_asgi: bool) -> ScopedBody[Any] | _AsyncBody:
    # The view's own iterator: Django's wrappers around it would not pass a close() on.
    iterator: Any = getattr(response, "_iterator", response.streaming_content)
    if response.is_async:
        return _AsyncBody(iterator, scope)
    return _AsyncBody(_InThread(iterator, scope), scope) if is_asgi else ScopedBody(iterator, scope)


def _bound(close: Callable[[], None], body: ScopedBody[Any] | _AsyncBody) -> Callable[[], None]:
    """Return a ``close`` for the response that closes the body first, with what is bound now."""
    binding, tracing = current_binding(), otel_context.get_current()

    def close_bound() -> None:
        with restored(binding, tracing):
            try:
                body.close()
            finally:
                close()

    return close_bound


class _AsyncBody(ScopedAsyncBody[Any]):
    """A body that ends its request when it fails, for Django does not close a response that it could not send."""

    def __init__(self, body: Any, scope: RequestScope) -> None:
        super().__init__(body, scope)
        self._own_scope = scope
        self._has_ended = False

    async def __anext__(self) -> Any:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self._has_ended = True
            raise
        except Exception:
            self._has_ended = True
            self._own_scope.finish(REQUEST_FAILED)
            raise

    def close(self) -> None:
        """End the request. Django calls this in a thread beside its event loop, on which the body itself is closed."""
        if self._has_ended or _in_event_loop():
            super().close()
        else:
            self._has_ended = True
            async_to_sync(self.aclose)()


class _InThread:
    """An iterator as an asynchronous one: each step is made in the request's thread.

    Django itself would read the whole body before it sends the first piece.
    """

    def __init__(self, iterator: Iterator[Any], scope: RequestScope) -> None:
        self._iterator = iterator
        self._scope = scope

    def __aiter__(self) -> _InThread:
        return self

    async def __anext__(self) -> Any:
        step = asyncio.ensure_future(sync_to_async(self._step)())
        try:
            piece = await asyncio.shield(step)
        except asyncio.CancelledError:
            # The client has gone. A thread cannot be cancelled; what it reads from can be shut.
            self._scope.finish(CLIENT_DISCONNECTED)
            with suppress(Exception):
                await step
            raise
        if piece is _END:
            raise StopAsyncIteration
        return piece

    def _step(self) -> Any:
        return next(self._iterator, _END)

    async def aclose(self) -> None:
        """Close the iterator, if it can be closed."""
        if (close := getattr(self._iterator, "close", None)) is not None:
            await sync_to_async(close)()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
