"""Choosing a model tier by how demanding a message is.

``KeywordClassifier`` decides by whole words and by length, in bounded time and without a model call; anything with the
method ``classify`` may take its place. A classifier recommends: nothing here calls a model, and no message is kept or
logged.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from turnpike.errors import ConfigurationError, InvalidRequestError

__all__ = [
    "BRIDGES",
    "COMPLEX_WORDS",
    "NEGATIONS",
    "SIMPLE_PHRASES",
    "TIERS",
    "Classification",
    "Complexity",
    "ComplexityClassifier",
    "KeywordClassifier",
]


class Complexity(StrEnum):
    """How demanding a message is."""

    SIMPLE = "simple"
    MEDIUM = "medium"
    COMPLEX = "complex"


@dataclass(frozen=True, slots=True)
class Classification:
    """What a classifier makes of a message.

    Attributes:
        complexity: how demanding the message is.
        recommended_tier: name of the model tier to call.
        needs_escalation: whether the message should go to a stronger model than the ordinary one.
        matched: the configured words and phrases that decided, in the order of the message; empty where length did.
        length: characters of the message, blanks around it left out.
    """

    complexity: Complexity
    recommended_tier: str
    needs_escalation: bool
    matched: tuple[str, ...] = ()
    length: int = 0


@runtime_checkable
class ComplexityClassifier(Protocol):
    """Anything that classifies messages."""

    def classify(self, message: str) -> Classification:
        """Say how demanding ``message`` is, and which tier should answer it."""
        ...


COMPLEX_WORDS = frozenset(
    {
        *("analyze", "analyzes", "analyzed", "analyzing", "analyse", "analysed", "analysing"),
        *("analysis", "analyses", "analytical", "analytically"),
        *("complex", "complexity", "complexities"),
        *("comprehensive", "comprehensively", "detailed", "in detail", "in depth"),
        *("evaluate", "evaluates", "evaluated", "evaluating", "evaluation", "evaluations"),
        *("implication", "implications"),
        *("thorough", "thoroughly", "trade off", "trade offs", "tradeoff", "tradeoffs"),
    }
)
"""English words that ask for analysis or depth, in every form in which they count: nothing is stemmed."""

SIMPLE_PHRASES = frozenset({"what is", "what's", "quick", "quickly", "brief", "briefly", "short answer", "in short"})
"""English words and phrases that ask for a short answer."""

NEGATIONS = frozenset(
    {"no", "non", "not", "never", "neither", "nor", "without", "cannot", "dont", "doesnt", "isnt", "wont"}
)
"""English words that turn a word after them into its opposite, beside all that end in ``n't``."""

BRIDGES = frozenset(
    {
        *("a", "an", "any", "the", "that", "this", "your", "or", "nor", "to", "be", "being", "is", "as", "of"),
        *("all", "at", "really", "very", "too", "so", "overly", "particularly", "especially", "exactly"),
        *("give", "me", "us", "do", "want", "need", "write", "make", "provide", "it", "i", "you", "please"),
    }
)
"""English words across which a negation reaches: in "don't give me a detailed answer" it means "detailed"."""

_NOT_NEGATING = frozenset({("not", "only"), ("not", "just"), ("not", "merely"), ("not", "simply"), ("why", "not")})

TIERS: Mapping[Complexity, str] = MappingProxyType(
    {Complexity.SIMPLE: "cheap", Complexity.MEDIUM: "cheap", Complexity.COMPLEX: "expensive"}
)
"""Tier names of the example service."""


