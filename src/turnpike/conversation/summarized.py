"""The strategy that summarises the older turns of a conversation, through the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from turnpike.conversation.history import is_system
from turnpike.conversation.strategies import (
    KEPT_TURNS,
    ContextStrategy,
    Conversation,
    FullHistory,
    Selection,
    check_whole,
)
from turnpike.conversation.transcript import INSTRUCTIONS, REQUEST, summary_prompt
from turnpike.errors import ContextTooLargeError
from turnpike.gateway.options import Message

__all__ = ["Summarized"]

_LEAST_ROOM = 200
"""Below this many tokens a summary is not worth its price."""

_TOKENS_PER_ASKED_WORD = 8
"""Room that an asked word is given: where only bytes bound the tokens, a word of English and its blank take about six."""

_TOKENS_PER_WORD = 4
"""Bound of the model's answer for an asked word, in its own tokens: more than any language takes by far, so that the
summary ends by itself and not at the bound."""


_DECLINED = ("content_filter", "refusal")


@dataclass(frozen=True)
class Summarized:
    """Sends the newest turns as they are, and before them a summary of the older ones, made by a call to a cheap model.

    There is a summary only if there are older turns; without, this is ``full``. Where the newest turns leave no room for
    one, or the model declines, it is ``sliding_window``. All system messages are sent and none is summarised.

    The summary stands in the conversation as the assistant's answer to a request for it. Whatever a user may have smuggled
    into it thus speaks with no more authority than the assistant's own earlier words.

    Attributes:
        turns: how many of the newest turns are sent as they are.
        tier: tier of the model that summarises.
        max_words: bound of the summary, in words.
        max_input_tokens: bound of what is summarised, in tokens; the oldest turns beyond it are left out.
        instructions: what the summarising model is told. The conversation follows in a message of its own, as JSON.
        use_case: what stands in the ledger line of the summarising call as ``use_case``.
    """

    turns: int = KEPT_TURNS
    tier: str = "cheap"
    max_words: int = 250
    max_input_tokens: int = 100_000
    instructions: str = field(default=INSTRUCTIONS, repr=False)
    use_case: str = "context_summary"

    def __post_init__(self) -> None:
        check_whole("Summarized", "turns", self.turns, least=0)
        check_whole("Summarized", "max_words", self.max_words, least=10)
        check_whole("Summarized", "max_input_tokens", self.max_input_tokens, least=1)

    async def select(self, conversation: Conversation) -> Selection:
        """Select the newest turns and have the others summarised.

        Raises:
            ContextTooLargeError: if the newest turns alone do not fit. Nothing has been spent then.
            TurnpikeError: if the summarising call fails; as ``Gateway.call`` does.
        """
        if len(conversation.turns) <= self.turns:
            return await FullHistory().select(conversation)
        plain = Selection(conversation.newest(self.turns), ContextStrategy.SLIDING_WINDOW)
        room = await self._room(conversation, plain)
        prompt = await self._prompt(conversation, room) if room >= _LEAST_ROOM else None
        if prompt is None:
            return plain
        words = self._words(room)
        result = await conversation.ask(
            prompt,
            use_case=self.use_case,
            tier=self.tier,
            max_output_tokens=words * _TOKENS_PER_WORD,
            metadata={"context_strategy": ContextStrategy.SUMMARIZED.value},
        )
        if result.finish_reason in _DECLINED or not result.text.strip():
            return Selection(plain.messages, plain.applied, result.envelope)
        summary = await self._fitting(conversation, result.text.strip(), room)
        return Selection(self._with_summary(conversation, summary), ContextStrategy.SUMMARIZED, result.envelope)

    def _words(self, room: int) -> int:
        return min(self.max_words, room // _TOKENS_PER_ASKED_WORD)

    async def _room(self, conversation: Conversation, plain: Selection) -> int:
        """Return how many tokens the newest turns leave for the text of a summary."""
        taken = await conversation.count(plain.messages)
        if taken.tokens > conversation.max_tokens:
            raise ContextTooLargeError(taken.tokens, conversation.max_tokens, taken.method)
        with_frame = await conversation.count(self._with_summary(conversation, ""))
        return conversation.max_tokens - with_frame.tokens

    async def _prompt(self, conversation: Conversation, room: int) -> list[Message] | None:
        """Return what the summarising model is asked, with as many of the older turns as it may read, newest first."""
        older = conversation.turns[: len(conversation.turns) - self.turns]
        first, left = len(older), self.max_input_tokens
        for count in reversed(await conversation.count_each(older)):
            left -= count.tokens
            if left < 0:
                break
            first -= 1
        messages = [message for turn in older[first:] for message in turn if not is_system(message)]
        return summary_prompt(messages, self.instructions, self._words(room)) if messages else None

    async def _fitting(self, conversation: Conversation, summary: str, room: int) -> str:
        """Cut a summary that does not fit: it has been paid for, and its beginning is better than nothing."""
        count = await conversation.count(self._with_summary(conversation, summary))
        if count.tokens <= conversation.max_tokens:
            return summary
        return summary.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")

    def _with_summary(self, conversation: Conversation, summary: str) -> list[Message]:
        older, kept = conversation.split(self.turns)
        exchange = [{"role": "user", "content": REQUEST}, {"role": "assistant", "content": summary}]
        return [*filter(is_system, older), *exchange, *kept, conversation.message]
