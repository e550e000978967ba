"""What the calls of one gateway share: clocks, prices, sinks. Two gateways share none of it."""

from __future__ import annotations

import atexit
import logging
import random
import weakref
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.fork import reset_in_child
from turnpike.gateway.telemetry import CallTelemetry
from turnpike.pricing import PriceBook

if TYPE_CHECKING:
    from turnpike.gateway.record import CallRecord

__all__ = ["LineSink", "Services"]

_log = logging.getLogger("turnpike.gateway")


_MOST_WARNINGS = 1000
"""Model names can come from requests; the set of those warned about must not grow with them."""


class LineSink(Protocol):
    """Where ledger lines go."""

    def check(self) -> None:
        """Raise ``LedgerError`` if lines cannot be written."""
        ...

    def append(self, line: bytes) -> bool:
        """Write a line, or keep it to be written later; never raise ``OSError``."""
        ...


@dataclass(eq=False)
class Services:
    """The shared parts of one gateway."""

    prices: PriceBook
    telemetry: CallTelemetry
    ledger: LineSink | None
    clock: Clock = SYSTEM_CLOCK
    # The operating system's randomness: a seeded generator would give the children of a fork the same request ids.
    rng: random.Random = field(default_factory=random.SystemRandom)

    def __post_init__(self) -> None:
        # SimpleQueue is the one queue whose put() may run in a finalizer or a signal handler: it takes no Python lock.
        self._abandoned: SimpleQueue[tuple[CallRecord, BaseException, str, float]] = SimpleQueue()
        self._unpriced_models: set[str] = set()
        self.generation: int = 0
        """Counts forks: a record of another generation belongs to the parent process."""
        self.open_streams: weakref.WeakSet[Any] = weakref.WeakSet()
        """Streams that the end of the process would otherwise leave without an envelope."""
        _all_services.add(self)
        reset_in_child(self)

    def after_fork_in_child(self) -> None:
        """Leave the parent's calls to the parent."""
        self.generation += 1
        self._abandoned = SimpleQueue()
        self.open_streams = weakref.WeakSet()

    def warn_of_unpriced(self, model: str, notes: tuple[str, ...]) -> None:
        """Say once for each model that its calls have no price, and what to do about it."""
        if model in self._unpriced_models or len(self._unpriced_models) >= _MOST_WARNINGS:
            return
        self._unpriced_models.add(model)
        _log.warning(
            "calls of model %s have no price (%s); their cost is recorded as unknown. If the model is new, update "
            "genai-prices or call gateway.prices.register(%r, input_per_1m, output_per_1m); register_pricing() does it for "
            "the default gateway",
            model,
            ", ".join(notes),
            model,
        )

    def settle_later(self, record: CallRecord, error: BaseException, finish_reason: str) -> None:
        """Queue a call that a finalizer found open; the next call, ``drain`` or the end of the process settles it."""
        self._abandoned.put((record, error, finish_reason, self.clock.monotonic()))

    def drain(self) -> None:
        """Settle the calls that finalizers have queued."""
        while not self._abandoned.empty():
            try:
                record, error, finish_reason, ended_s = self._abandoned.get_nowait()
            except Empty:
                return
            record.settle(error, finish_reason=finish_reason, ended_s=ended_s)


_all_services: weakref.WeakSet[Services] = weakref.WeakSet()


@atexit.register
def _drain_at_exit() -> None:
    for services in list(_all_services):
        for run in list(services.open_streams):
            run.finish("process_exit")
        services.drain()