class KeywordClassifier:
    """Classifies by words, then by length.

    A message is complex if it holds one of ``complex_words`` or is longer than ``complex_above`` characters; otherwise
    simple if it holds one of ``simple_phrases`` or is shorter than ``simple_below``; otherwise medium.

    Words are found as whole words, whatever their case (Unicode case folding) and compatibility form (NFKC): "complexion"
    is not "complex", and forms that are to count are listed, not guessed. Hyphens separate words, so "in depth" is found
    in "in-depth" too. A phrase does not reach across the end of a clause.

    A word with a negation before it does not count ("not complex", "don't give me a detailed answer"), as long as the two
    are in one clause with none but ``bridges`` between them. Other negations ("complex? hardly") are not understood.

    The lists are English; pass your own for other languages. In a script that writes no blanks between words (Chinese,
    Japanese, Thai) whole words are not found, and a classifier of your own is needed.

    Args:
        complex_words: words and phrases that make a message complex.
        simple_phrases: words and phrases that make it simple.
        negations: words that negate what follows, beside those that end in ``n't``.
        bridges: words that may stand between a negation and what it negates.
        complex_above: length in characters above which a message is complex; ``None`` switches the rule off.
        simple_below: length in characters below which it is simple; 0 switches the rule off.
        tiers: the tier for each complexity; what is left out stays as in ``TIERS``.

    Raises:
        ConfigurationError: naming the argument that is wrong.
    """

    def __init__(
        self,
        *,
        complex_words: Iterable[str] = COMPLEX_WORDS,
        simple_phrases: Iterable[str] = SIMPLE_PHRASES,
        negations: Iterable[str] = NEGATIONS,
        bridges: Iterable[str] = BRIDGES,
        complex_above: int | None = 200,
        simple_below: int = 50,
        tiers: Mapping[Complexity, str] | Mapping[str, str] = TIERS,
    ) -> None:
        self._complex = _Phrases("complex_words", complex_words)
        self._simple = _Phrases("simple_phrases", simple_phrases)
        self._negations = _single_words("negations", negations)
        self._bridges = _single_words("bridges", bridges)
        if complex_above is not None:
            _check_length("complex_above", complex_above)
        _check_length("simple_below", simple_below)
        self._complex_above = sys.maxsize if complex_above is None else complex_above
        self._simple_below = simple_below
        self._tiers = _tiers(tiers)

    def classify(self, message: str) -> Classification:
        """Say how demanding ``message`` is.

        The same message always gets the same answer, in time proportional to its length at the most: a message that its
        length makes complex is not read.

        Raises:
            InvalidRequestError: if it is not text.
        """
        if not isinstance(message, str):
            raise InvalidRequestError(f"A message to classify must be a str; got {type(message).__name__}.")
        length = len(message.strip())
        if length > self._complex_above:
            return self._result(Complexity.COMPLEX, (), length)
        words = _words(message)
        matched = self._found(words, self._complex)
        if matched:
            return self._result(Complexity.COMPLEX, matched, length)
        matched = self._found(words, self._simple)
        if matched or length < self._simple_below:
            return self._result(Complexity.SIMPLE, matched, length)
        return self._result(Complexity.MEDIUM, (), length)

    def _result(self, complexity: Complexity, matched: tuple[str, ...], length: int) -> Classification:
        return Classification(complexity, self._tiers[complexity], complexity is Complexity.COMPLEX, matched, length)

    def _found(self, words: list[str], phrases: _Phrases) -> tuple[str, ...]:
        """Return the phrases in ``words`` that nothing negates, each once."""
        found: dict[str, None] = {}
        negated = False
        covered_to = 0  # words of a phrase that was found neither end nor begin a negation
        for index, word in enumerate(words):
            phrase = phrases.at(words, index)
            if phrase:
                if not negated:
                    found[" ".join(phrase)] = None
                covered_to = max(covered_to, index + len(phrase))
            elif index >= covered_to:
                negated = self._negates(words, index) or (negated and word in self._bridges)
        return tuple(found)

    def _negates(self, words: list[str], index: int) -> bool:
        word = words[index]
        if word not in self._negations and not word.endswith("n't"):
            return False
        before = words[index - 1] if index else ""
        after = words[index + 1] if index + 1 < len(words) else ""
        return (word, after) not in _NOT_NEGATING and (before, word) not in _NOT_NEGATING


