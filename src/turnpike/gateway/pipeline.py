"""The pipeline of one call, written once: attempts, retries and the reading of answers, over ``Effects``.

Every provider request of the process passes ``_exchange``, ``_ask`` or a ``StreamRun`` here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from opentelemetry import context as otel_context

from turnpike.errors import (
    CallCancelledError,
    ProviderError,
    ProviderProtocolError,
    ProviderTimeoutError,
    TurnpikeError,
    error_of_category,
)
from turnpike.gateway.effects import Effects
from turnpike.gateway.provider_base import WireProvider, WireRequest, WireResponse
from turnpike.gateway.record import Attempt, CallRecord
from turnpike.gateway.result import CallResult, StreamChunk
from turnpike.gateway.retry import next_delay_s
from turnpike.gateway.wire import MalformedAnswerError, WireError

__all__ = ["StreamRun", "run_call"]


async def run_call(record: CallRecord, effects: Effects) -> CallResult:
    """Run an opened call to its answer, and settle it on every way out."""
    try:
        while True:
            attempt = record.begin_attempt()
            error = await _attempt(record, attempt, effects)
            if error is None:
                break
            await _wait_to_retry(record, error, effects)
    except BaseException as error:
        record.settle(error)
        raise
    record.settle()
    return record.result()


async def _attempt(record: CallRecord, attempt: Attempt, effects: Effects) -> Exception | None:
    """Make one attempt inside the call's span; return what failed, if it did."""
    token = otel_context.attach(record.active_context)
    try:
        if record.plan.api is not None:
            await _exchange(record, attempt, effects)
        else:
            await _ask(record, attempt, effects)
    except Exception as error:  # noqa: BLE001
        attempt.end(error)
        return error
    except BaseException as error:
        attempt.end(error)
        raise
    finally:
        otel_context.detach(token)
    attempt.end()
    return None


async def _wait_to_retry(record: CallRecord, error: Exception, effects: Effects) -> None:
    """Wait until the next attempt may be made, or raise ``error`` if there is to be none."""
    delay_s = _retry_delay_s(record, error)
    if delay_s is None:
        raise error
    if delay_s > 0:
        await effects.sleep(delay_s)


def _retry_delay_s(record: CallRecord, error: Exception) -> float | None:
    failures = len(record.attempts)
    if failures > record.plan.retry_attempts or not _is_retryable(record.plan.provider, error):
        return None
    retry_after_s = error.retry_after_s if isinstance(error, ProviderError) else None
    return next_delay_s(failures, retry_after_s, record.remaining_s(), record.rng)


def _is_retryable(provider: Any, error: Exception) -> bool:
    try:
        return provider.is_retryable(error) is True
    except Exception:  # noqa: BLE001
        # A provider's faulty judgement must not hide what went wrong.
        return False


async def _exchange(record: CallRecord, attempt: Attempt, effects: Effects) -> None:
    """Send over a wire provider and read the whole answer within the deadline."""
    provider, name = record.plan.provider, record.plan.provider_name
    timeout_s = _remaining(record)
    reader = attempt.reader
    assert reader is not None, "a wire provider's attempt has a reader"
    try:
        async with effects.deadline(timeout_s):
            response = await effects.send(provider, _request_of(record), timeout_s)
            attempt.accept(response.status)
            try:
                reader.read_json(await _read_body(record, response))
            finally:
                await response.close()
    except Exception as error:  # noqa: BLE001
        raise _to_provider_error(record, attempt, error) from None
    if attempt.answer.error is not None:
        raise _in_band_error(name, attempt.answer.error)


async def _read_body(record: CallRecord, response: WireResponse) -> bytes:
    parts = []
    async for part in response.chunks():
        parts.append(part)
        # A dripping server outlives any timeout of a single read; where nothing interrupts us, this does.
        _remaining(record)
    return b"".join(parts)


def _request_of(record: CallRecord) -> WireRequest:
    request = record.plan.wire_request
    assert request is not None, "a wire provider's request is written before the call is opened"
    return request


def _remaining(record: CallRecord) -> float:
    remaining_s = record.remaining_s()
    if remaining_s <= 0:
        raise ProviderTimeoutError(record.plan.provider_name, "the call's deadline has passed", accepted=False)
    return remaining_s


def _to_provider_error(record: CallRecord, attempt: Attempt, error: Exception) -> Exception:
    """Name a failure of an exchange in our own terms, without the text that the SDK put into its own."""
    name = record.plan.provider_name
    if isinstance(error, TurnpikeError):
        return error
    if isinstance(error, MalformedAnswerError):
        return ProviderProtocolError(name, str(error), accepted=True, status=attempt.http_status, original=error)
    if isinstance(error, TimeoutError):
        detail = f"no complete answer within {record.plan.timeout_s:g} s"
        return ProviderTimeoutError(name, detail, accepted=attempt.accepted, original=error)
    provider: WireProvider = record.plan.provider
    return provider.read_error(error)


