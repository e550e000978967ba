"""Which part of a conversation is sent: what a strategy is given, what it returns, and the two simple ones.

A strategy is written once, as a coroutine over a ``Conversation``; the same code serves asynchronous and synchronous
callers. A strategy of your own needs the one method ``select``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Unpack, runtime_checkable

from turnpike.context import LLMRequestContext
from turnpike.conversation.history import Turn, is_system
from turnpike.envelope import LLMRequestEnvelope
from turnpike.errors import ConfigurationError
from turnpike.gateway.options import CallOptions, Message, Prompt
from turnpike.gateway.result import CallResult
from turnpike.tokens import TokenCount

__all__ = [
    "ContextStrategy",
    "Conversation",
    "ConversationStrategy",
    "FullHistory",
    "Selection",
    "SlidingWindow",
    "World",
    "check_whole",
]

KEPT_TURNS = 5


class ContextStrategy(StrEnum):
    """The names of the strategies that come with Turnpike."""

    FULL = "full"
    SLIDING_WINDOW = "sliding_window"
    SUMMARIZED = "summarized"


class World(Protocol):
    """What preparing a conversation asks of the world; one for code that awaits, one for code that blocks."""

    async def ask(self, prompt: Prompt, **options: Unpack[CallOptions]) -> CallResult:
        """Make a call through the gateway."""
        ...

    async def count(self, parts: Sequence[Sequence[Message]], model: str) -> list[TokenCount]:
        """Count the tokens of each part of a conversation."""
        ...


@dataclass(frozen=True)
class Conversation:
    """What a strategy selects from.

    Attributes:
        turns: the history, oldest turn first. Results of tool calls that are not in it have been left out.
        message: the newest message, which is always sent.
        model: the model that is to answer; tokens are counted for it.
        max_tokens: bound of what is sent, in tokens.
    """

    turns: tuple[Turn, ...] = field(repr=False)
    message: Message = field(repr=False)
    model: str
    max_tokens: int
    _world: World = field(repr=False)
    _metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def newest(self, turns: int) -> list[Message]:
        """Return the newest turns and the newest message, and of the older turns the system messages."""
        older, kept = self.split(turns)
        return [*filter(is_system, older), *kept, self.message]

    def split(self, turns: int) -> tuple[list[Message], list[Message]]:
        """Return the messages of the older turns, and those of the newest ``turns`` turns."""
        edge = max(0, len(self.turns) - turns)
        return _joined(self.turns[:edge]), _joined(self.turns[edge:])

    async def count(self, messages: Sequence[Message]) -> TokenCount:
        """Count the tokens of ``messages`` for the conversation's model."""
        [count] = await self.count_each([messages])
        return count

    async def count_each(self, parts: Sequence[Sequence[Message]]) -> list[TokenCount]:
        """Count the tokens of each of ``parts``, as if each were sent by itself."""
        return await self._world.count(parts, self.model)

    async def ask(self, prompt: Prompt, *, use_case: str, **options: Unpack[CallOptions]) -> CallResult:
        """Make a call through the gateway, on the account of whoever the conversation is with.

        A strategy awaits nothing but this and ``count``; otherwise it cannot serve synchronous callers.

        Args:
            prompt: as for ``Gateway.call``.
            use_case: what stands in the call's ledger line as ``use_case``.
            options: as for ``Gateway.call``.

        Raises:
            TurnpikeError: as ``Gateway.call`` does.
        """
        options["context"] = LLMRequestContext(use_case=use_case).over(options.get("context") or LLMRequestContext())
        options["metadata"] = {**self._metadata, **(options.get("metadata") or {})}
        return await self._world.ask(prompt, **options)


def _joined(turns: Iterable[Turn]) -> list[Message]:
    return [message for turn in turns for message in turn]


@dataclass(frozen=True)
class Selection:
    """What a strategy has selected.

    Attributes:
        messages: what is to be sent, the newest message last.
        applied: name of what was really done, which may be less than what was asked for.
        envelope: the record of the call that was made for it, if one was.
    """

    messages: list[Message] = field(repr=False)
    applied: str
    envelope: LLMRequestEnvelope | None = field(default=None, repr=False)


@runtime_checkable
class ConversationStrategy(Protocol):
    """Anything that selects what is sent."""

    async def select(self, conversation: Conversation) -> Selection:
        """Select the messages of the next call; what they come to is checked afterwards."""
        ...


@dataclass(frozen=True)
class FullHistory:
    """Sends everything."""

    async def select(self, conversation: Conversation) -> Selection:
        """Select all turns."""
        return Selection(conversation.newest(len(conversation.turns)), ContextStrategy.FULL)


@dataclass(frozen=True)
class SlidingWindow:
    """Sends the newest turns, each of them whole, and all system messages.

    Attributes:
        turns: how many.
    """

    turns: int = KEPT_TURNS

    def __post_init__(self) -> None:
        check_whole("SlidingWindow", "turns", self.turns, least=0)

    async def select(self, conversation: Conversation) -> Selection:
        """Select the newest turns."""
        return Selection(conversation.newest(self.turns), ContextStrategy.SLIDING_WINDOW)


def check_whole(owner: str, name: str, value: Any, *, least: int) -> None:
    """Refuse a setting of a strategy that is not a whole number from ``least`` up."""
    if type(value) is not int or value < least:
        raise ConfigurationError(f"{owner}.{name} must be a whole number from {least} up; got {value!r}.")
