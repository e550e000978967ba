"""From the history of a conversation to the messages of the next call, within a bound of tokens.

History is somebody's private words: none of it is logged, kept, or put into an error or a repr.
"""

from turnpike.conversation.prepare import PreparedContext, prepare_context, prepare_context_sync
from turnpike.conversation.strategies import (
    ContextStrategy,
    Conversation,
    ConversationStrategy,
    FullHistory,
    Selection,
    SlidingWindow,
)
from turnpike.conversation.summarized import Summarized
from turnpike.errors import ContextTooLargeError

__all__ = [
    "ContextStrategy",
    "ContextTooLargeError",
    "Conversation",
    "ConversationStrategy",
    "FullHistory",
    "PreparedContext",
    "Selection",
    "SlidingWindow",
    "Summarized",
    "prepare_context",
    "prepare_context_sync",
]