def _in_band_error(name: str, error: WireError) -> ProviderError:
    """Return the error that a provider reported inside a successful response."""
    code = error.code or error.type
    detail = "it reported an error in its answer" + (f" ({code})" if code else "")
    return error_of_category(error.category)(name, detail, category=error.category, code=code, accepted=True)


async def _ask(record: CallRecord, attempt: Attempt, effects: Effects) -> None:
    """Ask a provider that answers by means of its own; whatever it raises is passed on as it is."""
    request, provider = record.plan.request, record.plan.provider
    try:
        async with effects.deadline(_remaining(record)):
            response = await effects.complete(provider, request, record.remaining_s())
    except TimeoutError as error:
        raise _own_deadline(record, error) from None
    attempt.accepted = True
    answer = attempt.answer
    text = getattr(response, "text", None)
    answer.add_text(text if isinstance(text, str) else "")
    _take_counts(attempt, response)
    _take_names(attempt, response)
    answer.complete = True


def _own_deadline(record: CallRecord, error: TimeoutError) -> Exception:
    """Tell the call's deadline from a timeout of the provider's own, which is passed on as it is."""
    if record.remaining_s() > 0:
        return error
    detail = f"no complete answer within {record.plan.timeout_s:g} s"
    return ProviderTimeoutError(record.plan.provider_name, detail, original=error)


def _take_counts(attempt: Attempt, source: Any) -> None:
    """Take token counts from a response or event; what is not a count is not known."""
    counts = {}
    for name, key in (("tokens_in", "prompt_tokens"), ("tokens_out", "completion_tokens")):
        value = getattr(source, name, None)
        if type(value) is int and value >= 0:
            counts[key] = value
    if counts:
        attempt.answer.usage = {**(attempt.answer.usage or {}), **counts}


def _take_names(attempt: Attempt, source: Any) -> None:
    reason, model = getattr(source, "finish_reason", None), getattr(source, "response_model", None)
    if isinstance(reason, str):
        attempt.answer.finish(reason, reason)
    if isinstance(model, str):
        attempt.answer.response_model = model


_LAST_BYTES_S = 0.5
"""How long the end of a body is waited for after the provider's last word, in seconds."""


