"""Classifying messages by words and length."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.errors import ConfigurationError, InvalidRequestError
from turnpike.routing import COMPLEX_WORDS, Classification, Complexity, ComplexityClassifier, KeywordClassifier

CLASSIFIER = KeywordClassifier()
FILLER = "and then tell me which of the roads had gates"
"""Long enough to be no short message, without a word of either list."""


def complexity(message: str, **settings: Any) -> str:
    return str(KeywordClassifier(**settings).classify(message).complexity)


# ------------------------------------------------------------------------------------------------ the three outcomes


def test_a_complex_word_recommends_the_expensive_tier() -> None:
    message = "Analyze the implications of tolls"
    assert CLASSIFIER.classify(message) == Classification(
        Complexity.COMPLEX, "expensive", True, ("analyze", "implications"), len(message)
    )


def test_a_simple_phrase_recommends_the_cheap_tier() -> None:
    message = f"What is a turnpike, {FILLER}?"
    assert CLASSIFIER.classify(message) == Classification(Complexity.SIMPLE, "cheap", False, ("what is",), len(message))


def test_a_message_with_neither_is_medium_and_cheap() -> None:
    message = f"List the tolls of the Bath Road {FILLER}"
    assert CLASSIFIER.classify(message) == Classification(Complexity.MEDIUM, "cheap", False, (), len(message))


@pytest.mark.parametrize(
    ("length", "expected"), [(1, "simple"), (49, "simple"), (50, "medium"), (200, "medium"), (201, "complex")]
)
def test_length_decides_where_no_word_does(length: int, expected: str) -> None:
    found = CLASSIFIER.classify("x" * length)
    assert (found.complexity, found.matched, found.length) == (expected, (), length)


def test_blanks_around_the_message_do_not_count() -> None:
    assert CLASSIFIER.classify(" " * 300 + "Hi\n").length == 2


def test_a_complex_word_wins_over_a_simple_phrase() -> None:
    assert CLASSIFIER.classify("What is the complex part, briefly?").matched == ("complex",)


@pytest.mark.parametrize("message", ["", "   ", "\n", "?!", "'"])
def test_a_message_without_words_is_simple(message: str) -> None:
    assert complexity(message) == "simple"


# ------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    "message",
    [
        "Her complexion is fair",
        "The complexes near here",
        "A quickening pulse",
        "The multicomplex building",
        "psychoanalyze the actor",
        "What isotopes are there",
    ],
)
def test_a_word_inside_another_word_does_not_count(message: str) -> None:
    assert CLASSIFIER.classify(f"{message} {FILLER}").complexity == "medium"


@pytest.mark.parametrize(
    "message",
    [
        "ANALYSE thoroughly",
        "Analyze it",
        "three analyses",
        "Analysing…",
        "(complex)",
        "complex/simple",
        "complex_value",
        "an in-depth look",
        "a look IN DEPTH",
        "trade-offs",
        "\u201canalyze\u201d",
        "'analyze'",
        "\uff21\uff4e\uff41\uff4c\uff59\uff5a\uff45",
        "ana\u00adlyze",
        "it isn't simple: evaluate",
    ],
)
def test_case_marks_and_forms_do_not_hide_a_word(message: str) -> None:
    assert complexity(message) == "complex"


def test_what_matched_is_named_once_and_in_order() -> None:
    found = CLASSIFIER.classify("A thorough, detailed and thorough analysis IN-DEPTH")
    assert found.matched == ("thorough", "detailed", "analysis", "in depth")


def test_a_phrase_does_not_reach_across_the_end_of_a_clause() -> None:
    assert complexity(f"Tell me what. Is it far, {FILLER}") == "medium"
    assert complexity(f"Tell me what is far {FILLER}") == "simple"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"analysez", "en détail"}, "ANALYSEZ les péages"),
        ({"analysez", "en détail"}, "Expliquez en de\u0301tail"),
        ({"gründlich", "ausführlich"}, "Bitte GRÜNDLICH"),
        ({"straße"}, "STRASSE"),
        ({"विश्लेषण"}, "कृपया विश्लेषण करें"),
        ({"анализ"}, "Нужен АНАЛИЗ"),
    ],
)
def test_words_of_other_languages_are_a_matter_of_configuration(words: set[str], message: str) -> None:
    assert complexity(message) == "simple"
    assert complexity(message, complex_words=COMPLEX_WORDS | words) == "complex"


def test_a_vowel_sign_is_a_part_of_its_word() -> None:
    assert complexity("कि", complex_words={"क"}) == "simple"


# --------------------------------------------------------------------------------------------------------- negations


@pytest.mark.parametrize(
    "message",
    [
        "Not complex: what time is it?",
        "This is not a very complex question",
        "I don't need a detailed answer",
        "I don\u2019t want a thorough or detailed one",
        "No analysis please",
        "It is never that complex",
        "Without implications",
        "A non-complex one",
        "Neither detailed nor thorough",
    ],
)
def test_a_negated_word_does_not_count(message: str) -> None:
    assert CLASSIFIER.classify(message).complexity == "simple"


@pytest.mark.parametrize(
    ("message", "matched"),
    [
        ("No, analyze it", "analyze"),
        ("It is not short. Analyze it", "analyze"),
        ("This is not only complex but long", "complex"),
        ("Why not analyze it", "analyze"),
        ("I do not understand the implications", "implications"),
        ("Not detailed but complex", "complex"),
        ("Do not guess, evaluate", "evaluate"),
    ],
)
def test_a_negation_of_something_else_changes_nothing(message: str, matched: str) -> None:
    assert CLASSIFIER.classify(message).matched == (matched,)


def test_negated_simple_phrases_do_not_count_either() -> None:
    assert complexity(f"Please don't be brief {FILLER}") == "medium"


def test_negations_of_other_languages_are_a_matter_of_configuration() -> None:
    german = {"complex_words": {"komplex"}, "negations": {"nicht", "kein"}, "bridges": {"sehr"}}
    assert complexity("Das ist komplex", **german) == "complex"
    assert complexity("Das ist nicht sehr komplex", **german) == "simple"


# ----------------------------------------------------------------------------------------------------- configuration


def test_tiers_and_lengths_can_be_configured() -> None:
    classifier = KeywordClassifier(
        complex_above=10, simple_below=3, tiers={"complex": "smart", Complexity.MEDIUM: "mid"}
    )
    tiers = [classifier.classify("x" * length).recommended_tier for length in (2, 3, 11)]
    assert tiers == ["cheap", "mid", "smart"]


def test_length_rules_can_be_switched_off() -> None:
    assert complexity("x" * 10_000, complex_above=None) == "medium"
    assert complexity("x", simple_below=0) == "medium"


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"complex_words": "analyze"}, "complex_words must be a collection of words"),
        ({"simple_phrases": ["what is", 3]}, "simple_phrases must hold texts only; got int"),
        ({"complex_words": ["", "x"]}, "complex_words has ''"),
        ({"complex_words": ["a, b"]}, "complex_words has 'a, b'"),
        ({"negations": ["not at"]}, "negations has 'not at': write single words"),
        ({"complex_above": -1}, "complex_above must be a whole number"),
        ({"simple_below": 1.5}, "simple_below must be a whole number"),
        ({"tiers": {"hard": "x"}}, "tiers has 'hard'; its keys are simple, medium, complex"),
        ({"tiers": {"complex": ""}}, "must be the name of a tier"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        KeywordClassifier(**settings)
    assert fragment in str(caught.value)


@pytest.mark.parametrize("message", [None, b"analyze", 3, ["analyze"]])
def test_what_is_no_text_is_refused_without_repeating_it(message: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"got {type(message).__name__}"):
        CLASSIFIER.classify(message)


def test_anything_that_classifies_is_a_classifier() -> None:
    class Coin:
        def classify(self, message: str) -> Classification:
            return Classification(Complexity.MEDIUM, "cheap", False)

    assert isinstance(Coin(), ComplexityClassifier)
    assert isinstance(CLASSIFIER, ComplexityClassifier)


# ------------------------------------------------------------------------------------------------------------ bounds


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        " ",
        "'",
        ".,",
        "not ",
        "not a ",
        "in ",
        "analyze ",
        "\u0315\u0300",
        "\ufdfa",
        "\ufdfa ",
        "漢",
        "\U0001f600",
        "\ud800",
    ],
)
def test_a_hostile_message_of_100_kb_takes_no_longer_than_reading_it(unit: str) -> None:
    message = (unit * 100_000)[:100_000]
    classifier = KeywordClassifier(complex_above=None)
    begin = time.process_time()
    classifier.classify(message)
    assert time.process_time() - begin < 2


def test_marks_out_of_order_take_no_quadratic_time() -> None:
    message = "\u0315" * 50_000 + "\u0300" * 50_000
    begin = time.process_time()
    assert complexity(message, complex_above=None) == "medium"
    assert time.process_time() - begin < 2


@given(st.text(max_size=300))
def test_any_text_gets_one_of_three_answers_and_always_the_same(message: str) -> None:
    found = CLASSIFIER.classify(message)
    assert found == CLASSIFIER.classify(message)
    assert found.needs_escalation == (found.complexity == "complex") == (found.recommended_tier == "expensive")


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20), st.sampled_from(sorted(COMPLEX_WORDS)))
def test_a_complex_word_counts_alone_and_not_with_letters_around_it(letters: str, word: str) -> None:
    assert complexity(f"{word} {FILLER}") == "complex"
    glued = f"{letters}{word.replace(' ', '')}{letters}"
    assert CLASSIFIER.classify(glued).matched in (
        (),
        *((other,) for other in COMPLEX_WORDS if other == glued.casefold()),
    )
