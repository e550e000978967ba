"""What handlers say about their routes."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from turnpike.boundary.rules import NO_RULE, RouteRule, exempt, limit, merged, requires, rule_of


def handler() -> None:
    """Do nothing."""


def test_the_decorators_return_the_function_itself() -> None:
    def view() -> None: ...

    assert limit("chat")(view) is view
    assert requires("a", "b")(view) is view
    assert rule_of(view) == RouteRule(limits=("chat",), scopes=("a", "b"))
    assert exempt(handler_of_its_own := lambda: None) is handler_of_its_own


def test_marks_add_up_and_repeat_nothing() -> None:
    @limit("chat")
    @limit("slow")
    @limit("chat")
    @requires("a")
    @requires("b", "a")
    def view() -> None: ...

    assert rule_of(view) == RouteRule(limits=("chat", "slow"), scopes=("b", "a"))


def test_a_handler_that_nothing_is_said_about_has_no_rule() -> None:
    assert rule_of(handler) is NO_RULE
    assert rule_of(None) is NO_RULE
    assert rule_of(object()) is NO_RULE


def test_other_decorators_may_stand_above_and_below() -> None:
    def logged(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper() -> None: ...

        return wrapper

    def rude(view: Any) -> Any:
        def wrapper() -> None: ...

        wrapper.__wrapped__ = view  # type: ignore[attr-defined]
        return wrapper

    @limit("outer")
    @logged
    @limit("inner")
    def view() -> None: ...

    assert rule_of(view).limits == ("inner", "outer")
    assert rule_of(rude(view)).limits == ("inner", "outer")


def test_partials_bound_methods_and_classes_have_their_functions_rule() -> None:
    class View:
        @exempt
        def get(self) -> None: ...

    @exempt
    def view(_number: int) -> None: ...

    assert rule_of(functools.partial(view, 1)).exempt
    assert rule_of(View().get).exempt
    assert rule_of(exempt(View)).exempt


def test_marking_one_methods_rule_leaves_others_alone() -> None:
    class Base:
        def get(self) -> None: ...

    class Child(Base):
        @limit("chat")
        def get(self) -> None: ...

    assert rule_of(Child.get).limits == ("chat",)
    assert rule_of(Base.get) is NO_RULE


def test_rules_of_several_places_become_one() -> None:
    assert merged() is NO_RULE
    one = RouteRule(limits=("a",))
    assert merged(NO_RULE, one) is one
    assert merged(one, RouteRule(limits=("b", "a"), scopes=("s",)), RouteRule(exempt=True)) == RouteRule(
        exempt=True, limits=("a", "b"), scopes=("s",)
    )


def test_forgotten_parentheses_are_named() -> None:
    with pytest.raises(TypeError, match=r"write @limit\('chat'\)"):
        limit(handler)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"write @requires\('llm:call'\)"):
        requires(handler)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="names of scopes"):
        requires()


def test_what_cannot_be_marked_is_named() -> None:
    with pytest.raises(TypeError, match="int cannot be marked"):
        exempt(7)


def test_a_handler_cannot_be_open_and_require_a_scope() -> None:
    @requires("admin")
    def view() -> None: ...

    with pytest.raises(TypeError, match="either exempt, or requires scopes"):
        exempt(view)
    assert rule_of(view) == RouteRule(scopes=("admin",))
