"""A secret is held, compared and revealed, and printed by nothing."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import pytest

from turnpike.secret import Secret

CANARY = "sk-canary"


@pytest.mark.parametrize(
    "show",
    [str, repr, "{}".format, "{!r}".format, "%s".__mod__, lambda s: f"{s!s:>20}", lambda s: repr([s]), ascii],
)
def test_a_secret_does_not_print_itself(show) -> None:
    assert CANARY not in show(Secret(CANARY))
    assert "***" in show(Secret(CANARY))


def test_a_secret_does_not_appear_in_an_exception_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("turnpike").warning("key %s %r", Secret(CANARY), Secret(CANARY))

    assert CANARY not in str(ValueError(Secret(CANARY))) + caplog.text


def test_a_secret_gives_its_value_only_on_request() -> None:
    assert Secret(CANARY).reveal() == CANARY
    assert Secret(Secret(CANARY)).reveal() == CANARY


def test_a_secret_is_equal_to_one_of_the_same_value_and_to_no_text() -> None:
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"
    assert (bool(Secret("")), bool(Secret("a"))) == (False, True)


@pytest.mark.parametrize("leave", [pickle.dumps, json.dumps, vars, iter, len])
def test_a_secret_leaves_by_no_other_door(leave) -> None:
    with pytest.raises(TypeError) as caught:
        leave(Secret(CANARY))
    assert CANARY not in str(caught.value)


def test_settings_that_hold_a_secret_can_be_copied() -> None:
    assert copy.copy(Secret(CANARY)).reveal() == CANARY
    assert copy.deepcopy({"key": Secret(CANARY)})["key"].reveal() == CANARY