class StreamRun:
    """A streamed call, pulled one chunk at a time.

    It is an object with a ``next`` instead of a generator because a generator that is running cannot be closed, and a
    stream has to be closable at any moment and from anywhere.
    """

    __slots__ = (
        "__weakref__",
        "_effects",
        "_events",
        "_last_pull_s",
        "_pending",
        "_pulling",
        "_response",
        "record",
        "result",
    )

    def __init__(self, record: CallRecord, effects: Effects) -> None:
        self.record: CallRecord = record
        self.result: CallResult | None = None
        self._effects = effects
        self._pending: deque[StreamChunk] = deque()
        self._response: WireResponse | None = None
        self._events: AsyncIterator[Any] | None = None
        self._pulling = False
        self._last_pull_s: float | None = None

    async def next(self) -> StreamChunk:
        """Return the next chunk.

        Raises:
            StopAsyncIteration: at the end of the answer.
            CallCancelledError: if the stream was closed from elsewhere.
            ProviderError: if the provider failed.
        """
        if not self._pending:
            await self.fill()
        try:
            return self._pending.popleft()
        except IndexError:
            # finish() came from another thread in between and has dropped what was waiting.
            raise self._ended() from None

    async def fill(self) -> None:
        """Bring in at least one chunk, without handing it out; errors as for ``next``."""
        if self._pending:
            return
        if self.record.is_settled:
            await self._close_source()
            raise self._ended()
        if self._pulling:
            raise RuntimeError("this stream is being read by another task or thread already")
        self._pulling = True
        self._count_consumer_time()
        try:
            while not self._pending:
                await self._pull()
        except BaseException as error:
            await self._fail(error)
            raise
        finally:
            self._pulling = False
            self._last_pull_s = self.record.now_s()

    def _ended(self) -> Exception:
        if self.result is not None:
            return StopAsyncIteration()
        return CallCancelledError("the stream was closed before its answer was complete")

    def _count_consumer_time(self) -> None:
        if self._last_pull_s is not None:
            self.record.consumer_s += max(0.0, self.record.now_s() - self._last_pull_s)

    async def _pull(self) -> None:
        """Bring in at least one event, beginning or repeating the request where needed."""
        attempt = self.record.attempts[-1] if self._events is not None else self.record.begin_attempt()
        # A body that is being read starts no spans, so only sending needs ours; a provider's own generator may do anything.
        needs_span = self._events is None or attempt.reader is None
        token = otel_context.attach(self.record.active_context) if needs_span else None
        try:
            if self._events is None:
                await self._start(attempt)
            await self._read(attempt)
        except Exception as failure:  # noqa: BLE001
            if self.record.is_settled:
                # finish() was called meanwhile and has shut the socket: what broke here is only the sound of it.
                raise self._ended() from None
            error = self._name_failure(attempt, failure)
            attempt.end(error)
            await self._close_source()
            if self.record.first_token_s is not None:
                raise error from None
        else:
            return
        finally:
            if token is not None:
                otel_context.detach(token)
        await _wait_to_retry(self.record, error, self._effects)

    def _name_failure(self, attempt: Attempt, failure: Exception) -> Exception:
        if attempt.reader is not None:
            return _to_provider_error(self.record, attempt, failure)
        return _own_deadline(self.record, failure) if isinstance(failure, TimeoutError) else failure

    async def _start(self, attempt: Attempt) -> None:
        plan, effects = self.record.plan, self._effects
        timeout_s = _remaining(self.record)
        if attempt.reader is None:
            self._events = aiter(effects.events(plan.provider, plan.request, timeout_s))
            return
        async with effects.deadline(timeout_s):
            self._response = await effects.send(plan.provider, _request_of(self.record), timeout_s)
        attempt.accept(self._response.status)
        if self.record.is_settled:
            raise self._ended()
        self._events = self._response.chunks()

    async def _read(self, attempt: Attempt) -> None:
        events = self._events
        assert events is not None, "reading begins after the start"
        if attempt.reader is not None and (attempt.answer.complete or attempt.answer.error is not None):
            await self._read_rest(events)
            await self._finish(attempt)
            return
        try:
            _remaining(self.record)
            event = await self._effects.read(events, self.record.remaining_s)
        except StopAsyncIteration:
            await self._finish(attempt)
            return
        if self.record.is_settled:
            raise self._ended()
        if attempt.reader is None:
            self._take_event(attempt, event)
        else:
            self._add_texts(attempt.reader.feed(event))

    async def _read_rest(self, events: AsyncIterator[Any]) -> None:
        """Read to the end of a body in which the provider has said its last word: only to keep the connection usable.

        How the body ends, or whether it ever does, changes nothing of a complete and paid answer.
        """
        try:
            async with self._effects.deadline(_LAST_BYTES_S):
                async for _ in events:
                    continue
        except Exception:  # noqa: BLE001
            return

    def _add_texts(self, texts: list[str]) -> None:
        if texts:
            self.record.note_first_token()
            self._pending.extend([StreamChunk(text) for text in texts])

    def _take_event(self, attempt: Attempt, event: Any) -> None:
        attempt.accepted = True
        _take_counts(attempt, event)
        _take_names(attempt, event)
        delta = getattr(event, "delta", "")
        if isinstance(delta, str) and delta:
            attempt.answer.add_text(delta)
            self._add_texts([delta])

    async def _finish(self, attempt: Attempt) -> None:
        """Take in the end of the stream: it is an answer only if the provider said its last word."""
        answer = attempt.answer
        if attempt.reader is None:
            attempt.accepted = True
            answer.complete = True
        else:
            self._add_texts(attempt.reader.finish())
            if answer.error is not None:
                raise _in_band_error(self.record.plan.provider_name, answer.error)
            if not answer.complete:
                raise ProviderProtocolError(
                    self.record.plan.provider_name, "the stream ended before the answer was complete", accepted=True
                )
        attempt.end()
        await self._close_source()
        self.record.settle()
        self.result = self.record.result()
        self._pending.append(StreamChunk("", self.result.finish_reason))

    async def _fail(self, error: BaseException) -> None:
        if isinstance(error, StopAsyncIteration):
            return
        self.record.settle(error, finish_reason=self._reason_of(error))
        if isinstance(error, Exception):
            await self._close_source()
        else:
            self.close_later()

    def _reason_of(self, error: BaseException) -> str | None:
        if isinstance(error, Exception):
            return None
        scope = self.record.plan.scope
        return getattr(scope, "end_reason", None) or "cancelled"

    def finish(self, reason: str) -> None:
        """Settle the call now and shut the connection, from any task or thread; chunks that wait are dropped."""
        if self.record.is_settled:
            return
        self.record.settle(CallCancelledError(reason), finish_reason=reason)
        self._pending.clear()
        if self._response is not None:
            with suppress(Exception):  # the call is settled; failing to hang up changes nothing of that
                self._response.abort()
        if not self._pulling:
            self.close_later()

    async def close(self, reason: str) -> None:
        """Settle the call if it is open, and give the connection back."""
        self.finish(reason)
        if not self._pulling:
            await self._close_source()

    def close_later(self) -> None:
        """Have the source closed soon, where it cannot be awaited."""
        if self._events is not None or self._response is not None:
            self._effects.later(self._close_source())

    async def _close_source(self) -> None:
        self._effects.stop_reading()
        events, self._events = self._events, None
        response, self._response = self._response, None
        try:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
            if response is not None:
                await response.close()
        except Exception:  # noqa: BLE001
            # The call is settled or about to be; a failure to hang up changes nothing of it.
            pass
