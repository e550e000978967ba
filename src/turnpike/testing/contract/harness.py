"""Sets up the applications of a stack, one for each way in which cases want it, and runs cases on them.

An application is kept for the next case that wants the same, with a provider and counts that are new, because frameworks
take longer to build one than a case does to run. After a failure nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Self

from turnpike.boundary.admission import Gate
from turnpike.boundary.keys import Principal
from turnpike.control.memory_quota import MemoryQuota
from turnpike.control.quota import Limit, Quota, Verdict
from turnpike.gateway.client import Gateway
from turnpike.settings import Settings
from turnpike.testing.contract.bench import PIECES, Bench
from turnpike.testing.contract.books import Books
from turnpike.testing.contract.clock import HandClock
from turnpike.testing.contract.expectations import SaysNothing
from turnpike.testing.contract.people import SESSIONS, key_settings
from turnpike.testing.contract.probes import TIER, whoever
from turnpike.testing.contract.registry import Case
from turnpike.testing.contract.stack import ContractSetup, Stack
from turnpike.testing.contract.transports import ASGITransport, Transport, WSGITransport
from turnpike.testing.fake_provider import FakeAnswer, FakeProvider, FakeRequest
from turnpike.testing.waiting import TIMEOUT_S

__all__ = ["Harness", "Serve"]

Serve = Callable[[Stack, Any], AbstractContextManager[Transport]]
"""Serves an application for the length of a block; servers other than this process's own transports plug in here."""

_MODEL = "contract-1"
_PROVIDER = "fake"


class Harness:
    """Runs cases: ``with Harness() as harness: harness.check(case, stack)``.

    Args:
        serve: how applications are served; by default in this process.
        timeout_s: how long anything that a case waits for may take, in seconds.
    """

    def __init__(self, *, serve: Serve | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._serve = serve
        self._timeout_s = timeout_s
        self._kept: _Application | None = None

    def check(self, made: Case, stack: Stack) -> None:
        """Run a case against a stack.

        Raises:
            AssertionError: if the stack does not do what the case says.
            TimeoutError: if what it says does not happen in time.
            SaysNothing: if the case says nothing of this stack, or behind this server.
        """
        if not __debug__:
            raise RuntimeError("The contract is checked by assertions: run Python without -O.")
        if reason := made.why_not(stack, in_process=self._serve is None):
            raise SaysNothing(reason)
        application = self._application(made, stack)
        try:
            bench = application.renew(self._timeout_s)
            made.run(bench)
            bench.transport.settle()
            bench.reconcile()
        except BaseException:
            # What the case has found says more than what its end meets afterwards.
            with suppress(Exception):
                self.close()
            raise

    def close(self) -> None:
        """Stop the application that is still served."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def _application(self, made: Case, stack: Stack) -> _Application:
        if self._kept is None or not made.is_ordinary or self._kept.serves != (stack, True):
            self.close()
            self._kept = _Application(made, stack, self._serve, self._timeout_s)
        return self._kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Application:
    """A served application of a stack, and what it is made of."""

    def __init__(self, made: Case, stack: Stack, serve: Serve | None, timeout_s: float) -> None:
        self.serves = (stack, made.is_ordinary)
        self._stack = stack
        self._resources = ExitStack()
        self._clock = HandClock()
        self._identities = made.identities
        self._own_quota = made.quota() if made.quota is not None else None
        self._quota = _Renewable(self._new_quota())
        further = made.settings(stack) if callable(made.settings) else made.settings
        written = {**_ordinary_settings(stack), **further}
        self._settings = Settings.from_dict(written)
        self._books = Books(timeout_s=timeout_s)
        self._gateway = Gateway(self._settings, ledger=self._books)
        self._gateway.prices.register(_MODEL, 1.0, 2.0)
        self._resources.callback(self._gateway.close)
        setup = ContractSetup(
            settings=written,
            gateway=self._gateway,
            gate=self._gate(self._quota),
            identify=_identify if made.identities else None,
            resources=self._resources,
        )
        try:
            app = stack.build(setup)
            serving = _served_here(stack, app, timeout_s) if serve is None else serve(stack, app)
            self._transport = self._resources.enter_context(serving)
        except BaseException:
            self._resources.close()
            raise

    def renew(self, timeout_s: float) -> Bench:
        """Return a bench whose provider, books and counts are new."""
        provider = FakeProvider(_say_who, retryable=True, timeout_s=timeout_s)
        self._gateway.register_provider(_PROVIDER, provider)
        self._books.clear()
        self._quota.renew(self._new_quota())
        return Bench(
            stack=self._stack,
            gate=self._gate(self._new_quota()),
            provider=provider,
            books=self._books,
            clock=self._clock,
            transport=self._transport,
        )

    def _new_quota(self) -> Quota:
        return self._own_quota if self._own_quota is not None else MemoryQuota(self._clock)

    def _gate(self, quota: Quota) -> Gate:
        return Gate(self._settings, quota=quota, clock=self._clock, has_other_identities=self._identities)

    def close(self) -> None:
        self._resources.close()


class _Renewable:
    """A quota store that can be put in place of a used one."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    def renew(self, quota: Quota) -> None:
        self._quota = quota

    def take(self, limits: Sequence[Limit]) -> Verdict:
        return self._quota.take(limits)


@contextmanager
def _served_here(stack: Stack, app: Any, timeout_s: float) -> Iterator[Transport]:
    """Call the application in this process, as a server of its kind does."""
    make = ASGITransport if stack.kind == "asgi" else WSGITransport
    transport: Transport = make(app, timeout_s=timeout_s)
    try:
        yield transport
    finally:
        transport.close()


def _ordinary_settings(stack: Stack) -> Mapping[str, Any]:
    return {
        "api_keys": key_settings(),
        "rate_limit": "1000/minute",
        "limits": {"tight": "2/minute"},
        "exempt": [stack.template("/public")],
        "default_policy": {"provider": _PROVIDER, "retry_attempts": 0},
        "tiers": {TIER: _MODEL},
    }


def _identify(session: str | None) -> Principal | None:
    return None if session is None else SESSIONS.get(session)


def _say_who(request: FakeRequest) -> FakeAnswer:
    return FakeAnswer(chunks=PIECES) if request.streamed else FakeAnswer(text=whoever())
