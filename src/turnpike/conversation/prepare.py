"""Preparing the messages of the next call: read the history, apply a strategy, and check what it comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from turnpike.context import LLMRequestContext
from turnpike.conversation.history import read_history, read_message, turns_of, without_orphans
from turnpike.conversation.strategies import (
    ContextStrategy,
    Conversation,
    ConversationStrategy,
    FullHistory,
    SlidingWindow,
    World,
)
from turnpike.conversation.summarized import Summarized
from turnpike.conversation.worlds import AsyncWorld, SyncWorld
from turnpike.envelope import LLMRequestEnvelope
from turnpike.errors import ContextTooLargeError, InvalidRequestError
from turnpike.gateway.client import Gateway
from turnpike.gateway.effects import run_sync
from turnpike.gateway.options import CallOptions, Message
from turnpike.tokens import TokenCount

__all__ = ["MAX_CONTEXT_TOKENS", "PreparedContext", "prepare_context", "prepare_context_sync"]

MAX_CONTEXT_TOKENS = 8192


@dataclass(frozen=True)
class PreparedContext:
    """The messages of the next call.

    Attributes:
        messages: what to pass to ``Gateway.call``, the newest message last. To be kept as the history of the turn after,
            with the answer behind them, so that nothing is summarised twice.
        tokens: what they come to, in tokens; what is sent beside them (tools, ``system=``) not included.
        tokens_method: how that was found: ``tiktoken``, or ``bytes_bound`` for a number that is not exceeded.
        strategy_applied: what was really done, which may be less than what was asked for.
        left_out: how many messages of the history are not among ``messages``, summarised ones included.
        uncounted: images, sounds and files among ``messages``; ``tokens`` leaves them out.
        summary_envelope: the record of the summarising call, if one was made.
    """

    messages: list[Message] = field(repr=False)
    tokens: int
    tokens_method: str
    strategy_applied: str
    left_out: int = 0
    uncounted: int = 0
    summary_envelope: LLMRequestEnvelope | None = field(default=None, repr=False)


async def prepare_context(
    gateway: Gateway,
    history: Sequence[str | Message],
    message: str | Message,
    *,
    strategy: str | ConversationStrategy = ContextStrategy.FULL,
    model: str = "gpt-4o",
    max_tokens: int = MAX_CONTEXT_TOKENS,
    route: str | None = None,
    context: LLMRequestContext | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PreparedContext:
    """Return the messages of the next call of a conversation, within a bound of tokens.

    Args:
        gateway: makes the summarising call, where the strategy wants one.
        history: what was said so far, oldest first: messages with their roles, or texts of user and assistant in turn.
        message: the newest message: the user's text, or a message with its role.
        strategy: ``full``, ``sliding_window``, ``summarized``, or a strategy with settings of its own.
        model: the model that is to answer; tokens are counted for it.
        max_tokens: bound of the messages, in tokens.
        route: route name of the summarising call; inside a request it is the route's template unless given.
        context: attribution of the summarising call, laid over the one bound to the request.
        metadata: keys of your own for the ledger line of the summarising call.

    Raises:
        InvalidRequestError: if history, message or strategy is wrong. Nothing has been sent.
        ContextTooLargeError: if the messages exceed ``max_tokens``. Nothing has been spent on a summary.
        TurnpikeError: if the summarising call fails; as ``Gateway.call`` does.
    """
    world = AsyncWorld(gateway, _options(route, context), max_tokens)
    return await _prepare(world, history, message, strategy, model, max_tokens, metadata)


def prepare_context_sync(
    gateway: Gateway,
    history: Sequence[str | Message],
    message: str | Message,
    *,
    strategy: str | ConversationStrategy = ContextStrategy.FULL,
    model: str = "gpt-4o",
    max_tokens: int = MAX_CONTEXT_TOKENS,
    route: str | None = None,
    context: LLMRequestContext | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PreparedContext:
    """Do what ``prepare_context`` does, blocking. Needs no event loop."""
    world = SyncWorld(gateway, _options(route, context), max_tokens)
    return run_sync(_prepare(world, history, message, strategy, model, max_tokens, metadata))


async def _prepare(
    world: World,
    history: Any,
    message: Any,
    strategy: str | ConversationStrategy,
    model: str,
    max_tokens: int,
    metadata: Mapping[str, Any] | None,
) -> PreparedContext:
    if type(max_tokens) is not int or max_tokens < 1:
        raise InvalidRequestError(f"max_tokens must be a whole number from 1 up; got {max_tokens!r}.")
    chosen = _strategy(strategy)
    said = read_history(history)
    newest = read_message(message)
    conversation = Conversation(turns_of(without_orphans(said)), newest, model, max_tokens, world, metadata or {})
    await _checked(conversation, [newest])
    selection = await chosen.select(conversation)
    count = await _checked(conversation, selection.messages)
    return PreparedContext(
        messages=selection.messages,
        tokens=count.tokens,
        tokens_method=count.method.value,
        strategy_applied=str(selection.applied),
        left_out=_left_out(said, selection.messages),
        uncounted=count.uncounted,
        summary_envelope=selection.envelope,
    )


async def _checked(conversation: Conversation, messages: Sequence[Message]) -> TokenCount:
    count = await conversation.count(messages)
    if count.tokens > conversation.max_tokens:
        raise ContextTooLargeError(count.tokens, conversation.max_tokens, count.method)
    return count


def _left_out(said: Sequence[Message], sent: Sequence[Message]) -> int:
    # The same object may occur more than once, in either.
    return (Counter(map(id, said)) - Counter(map(id, sent))).total()


_BUILT_IN: Mapping[str, Callable[[], ConversationStrategy]] = {
    ContextStrategy.FULL: FullHistory,
    ContextStrategy.SLIDING_WINDOW: SlidingWindow,
    ContextStrategy.SUMMARIZED: Summarized,
}


def _strategy(strategy: str | ConversationStrategy) -> ConversationStrategy:
    """Return the strategy of a name, or the strategy itself."""
    known = ", ".join(_BUILT_IN)
    if isinstance(strategy, str):
        if strategy in _BUILT_IN:
            return _BUILT_IN[strategy]()
        named = strategy[:40]
        close = get_close_matches(named, _BUILT_IN, 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InvalidRequestError(f"Unknown context strategy {named!r}. Known strategies: {known}.{hint}")
    if isinstance(strategy, ConversationStrategy) and not isinstance(strategy, type):
        return strategy
    raise InvalidRequestError(
        f"strategy must be one of {known}, or an object with the method select; got {type(strategy).__name__}."
    )


def _options(route: str | None, context: LLMRequestContext | None) -> CallOptions:
    options: CallOptions = {}
    if route is not None:
        options["route"] = route
    if context is not None:
        options["context"] = context
    return options
