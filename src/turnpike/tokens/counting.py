"""Counting tokens: by tiktoken where its vocabulary is on disk, else by a bound that needs nothing.

A count says by which method it was made. Counting takes time in proportion to the text, whatever the text is, and
never downloads, logs or keeps any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from turnpike.tokens.vocabulary import VocabularyShelf, vocabulary_for

__all__ = [
    "TokenCount",
    "TokensMethod",
    "bound_messages",
    "bound_text",
    "count_messages",
    "count_tokens",
    "is_loaded",
    "preload",
]


class TokensMethod(StrEnum):
    """How a number of tokens was found."""

    TIKTOKEN = "tiktoken"
    """With OpenAI's own vocabulary: exact for text."""
    BYTES_BOUND = "bytes_bound"
    """The length in UTF-8, which no tokenizer exceeds that works on bytes."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A number of tokens and where it comes from.

    Attributes:
        tokens: how many.
        method: by which method.
        uncounted: images, sounds and files that ``tokens`` leaves out, because no rule about text covers them.
    """

    tokens: int
    method: TokensMethod
    uncounted: int = 0


TOKENS_PER_MESSAGE = 3
"""What a message takes beside its own text, in tokens; the same goes for the beginning of the answer.

Source: OpenAI Cookbook, "How to count tokens with tiktoken", for gpt-3.5-turbo-0613 and all chat models after it. Other
vendors publish no such figure.
"""

TOKENS_PER_NAME = 1
"""What a message's ``name`` takes beside its text, in tokens. Source as above."""

_PIECE_CHARS = 32_768
"""Longest text that tiktoken is given at once.

From about a million blanks on, its pattern overflows its stack and the extension panics (tiktoken 0.14).
"""

_MEDIA = frozenset(
    {
        "audio",
        "document",
        "file",
        "image",
        "image_generation_call",
        "image_url",
        "input_audio",
        "input_file",
        "input_image",
        "input_video",
        "video",
        "video_url",
    }
)
"""Types of content parts that are no text, in the APIs of OpenAI and Anthropic and those made after them."""

_TEXT = frozenset({"input_text", "output_text", "refusal", "text"})

_MODELS_KEPT = 256

Counter = tuple[Callable[[str], int], TokensMethod]

_shelf = VocabularyShelf()
_counters: dict[str, Counter] = {}


def count_tokens(text: str, model: str = "gpt-4o") -> TokenCount:
    """Count the tokens of ``text`` for ``model``.

    With tiktoken where the extra ``tokens`` is installed, tiktoken knows the model, and the vocabulary was on disk when it
    was first needed; else the bound of ``bound_text``. Special tokens in the text, such as ``<|endoftext|>``, count as
    the text they are. A text of more than 32,768 characters is counted in pieces, and each seam may be off by a token or
    two.

    The first count of a process loads the vocabulary, which takes some tenths of a second: see ``preload``.
    """
    count, method = _counter(model)
    return TokenCount(count(text), method)


def count_messages(messages: Iterable[Mapping[str, Any]], model: str = "gpt-4o") -> TokenCount:
    """Count the tokens of a conversation for ``model``, in the shape of OpenAI's Chat Completions or of the other APIs.

    Each message takes 3 tokens beside its text, and so does the beginning of the answer. Tool calls are counted by their
    names, arguments and keys, for want of a published rule. What is sent beside the messages (``system=``, ``tools=``,
    ``response_format=``) is not counted.
    """
    count, method = _counter(model)
    return _count_messages(messages, count, method)


def bound_text(text: str) -> int:
    """Return a number of tokens that ``text`` does not exceed: its length in UTF-8.

    A token of a byte-level vocabulary, or of one that falls back to bytes, stands for at least one byte. All of OpenAI's
    are of this kind, and so are those of most open models; Anthropic publishes nothing about its own. A tokenizer that
    expands characters first (NFKC) may exceed the bound on rare ones.
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def bound_messages(messages: Iterable[Mapping[str, Any]]) -> TokenCount:
    """Return a number of tokens that a conversation does not exceed; rules as for ``count_messages`` and ``bound_text``."""
    return _count_messages(messages, bound_text, TokensMethod.BYTES_BOUND)


def preload(model: str = "gpt-4o") -> bool:
    """Load the vocabulary of ``model`` from disk, so that no request has to; call it when the application starts.

    A file that has arrived since it was last looked for is found. Returns whether counts for ``model`` are exact.
    """
    vocabulary = vocabulary_for(model)
    if vocabulary is not None:
        _shelf.take(vocabulary, again=True)
        # Other models may share it.
        _counters.clear()
    return _counter(model)[1] is TokensMethod.TIKTOKEN


def is_loaded(model: str = "gpt-4o") -> bool:
    """Whether counting for ``model`` has nothing to load any more, and so may be done on an event loop."""
    return model in _counters


def _counter(model: str) -> Counter:
    counter = _counters.get(model)
    if counter is None:
        # Model names may come from requests, and must not pile up here.
        if len(_counters) >= _MODELS_KEPT:
            _counters.clear()
        counter = _counters[model] = _make_counter(model)
    return counter


def _make_counter(model: str) -> Counter:
    vocabulary = vocabulary_for(model)
    encoding = _shelf.take(vocabulary) if vocabulary is not None else None
    if encoding is None:
        return bound_text, TokensMethod.BYTES_BOUND
    encode = encoding.encode_ordinary
    return lambda text: sum(len(encode(piece)) for piece in _pieces(text)), TokensMethod.TIKTOKEN


def _pieces(text: str) -> Sequence[str]:
    if len(text) <= _PIECE_CHARS:
        return (text,)
    return [text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS)]


def _count_messages(
    messages: Iterable[Mapping[str, Any]], count: Callable[[str], int], method: TokensMethod
) -> TokenCount:
    tokens, uncounted = TOKENS_PER_MESSAGE, 0
    for message in messages:
        tokens += TOKENS_PER_MESSAGE
        if "name" in message:
            tokens += TOKENS_PER_NAME
        for text in _texts(message):
            if text is None:
                uncounted += 1
            else:
                tokens += count(text)
    return TokenCount(tokens, method, uncounted)


def _texts(message: Mapping[str, Any]) -> Iterator[str | None]:
    """Yield all text of a message, in no particular order, and ``None`` for each part that is no text.

    It keeps a list of what is left instead of calling itself, because messages may be nested as deeply as a client likes.
    """
    # Items of the Responses API have no role, but a type that may say that they are no text.
    left: list[Any] = [part for part in message.values() if part is not None] if "role" in message else [message]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            kind = value.get("type")
            if isinstance(kind, str) and kind in _MEDIA:
                yield None
            elif isinstance(kind, str) and kind in _TEXT:
                left.append(value.get(kind, value.get("text", "")))
            else:
                for key, part in value.items():
                    yield f'"{key}":,'
                    left.append(part)
        elif isinstance(value, Iterable):
            left.extend(value)
        else:
            yield str(value)