class _Phrases:
    """Phrases by their first word, longest first."""

    def __init__(self, argument: str, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        for phrase in _texts(argument, phrases):
            words = tuple(_words(phrase))
            if not words or _BREAK in words:
                raise ConfigurationError(f"{argument} has {phrase!r}: write words, without marks between them.")
            self._by_first.setdefault(words[0], []).append(words)
        for same_start in self._by_first.values():
            same_start.sort(key=len, reverse=True)

    def at(self, words: list[str], index: int) -> tuple[str, ...]:
        """Return the longest phrase that begins at ``index``; empty if there is none."""
        for phrase in self._by_first.get(words[index], ()):
            if tuple(words[index : index + len(phrase)]) == phrase:
                return phrase
        return ()


def _texts(argument: str, texts: Iterable[str]) -> Iterator[str]:
    if isinstance(texts, str):
        raise ConfigurationError(f"{argument} must be a collection of words, such as {{{texts!r}}}; got a str.")
    for text in texts:
        if not isinstance(text, str):
            raise ConfigurationError(f"{argument} must hold texts only; got {type(text).__name__}.")
        yield text


def _single_words(argument: str, texts: Iterable[str]) -> frozenset[str]:
    single = set()
    for text in _texts(argument, texts):
        words = _words(text)
        if len(words) != 1:
            raise ConfigurationError(f"{argument} has {text!r}: write single words.")
        single.update(words)
    return frozenset(single)


def _check_length(argument: str, value: int) -> None:
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{argument} must be a whole number of characters from 0 up; got {value!r}.")


def _tiers(given: Mapping[Complexity, str] | Mapping[str, str]) -> dict[Complexity, str]:
    tiers = dict(TIERS)
    for complexity, tier in given.items():
        if complexity not in tuple(Complexity):
            raise ConfigurationError(f"tiers has {complexity!r}; its keys are {', '.join(Complexity)}.")
        if not isinstance(tier, str) or not tier:
            raise ConfigurationError(f"tiers[{complexity!r}] must be the name of a tier; got {tier!r}.")
        tiers[Complexity(complexity)] = tier
    return tiers


# ------------------------------------------------------------------------------------------------------- words

_BREAK = "\n"
"""Stands among the words where a clause ends."""

_LONGEST_WORD = 64
"""Longer words are compared as they stand: putting marks into their canonical order takes quadratic time."""

_CLAUSE_ENDS = frozenset(".,;:!?\u2026\u00bf\u00a1\u3002\u3001\uff01\uff1f\uff1b\uff1a\u061f\u060c\u061b\u0964")
"""Full stop, comma, semicolon, colon, exclamation and question mark in Latin, CJK, Arabic and Devanagari writing."""

_APOSTROPHES = frozenset("'\u2019\u02bc\uff07")
_JOINERS = frozenset("\u00ad\u200c\u200d\u2060\ufeff")
"""Invisible characters within words: they are left out."""


class _Separations(dict[int, str]):
    """For ``str.translate``: keeps letters, digits and marks, sets off the ends of clauses, and blanks out the rest."""

    def __missing__(self, code: int) -> str:
        # Not remembered: a client chooses which characters come, and must not fill the memory with them.
        return _separated(chr(code))


def _separated(char: str) -> str:
    if char in _CLAUSE_ENDS:
        return f" {_BREAK} "
    if char in _APOSTROPHES:
        return "'"
    if char in _JOINERS:
        return ""
    return char if unicodedata.category(char)[0] in "LMN" else " "


_SEPARATIONS = _Separations({code: _separated(chr(code)) for code in range(0x250)})


def _words(text: str) -> list[str]:
    """Return the words of ``text``, case-folded, with ``_BREAK`` where a clause ends."""
    words = []
    for raw in text.translate(_SEPARATIONS).split(" "):
        word = raw if raw == _BREAK else _folded(raw.strip("'"))
        if word:
            words.append(word)
    return words


def _folded(word: str) -> str:
    if not word.isascii() and len(word) <= _LONGEST_WORD:
        word = unicodedata.normalize("NFKC", word)
    return word.casefold()
