"""Finding a request's route template where no framework tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.boundary.route_templates import UNMATCHED, Route, RouteTemplates, finder
from turnpike.boundary.rules import RouteRule
from turnpike.errors import SettingsError

TEMPLATES = RouteTemplates(["/", "/chat/{id}", "/chat/{id}/turns/{turn}", "/files/{path:path}", "/v1.0/a"])


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/", "/"),
        ("/chat/7", "/chat/{id}"),
        ("/chat/7/turns/8", "/chat/{id}/turns/{turn}"),
        ("/files/a/b.txt", "/files/{path:path}"),
        ("/v1.0/a", "/v1.0/a"),
        ("/v1x0/a", None),
        ("/chat/", None),
        ("/chat/7/", None),
        ("/chat/a\n", "/chat/{id}"),
        ("", None),
    ],
)
def test_a_placeholder_stands_for_one_segment_unless_it_says_path(path: str, template: str | None) -> None:
    assert TEMPLATES.find(path) == template


@given(st.text(max_size=2000))
def test_any_path_has_a_template_or_none(path: str) -> None:
    assert TEMPLATES.find(path) in {None, "/", "/chat/{id}", "/chat/{id}/turns/{turn}", "/files/{path:path}", "/v1.0/a"}


def test_the_first_template_that_matches_counts() -> None:
    assert RouteTemplates(["/a/{x}", "/a/b"]).find("/a/b") == "/a/{x}"


def test_a_template_without_a_slash_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="'chat' must begin with a slash"):
        RouteTemplates(["chat"])


def test_what_matches_nothing_has_one_name() -> None:
    route_of = finder(None, str)
    assert route_of("/anything") == Route(UNMATCHED)


def test_a_function_may_know_the_routes_and_their_rules() -> None:
    known = {"/a": "/a", "/b": Route("/b", RouteRule(exempt=True)), "/c": None}
    route_of = finder(known.__getitem__, str)
    assert [route_of(path) for path in known] == [Route("/a"), Route("/b", RouteRule(exempt=True)), Route(UNMATCHED)]
