"""Streams: one type to iterate with ``async for``, one with ``for``, over one stream run.

They are two types on purpose: an object with both protocols is read differently by each framework, and the wrong choice
buffers the whole answer. No span and no context token is held while a consumer has control.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

import msgspec

from turnpike.envelope import LLMRequestEnvelope
from turnpike.errors import ProviderError
from turnpike.gateway.effects import run_sync
from turnpike.gateway.pipeline import StreamRun
from turnpike.gateway.result import CallResult, StreamChunk

__all__ = ["GatewayStream", "GatewayStreamSync"]

ABANDONED = "abandoned"
"""Finish reason of a stream that its consumer stopped reading."""


class _StreamBase:
    """What both kinds of stream can say and do without iterating."""

    def __init__(self, run: StreamRun) -> None:
        self._run = run

    @property
    def request_id(self) -> str:
        """The call's id, as it stands on the envelope."""
        return self._run.record.plan.request_id

    @property
    def envelope(self) -> LLMRequestEnvelope | None:
        """The call's envelope, once it has ended in any way."""
        return self._run.record.envelope

    @property
    def result(self) -> CallResult:
        """The whole answer, once the stream has been read to its end.

        Raises:
            RuntimeError: before that, and if the stream failed or was closed early.
        """
        result = self._run.result
        if result is None:
            raise RuntimeError("the stream has no result until it has been read to its end")
        return result

    def finish(self, reason: str = ABANDONED) -> None:
        """Settle the call at once and shut its connection. Safe from any task or thread, and when already ended.

        Args:
            reason: finish reason for the envelope, such as ``client_disconnected``.
        """
        self._run.finish(reason)
        self._leave_scope()

    def join_scope(self) -> None:
        """Belong to the request the stream was opened in, which ends it if the request ends first."""
        scope = self._run.record.plan.scope
        if scope is not None:
            scope.add(self)

    def _leave_scope(self) -> None:
        scope = self._run.record.plan.scope
        if scope is not None:
            scope.discard(self)

    def _leave_scope_if_ended(self) -> None:
        if self._run.record.is_settled:
            self._leave_scope()

    def _cause(self) -> str:
        """Return why a stream that is closed now ends: because its request does, if it does."""
        return getattr(self._run.record.plan.scope, "end_reason", None) or ABANDONED

    def _begin(self) -> None:
        if self._run.result is not None:
            raise RuntimeError("this stream has been read to its end and cannot be read again; its text is in .result")

    def __del__(self) -> None:
        run = getattr(self, "_run", None)
        if run is not None and not run.record.is_settled:
            run.record.settle_from_finalizer(self._cause())

    def __repr__(self) -> str:
        state = "ended" if self._run.record.is_settled else "open"
        return f"<{type(self).__name__} {self.request_id} {state}>"


def _event(chunk: StreamChunk) -> bytes:
    """Return a chunk as one server-sent event whose data is JSON."""
    data: dict[str, Any] = {"delta": chunk.delta}
    if chunk.finish_reason is not None:
        data["finish_reason"] = chunk.finish_reason
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


class GatewayStream(_StreamBase):
    """A streamed answer for asynchronous code: ``async for chunk in stream``.

    Leaving the loop early keeps the call open; ``async with stream:`` or ``await stream.aclose()`` ends it. A stream that
    is dropped, or still open when its HTTP request ends, is settled then.
    """

    def __aiter__(self) -> GatewayStream:
        self._begin()
        return self

    async def __anext__(self) -> StreamChunk:
        try:
            return await self._run.next()
        except BaseException:
            self._leave_scope_if_ended()
            raise

    async def start(self) -> Self:
        """Send the request and wait for the first piece, so that a failure can still become an error response.

        Raises:
            ProviderError: if the provider failed before its answer began.
        """
        await self._run.fill()
        return self

    async def aclose(self) -> None:
        """End the call, if it is open, and give its connection back."""
        await self._run.close(self._cause())
        self._leave_scope()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def text(self) -> AsyncIterator[str]:
        """Return the pieces of text, for responses that take an asynchronous iterator of ``str``."""
        return _AsyncPieces(self, str)

    def sse(self) -> AsyncIterator[bytes]:
        """Return server-sent events whose data is ``{"delta": ...}``, with ``finish_reason`` on the last.

        If the provider fails midway, the last event is named ``error`` and says what kind of failure it was: by then the
        response has begun and its status cannot tell any more.
        """
        return _AsyncPieces(self, _event, _error_event)


def _error_event(error: ProviderError) -> bytes:
    """Return a failure as one server-sent event, without anything that the provider has said about it."""
    data = {"type": error.problem_type, "title": error.title, "category": error.category}
    return b"event: error\ndata: " + msgspec.json.encode(data) + b"\n\n"


class _Pieces:
    """A stream seen through a function, and its failure through another; closing the view closes the stream."""

    def __init__(self, stream: Any, form: Any, form_of_error: Any = None) -> None:
        self._stream = stream
        self._form = form
        self._form_of_error = form_of_error
        self._has_failed = False

    def _last_piece(self, error: ProviderError) -> Any:
        if self._form_of_error is None:
            raise error
        self._has_failed = True
        return self._form_of_error(error)


class _AsyncPieces(_Pieces):
    def __aiter__(self) -> _AsyncPieces:
        return self

    async def __anext__(self) -> Any:
        if self._has_failed:
            raise StopAsyncIteration
        try:
            while not (piece := self._form(await self._stream.__anext__())):
                continue
        except ProviderError as error:
            return self._last_piece(error)
        return piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class GatewayStreamSync(_StreamBase):
    """A streamed answer for synchronous code: ``for chunk in stream``."""

    def __iter__(self) -> GatewayStreamSync:
        self._begin()
        return self

    def __next__(self) -> StreamChunk:
        try:
            return run_sync(self._run.next())
        except StopAsyncIteration:
            self._leave_scope()
            raise StopIteration from None
        except BaseException:
            self._leave_scope_if_ended()
            raise

    def start(self) -> Self:
        """Send the request and wait for the first piece, so that a failure can still become an error response.

        Raises:
            ProviderError: if the provider failed before its answer began.
        """
        run_sync(self._run.fill())
        return self

    def close(self) -> None:
        """End the call, if it is open, and give its connection back."""
        run_sync(self._run.close(self._cause()))
        self._leave_scope()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def text(self) -> Iterator[str]:
        """Return the pieces of text, for responses that take an iterator of ``str``."""
        return _SyncPieces(self, str)

    def sse(self) -> Iterator[bytes]:
        """Return server-sent events; see ``GatewayStream.sse``."""
        return _SyncPieces(self, _event, _error_event)


class _SyncPieces(_Pieces):
    def __iter__(self) -> _SyncPieces:
        return self

    def __next__(self) -> Any:
        if self._has_failed:
            raise StopIteration
        try:
            while not (piece := self._form(next(self._stream))):
                continue
        except ProviderError as error:
            return self._last_piece(error)
        return piece

    def close(self) -> None:
        self._stream.close()
