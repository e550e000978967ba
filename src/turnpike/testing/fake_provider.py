"""A provider for tests: it answers at once and deterministically, notes every request, and stops where a test wants it to.

It runs inside the process and sends nothing. Everything above it (policies, retries, prices, envelopes, the ledger) is the
gateway's own; to test what happens on the wire, use ``turnpike.testing.simulator``.

    provider = FakeProvider("A gate.")
    gateway.register_provider("openai", provider)
    ...
    assert provider.requests[0].prompt == "What is a turnpike?"
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import EllipsisType, TracebackType
from typing import Any, ClassVar, Literal, TypeAlias

from turnpike.context import Binding, LLMRequestContext, current_binding
from turnpike.errors import ProviderError
from turnpike.gateway.options import GENERATION_OPTIONS
from turnpike.gateway.provider_base import ProviderBase, ProviderResponse, ProviderStreamEvent
from turnpike.testing.waiting import TIMEOUT_S, Happenings, Hold

__all__ = ["FakeAnswer", "FakeProvider", "FakeRequest", "Hold", "Scripted"]

_RETRYABLE = ("rate_limit", "timeout", "transient_error")
_NOBODY = LLMRequestContext()


@dataclass(frozen=True, kw_only=True)
class FakeAnswer:
    """What the provider answers to one request.

    Attributes:
        text: the whole text.
        chunks: the pieces in which it streams, instead of one for each word of ``text``.
        tokens_in: input tokens; by default the words of the request. ``None`` means that the provider does not say.
        tokens_out: output tokens; by default the words of the answer. ``None`` as above.
        finish_reason: why the answer ends.
        model: the model that says it has answered; by default it does not say.
        error: raised after ``error_after`` chunks of a stream, and instead of an answer that is not streamed.
        error_after: how many chunks come before the error.
    """

    text: str = field(default="A fake answer.", repr=False)
    chunks: tuple[str, ...] = field(default=(), repr=False)
    tokens_in: int | EllipsisType | None = ...
    tokens_out: int | EllipsisType | None = ...
    finish_reason: str | None = "stop"
    model: str | None = None
    error: BaseException | None = None
    error_after: int = 0

    @property
    def whole_text(self) -> str:
        """The text, whichever way it was given."""
        return "".join(self.chunks) if self.chunks else self.text

    @property
    def pieces(self) -> tuple[str, ...]:
        """The chunks of a stream: never none, and together the text."""
        if self.chunks:
            return self.chunks
        first, *rest = self.text.split(" ")
        return (first, *(f" {word}" for word in rest))


Scripted: TypeAlias = "str | FakeAnswer | BaseException | Callable[[FakeRequest], str | FakeAnswer | BaseException]"
"""An answer, as tests write it: a text, a ``FakeAnswer``, an error to raise, or a function of the request."""


@dataclass(eq=False)
class FakeRequest:
    """A request that reached the provider.

    Attributes:
        messages: the conversation, as it would have been sent.
        model: the model that was asked for.
        max_output_tokens: the bound of the answer in tokens.
        options: generation options that were set.
        streamed: whether a stream was asked for.
        binding: what was bound where the provider was called; ``None`` outside a request.
        steps: what was bound when each chunk of a stream was asked for.
        ending: ``None`` while it is in progress; ``complete``, ``failed`` (the scripted error was raised) or ``closed``
            (the stream was closed, or the task cancelled, before the answer was complete).
    """

    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    model: str
    max_output_tokens: int
    options: Mapping[str, Any] = field(repr=False)
    streamed: bool
    binding: Binding | None = None
    steps: list[Binding | None] = field(default_factory=list, repr=False)
    ending: Literal["complete", "failed", "closed"] | None = None

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        content = self.messages[-1].get("content") if self.messages else None
        if isinstance(content, str):
            return content
        parts = content if isinstance(content, (list, tuple)) else ()
        return " ".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and "text" in part)

    @property
    def context(self) -> LLMRequestContext:
        """The attribution that was bound; an empty one outside a request."""
        return self.binding.context if self.binding is not None else _NOBODY

    @property
    def route(self) -> str | None:
        """The route template that was bound."""
        return self.binding.route if self.binding is not None else None


class FakeProvider(ProviderBase):
    """Answers from a script, and otherwise always the same.

    Safe to use from threads and tasks at once.

    Args:
        answer: what it answers to requests that nothing is scripted for.
        name: ``provider_name``, as it stands in telemetry.
        retryable: whether scripted rate limits, timeouts and outages are tried again, as those of real providers are.
        timeout_s: how long ``hold`` and the ``wait`` methods wait before they fail, in seconds.
    """

    supported_options: ClassVar[frozenset[str]] = GENERATION_OPTIONS

    def __init__(
        self,
        answer: Scripted = FakeAnswer(),
        *,
        name: str = "fake",
        retryable: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._name = name
        self._default = answer
        self._retryable = retryable
        self._timeout_s = timeout_s
        self._happenings = Happenings()
        self._script: deque[Scripted] = deque()
        self._requests: list[FakeRequest] = []
        self._hold: Hold[FakeRequest] | None = None

    @property
    def provider_name(self) -> str:
        """The name it was given."""
        return self._name

    # --------------------------------------------------------------------------------------------- for the test

    def script(self, *answers: Scripted) -> None:
        """Answer the next requests with ``answers``, each for one request."""
        with self._happenings.lock:
            self._script.extend(answers)

    def default(self, answer: Scripted) -> None:
        """Answer requests that nothing is scripted for with ``answer``."""
        with self._happenings.lock:
            self._default = answer

    def scripts_left(self) -> int:
        """Return how many scripted answers nobody has asked for yet."""
        return len(self._script)

    @property
    def requests(self) -> tuple[FakeRequest, ...]:
        """The requests that have arrived, oldest first."""
        with self._happenings.lock:
            return tuple(self._requests)

    def reset(self) -> None:
        """Forget requests and script."""
        with self._happenings.lock:
            self._requests.clear()
            self._script.clear()

    def hold(self) -> Hold[FakeRequest]:
        """Hold every answer, and every chunk of a stream, until the test releases it."""
        held: Hold[FakeRequest] = Hold(self._happenings, self._timeout_s)
        with self._happenings.lock:
            previous, self._hold = self._hold, held
        if previous is not None:
            previous.open()
        return held

    def wait_for(self, requests: int = 1, timeout_s: float | None = None) -> tuple[FakeRequest, ...]:
        """Block until as many requests have arrived, and return all that have.

        Raises:
            TimeoutError: after ``timeout_s`` seconds.
        """
        self._happenings.wait(*self._arrived(requests), self._timeout_s if timeout_s is None else timeout_s)
        return self.requests

    async def wait_for_async(self, requests: int = 1, timeout_s: float | None = None) -> tuple[FakeRequest, ...]:
        """Do what ``wait_for`` does, in the event loop that the requests need to get here."""
        await self._happenings.wait_async(*self._arrived(requests), self._timeout_s if timeout_s is None else timeout_s)
        return self.requests

    def wait_idle(self, timeout_s: float | None = None) -> None:
        """Block until every request that has arrived has ended: answered, failed or closed.

        Raises:
            TimeoutError: after ``timeout_s`` seconds.
        """
        self._happenings.wait(*self._idle(), self._timeout_s if timeout_s is None else timeout_s)

    async def wait_idle_async(self, timeout_s: float | None = None) -> None:
        """Do what ``wait_idle`` does, in the event loop that the requests need to end."""
        await self._happenings.wait_async(*self._idle(), self._timeout_s if timeout_s is None else timeout_s)

    def _arrived(self, requests: int) -> tuple[Callable[[], bool], Callable[[], str]]:
        have = self._requests
        return lambda: len(have) >= requests, lambda: f"{len(have)} of {requests} requests have arrived"

    def _idle(self) -> tuple[Callable[[], bool], Callable[[], str]]:
        def busy() -> int:
            return sum(request.ending is None for request in self._requests)

        return lambda: not busy(), lambda: f"{busy()} requests are still in progress"

    # ------------------------------------------------------------------------------------------ for the gateway

    async def complete(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int, **options: Any
    ) -> ProviderResponse:
        """Answer a conversation."""
        answering = self._receive(messages, model, max_output_tokens, options, streamed=False)
        with answering:
            if self._hold is not None:
                await self._hold.step_async(answering.request)
            return answering.response()

    def complete_sync(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int, **options: Any
    ) -> ProviderResponse:
        """Answer a conversation, in a thread."""
        answering = self._receive(messages, model, max_output_tokens, options, streamed=False)
        with answering:
            if self._hold is not None:
                self._hold.step(answering.request)
            return answering.response()

    def stream(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int, **options: Any
    ) -> AsyncIterator[ProviderStreamEvent]:
        """Answer a conversation piece by piece."""
        return _AsyncPieces(self, self._receive(messages, model, max_output_tokens, options, streamed=True))

    def stream_sync(
        self, messages: Sequence[Mapping[str, Any]], model: str, max_output_tokens: int, **options: Any
    ) -> Iterator[ProviderStreamEvent]:
        """Answer a conversation piece by piece, in a thread."""
        return _Pieces(self, self._receive(messages, model, max_output_tokens, options, streamed=True))

    def is_retryable(self, error: BaseException) -> bool:
        """Say whether the same request may succeed if it is sent again."""
        return self._retryable and isinstance(error, ProviderError) and error.category in _RETRYABLE

    def categorize_error(self, error: BaseException) -> str:
        """Return the category of a ``ProviderError``."""
        return error.category if isinstance(error, ProviderError) else "unknown"

    def _receive(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        max_output_tokens: int,
        options: Mapping[str, Any],
        *,
        streamed: bool,
    ) -> _Answering:
        request = FakeRequest(messages, model, max_output_tokens, options, streamed, current_binding())
        with self._happenings.lock:
            self._requests.append(request)
            scripted = self._script.popleft() if self._script else self._default
        self._happenings.changed()
        if not isinstance(scripted, (str, FakeAnswer, BaseException, type)):
            scripted = scripted(request)
        return _Answering(request, _answer_of(scripted), self._happenings)

    def __repr__(self) -> str:
        return f"<FakeProvider {self._name} requests={len(self._requests)}>"


def _answer_of(scripted: object) -> FakeAnswer:
    if isinstance(scripted, FakeAnswer):
        return scripted
    if isinstance(scripted, BaseException):
        return FakeAnswer(error=scripted)
    if isinstance(scripted, str):
        return FakeAnswer(text=scripted)
    raise TypeError(
        f"a scripted answer is a str, a FakeAnswer, an error or a function of the request; got {type(scripted).__name__}"
    )


class _Answering:
    """One request and the answer that was chosen for it; as a block, it notes how the request ended."""

    def __init__(self, request: FakeRequest, answer: FakeAnswer, happenings: Happenings) -> None:
        self.request = request
        self._answer = answer
        self._happenings = happenings
        self._given = 0

    def end(self, ending: Literal["complete", "failed", "closed"]) -> None:
        if self.request.ending is None:
            self.request.ending = ending
            self._happenings.changed()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.end("failed" if error is self._answer.error else "closed")
        elif not self.request.streamed:
            self.end("complete")

    def response(self) -> ProviderResponse:
        answer = self._answer
        if answer.error is not None:
            raise answer.error
        return ProviderResponse(answer.whole_text, *self._tokens(), answer.finish_reason, answer.model)

    @property
    def next_needs_a_step(self) -> bool:
        """Whether a chunk or an error comes next: the end of an answer is not held."""
        return self._given < len(self._answer.pieces) or self._answer.error is not None

    def next(self) -> ProviderStreamEvent | None:
        """Return the next event of a stream: its chunks, and at last an event without text; then ``None``."""
        answer, number = self._answer, self._given
        self._given += 1
        if answer.error is not None and number >= min(answer.error_after, len(answer.pieces)):
            raise answer.error
        if number < len(answer.pieces):
            return ProviderStreamEvent(delta=answer.pieces[number])
        if number == len(answer.pieces):
            tokens_in, tokens_out = self._tokens()
            self.end("complete")
            return ProviderStreamEvent("", answer.finish_reason, tokens_in, tokens_out, answer.model)
        return None

    def _tokens(self) -> tuple[int | None, int | None]:
        answer = self._answer
        words_in = sum(len(str(message.get("content", "")).split()) for message in self.request.messages)
        tokens_in = words_in if isinstance(answer.tokens_in, EllipsisType) else answer.tokens_in
        words_out = len(answer.whole_text.split())
        return tokens_in, (words_out if isinstance(answer.tokens_out, EllipsisType) else answer.tokens_out)


class _Playing:
    """What both kinds of stream share."""

    def __init__(self, provider: FakeProvider, answering: _Answering) -> None:
        self._provider = provider
        self._answering = answering

    def _hold(self) -> Hold[FakeRequest] | None:
        self._answering.request.steps.append(current_binding())
        return self._provider._hold if self._answering.next_needs_a_step else None

    @property
    def _is_closed(self) -> bool:
        return self._answering.request.ending == "closed"


class _AsyncPieces(_Playing):
    def __aiter__(self) -> _AsyncPieces:
        return self

    async def __anext__(self) -> ProviderStreamEvent:
        with self._answering:
            if (hold := self._hold()) is not None:
                await hold.step_async(self._answering.request)
            event = None if self._is_closed else self._answering.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        self._answering.end("closed")


class _Pieces(_Playing):
    def __iter__(self) -> _Pieces:
        return self

    def __next__(self) -> ProviderStreamEvent:
        with self._answering:
            if (hold := self._hold()) is not None:
                hold.step(self._answering.request)
            event = None if self._is_closed else self._answering.next()
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        self._answering.end("closed")
