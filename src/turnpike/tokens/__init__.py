"""How many tokens a text or a conversation has, exactly where the vocabulary is on disk and as a bound elsewhere.

Counting never reaches for the network. Vocabularies are fetched by ``turnpike tokens fetch``, or by ``fetch`` in a
deployment script, and by nothing else.
"""

from turnpike.tokens.counting import (
    TokenCount,
    TokensMethod,
    bound_messages,
    bound_text,
    count_messages,
    count_tokens,
    is_loaded,
    preload,
)
from turnpike.tokens.download import fetch
from turnpike.tokens.vocabulary import VOCABULARIES, Vocabulary, cache_directory, vocabulary_for

__all__ = [
    "VOCABULARIES",
    "TokenCount",
    "TokensMethod",
    "Vocabulary",
    "bound_messages",
    "bound_text",
    "cache_directory",
    "count_messages",
    "count_tokens",
    "fetch",
    "is_loaded",
    "preload",
    "vocabulary_for",
]
