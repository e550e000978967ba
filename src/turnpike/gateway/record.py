"""The life of one call as plain steps: open, attempt (once or more), settle.

``CallRecord`` sends nothing and awaits nothing. Drivers do that around it: ``call``, ``stream`` and their synchronous
forms here, an SDK transport elsewhere; a driver may open a record in one function and settle it in another. ``settle``
runs to its end whatever happens, and only once: the first caller wins.
"""

from __future__ import annotations

import logging
import random
import threading

from opentelemetry import baggage, trace
from opentelemetry.context import Context

from turnpike.clock import utc_stamp
from turnpike.envelope import LLMRequestEnvelope
from turnpike.errors import CallCancelledError, ProviderError
from turnpike.gateway.attempt import Attempt, CallPlan
from turnpike.gateway.bookkeeping import price_attempt, safe_envelope_values
from turnpike.gateway.result import CallResult
from turnpike.gateway.services import Services
from turnpike.gateway.telemetry import SpanStart
from turnpike.gateway.wire import reader_for
from turnpike.ledger.line import encode_line, ledger_line

__all__ = ["Attempt", "CallPlan", "CallRecord"]

_log = logging.getLogger("turnpike.gateway")


class CallRecord:
    """One call, from its opening to its one terminal envelope."""

    __slots__ = (
        "_generation",
        "_lock",
        "_opened_s",
        "_services",
        "_span",
        "_span_start",
        "active_context",
        "attempts",
        "consumer_s",
        "envelope",
        "first_token_s",
        "opened_at",
        "plan",
    )

    def __init__(self, plan: CallPlan, services: Services) -> None:
        self.plan: CallPlan = plan
        self._services = services
        self._generation = services.generation
        self._lock = threading.Lock()
        self.attempts: list[Attempt] = []
        self.envelope: LLMRequestEnvelope | None = None
        self.first_token_s: float | None = None
        self.consumer_s: float = 0.0
        """Seconds that a stream has waited for its consumer: no part of the provider's latency."""

    # ------------------------------------------------------------------------------------------------- open

    def open(self, parent: Context) -> None:
        """Start the clock and the span. ``parent`` is the OpenTelemetry context in which the call was made."""
        plan, clock = self.plan, self._services.clock
        self.opened_at: float = clock.time()
        self._opened_s = clock.monotonic()
        self._span_start = _span_start(plan)
        self._span = self._services.telemetry.start(self._span_start, parent)
        # The provider must not see the application's baggage: it may name tenants and users.
        base = baggage.clear(parent) if baggage.get_all(parent) else parent
        self.active_context: Context = trace.set_span_in_context(self._span, base)

    def remaining_s(self) -> float:
        """Return the time left of the call's deadline, in seconds; time spent by a stream's consumer does not count."""
        spent = self._services.clock.monotonic() - self._opened_s - self.consumer_s
        return self.plan.timeout_s - spent

    def now_s(self) -> float:
        """Return the gateway's monotonic time, in seconds."""
        return self._services.clock.monotonic()

    @property
    def rng(self) -> random.Random:
        """The gateway's source of chance."""
        return self._services.rng

    @property
    def is_settled(self) -> bool:
        """Whether the call has its terminal envelope."""
        return self.envelope is not None

    # ---------------------------------------------------------------------------------------------- attempt

    def begin_attempt(self) -> Attempt:
        """Begin the next request to the provider."""
        plan = self.plan
        api = plan.api
        reader = reader_for(api) if api is not None else None
        attempt = Attempt(len(self.attempts) + 1, plan.provider_name, plan.request.model, reader, self._services.clock)
        with self._lock:
            if self.envelope is not None:
                raise CallCancelledError("the call was closed before this request was sent")
            self.attempts.append(attempt)
        return attempt

    def note_first_token(self) -> None:
        """Note that the first piece of a streamed answer is here."""
        if self.first_token_s is None:
            self.first_token_s = self._services.clock.monotonic() - self._opened_s

    # ----------------------------------------------------------------------------------------------- settle

    def settle(
        self,
        error: BaseException | None = None,
        *,
        finish_reason: str | None = None,
        ended_s: float | None = None,
    ) -> LLMRequestEnvelope:
        """Close the call: price its attempts, make the envelope, write its line, end its span.

        Never awaits and never raises: a failure of the bookkeeping is logged and cannot mask how the call ended. Later
        calls return the envelope of the first.

        Args:
            error: what ended the call, ``None`` for an answer.
            finish_reason: how a call ended that was closed from outside, such as ``client_disconnected``.
            ended_s: when it ended on the monotonic clock, for a call that is settled later than it ended.
        """
        with self._lock:
            if self.envelope is not None:
                return self.envelope
            envelope = self._close(error, finish_reason, ended_s)
        # A call that was open when the process forked is the parent's to record; the child's copy of it is nobody's.
        if self._generation == self._services.generation:
            self._publish(envelope)
        return envelope

    def settle_from_finalizer(self, finish_reason: str) -> None:
        """Have the call settled soon. Takes no lock and calls nothing that might: a finalizer can run anywhere."""
        if self.envelope is None and self._generation == self._services.generation:
            self._services.settle_later(self, CallCancelledError(finish_reason), finish_reason)

    def _close(
        self, error: BaseException | None, finish_reason: str | None, ended_s: float | None
    ) -> LLMRequestEnvelope:
        now_s = self._services.clock.monotonic() if ended_s is None else ended_s
        for attempt in self.attempts:
            attempt.end(error)
            attempt.price = price_attempt(self.plan, attempt, self._services, self.opened_at)
        values = safe_envelope_values(self.plan, self.attempts, error, finish_reason)
        values["started_at"] = utc_stamp(self.opened_at)
        values["latency_ms"] = round(max(0.0, now_s - self._opened_s - self.consumer_s) * 1e3, 3)
        if self.first_token_s is not None:
            values["time_to_first_token_ms"] = round(self.first_token_s * 1e3, 3)
        span = self._span.get_span_context()
        if span.is_valid:
            values["trace_id"], values["span_id"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
        self.envelope = envelope = LLMRequestEnvelope.from_trusted(values)
        if isinstance(error, ProviderError):
            error.envelope = envelope
        return envelope

    # ---------------------------------------------------------------------------------------------- publish

    def _publish(self, envelope: LLMRequestEnvelope) -> None:
        services = self._services
        try:
            if services.ledger is not None:
                timestamp = utc_stamp(services.clock.time())
                line = ledger_line(envelope, timestamp=timestamp, metadata=self.plan.metadata)
                services.ledger.append(encode_line(line))
        except Exception as failure:  # noqa: BLE001 - the answer is paid for and must reach the caller
            _log.error("writing the line of call %s failed (%s)", self.plan.request_id, type(failure).__name__)
        services.telemetry.finish(
            self._span,
            self._span_start,
            envelope,
            duration_s=(envelope.latency_ms or 0.0) / 1e3,
            time_to_first_chunk_s=self.first_token_s,
        )

    def result(self) -> CallResult:
        """Return the answer of a settled call."""
        envelope, answer = self.settle(), self.attempts[-1].answer
        return CallResult(
            text=answer.text,
            selected_model=self.plan.request.model,
            request_id=envelope.request_id,
            tokens_in=envelope.tokens_in,
            tokens_out=envelope.tokens_out,
            estimated_cost_usd=envelope.estimated_cost_usd,
            cache_hit=False,
            finish_reason=envelope.finish_reason,
            envelope=envelope,
            tool_calls=tuple(answer.tool_calls),
            provider_finish_reason=answer.provider_finish_reason,
            response_model=answer.response_model,
        )


def _span_start(plan: CallPlan) -> SpanStart:
    provider, request = plan.provider, plan.request
    options = request.options
    host, port = provider.server if plan.api is not None else (None, None)
    name = getattr(provider, "provider_name", None)
    stop = options.get("stop") or ()
    response_format = options.get("response_format")
    return SpanStart(
        request_id=plan.request_id,
        provider=name if isinstance(name, str) else plan.provider_name,
        provider_name=plan.provider_name,
        provider_api=plan.api,
        model=request.model,
        route=plan.route,
        tier=plan.tier,
        context=plan.context,
        stream=request.stream,
        server_address=host,
        server_port=port,
        max_tokens=request.max_output_tokens,
        temperature=options.get("temperature"),
        top_p=options.get("top_p"),
        stop_sequences=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=options.get("seed"),
        output_type="json" if response_format else None,
        retry_attempts_allowed=plan.retry_attempts,
        cache_enabled=plan.cache_enabled,
    )
