"""Who is asking: the attribution of the current request, carried by a context variable.

An adapter binds the authenticated identity for the length of a request; every call made inside reads it. Nothing here
ever invents an identity: an unbound context is a state that callers can see, never a tenant called "default".
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any, ParamSpec, TypeVar

from opentelemetry import context as otel_context

from turnpike.errors import UnattributedError

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "Binding",
    "LLMRequestContext",
    "bind",
    "current_binding",
    "current_context",
    "detached",
    "propagate",
    "unbound",
]


@dataclass(frozen=True)
class LLMRequestContext:
    """The attribution of a call. All fields are optional strings."""

    tenant_id: str | None = None
    caller_id: str | None = None
    use_case: str | None = None
    session_id: str | None = None
    task_id: str | None = None
    feature_id: str | None = None
    experiment_id: str | None = None
    budget_namespace: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.__dict__.items():
            if value is not None and not isinstance(value, str):
                raise TypeError(f"LLMRequestContext.{name} must be a str or None; got {type(value).__name__}")

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | None) -> LLMRequestContext:
        """Read the known keys of ``metadata``; everything else in it is left alone."""
        if not metadata:
            return cls()
        return cls(**{name: str(metadata[name]) for name in _NAMES if metadata.get(name) is not None})

    def to_audit_tags(self) -> dict[str, str]:
        """Return session, task, feature, experiment and budget namespace where set: never tenant, caller or use case."""
        return {name: value for name in _AUDIT if (value := getattr(self, name)) is not None}

    def over(self, base: LLMRequestContext) -> LLMRequestContext:
        """Return this context with its gaps filled from ``base``."""
        if self == base:
            return self
        return LLMRequestContext(**{name: _first(getattr(self, name), getattr(base, name)) for name in _NAMES})


def _first(value: str | None, fallback: str | None) -> str | None:
    # An empty name names nobody, and must not displace somebody.
    return value or fallback


_NAMES = tuple(item.name for item in fields(LLMRequestContext))
_AUDIT = ("session_id", "task_id", "feature_id", "experiment_id", "budget_namespace")


@dataclass(frozen=True)
class Binding:
    """What is bound while a request is served: its identity, its route, and the streams it has opened."""

    context: LLMRequestContext
    route: str | None = None
    """The route template (``/chat/{id}``), never the concrete path."""
    streams: Any = None
    """The request's scope, which finishes streams that are still open when the request ends; see ``boundary.scope``."""
    may_call: bool = True
    """Whether calls may be made: not in a request that passed without identity because it only asks what is allowed."""


_binding: contextvars.ContextVar[Binding | None] = contextvars.ContextVar("turnpike_binding", default=None)


def current_binding() -> Binding | None:
    """Return the binding in force, or ``None`` outside a request."""
    return _binding.get()


_RAISE: Any = object()


def current_context(default: LLMRequestContext | None = _RAISE) -> LLMRequestContext:
    """Return the attribution in force here.

    Args:
        default: returned when nothing is bound.

    Raises:
        UnattributedError: if nothing is bound and no default was given.
    """
    binding = _binding.get()
    if binding is not None:
        return binding.context
    if default is _RAISE:
        raise UnattributedError
    return default  # type: ignore[return-value]


@contextmanager
def bind(
    context: LLMRequestContext | None = None,
    /,
    *,
    route: str | None = None,
    streams: Any = None,
    may_call: bool = True,
    **names: str | None,
) -> Iterator[LLMRequestContext]:
    """Bind an attribution for the length of a ``with`` block.

    Fields that are not given are inherited from the binding around it, so ``with bind(feature_id="search"):`` adds to the
    identity of the request. Do not hold the block open across a ``yield`` that hands control to a consumer: the variable
    would then belong to another context.

    Args:
        context: the attribution; or pass its fields as keywords.
        route: route template that calls inside use as their route name.
        streams: the request scope, passed by the HTTP boundary.
        may_call: ``False`` refuses every call inside, as the HTTP boundary does for preflight requests.
        names: fields of ``LLMRequestContext``.

    Raises:
        TypeError: if both ``context`` and fields are given, or a field is unknown.
    """
    if context is not None and names:
        raise TypeError("bind() takes an LLMRequestContext or its fields as keywords, not both")
    given = context if context is not None else LLMRequestContext(**names)
    token = begin_binding(given, route=route, streams=streams, may_call=may_call)
    try:
        yield current_context()
    finally:
        _binding.reset(token)


def begin_binding(
    context: LLMRequestContext, *, route: str | None, streams: Any, may_call: bool
) -> contextvars.Token[Binding | None]:
    """Do what ``bind`` does where no block encloses the work; ``end_binding`` takes what this returns."""
    outer = _binding.get()
    if outer is not None:
        context = context.over(outer.context)
        route = route if route is not None else outer.route
        streams = streams if streams is not None else outer.streams
        may_call = may_call and outer.may_call
    return _binding.set(Binding(context, route, streams, may_call))


def end_binding(token: contextvars.Token[Binding | None]) -> None:
    """Restore what was bound before. In another ``contextvars.Context`` than it began in, there is nothing to restore."""
    with suppress(ValueError):
        _binding.reset(token)


@contextmanager
def detached() -> Iterator[None]:
    """Keep the identity but leave the request's scope: streams opened inside outlive the request.

    For work that is handed to a task or thread which goes on after the response has been sent.
    """
    outer = _binding.get()
    token = _binding.set(None if outer is None else Binding(outer.context, outer.route, None, outer.may_call))
    try:
        yield
    finally:
        _binding.reset(token)


@contextmanager
def unbound() -> Iterator[None]:
    """Start from nobody: for the edge of a service, where what was bound outside says nothing of who sends a request."""
    token = _binding.set(None)
    try:
        yield
    finally:
        _binding.reset(token)


def unbind() -> None:
    """Start from nobody for good: for whoever runs a request in a ``contextvars.Context`` of its own."""
    _binding.set(None)


@contextmanager
def restored(binding: Binding | None, tracing: otel_context.Context) -> Iterator[None]:
    """Put a captured binding and trace context in force for one step of work that began elsewhere."""
    bound, attached = _binding.set(binding), otel_context.attach(tracing)
    try:
        yield
    finally:
        otel_context.detach(attached)
        _binding.reset(bound)


def propagate(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` bound to the current context, for threads, executors and queues that would lose it.

    ``Thread(target=propagate(work))`` and ``pool.submit(propagate(work), ...)`` run ``work`` with the identity and the
    span of the place where ``propagate`` was called. So does a coroutine function, in whatever task it is awaited. The
    result can be called any number of times, at once too.

    Raises:
        TypeError: for a generator function, whose body runs wherever it is consumed.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("propagate() cannot carry a context into a generator: propagate what consumes it")
    if inspect.iscoroutinefunction(function):
        return _propagate_coroutine(function)  # type: ignore[return-value]
    captured = contextvars.copy_context()

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # A context can be entered only once at a time; a copy for each call lets calls overlap.
        return captured.copy().run(function, *args, **kwargs)

    return run


def _propagate_coroutine(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    # A coroutine runs in the context of its task, so the two variables are set there for as long as it runs.
    binding, tracing = _binding.get(), otel_context.get_current()

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with restored(binding, tracing):
            return await function(*args, **kwargs)

    return run
