"""Errors: what they are caught as, what becomes of them at the edge, and what they say."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from turnpike import errors
from turnpike.errors import ProviderError, TurnpikeError, error_of_category

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TurnpikeError)]
MADE: list[TurnpikeError] = [
    errors.TurnpikeError("x"),
    errors.ConfigurationError("x"),
    errors.SettingsError("x"),
    errors.MissingExtraError("Provider 'openai'", "openai"),
    errors.MissingAPIKeyError("openai", "OPENAI_API_KEY"),
    errors.UnknownRouteError("/anser", {"/answer"}),
    errors.UnknownTierError("cheep", "/answer", {"cheap"}),
    errors.UnknownProviderError("opnai", {"openai"}),
    errors.UnsupportedOptionError("openai", {"seed"}, {"stop"}),
    errors.InvalidRequestError("x"),
    errors.UnattributedError(),
    errors.LedgerError("x"),
    errors.CallCancelledError("x"),
]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_says_what_it_becomes_at_the_edge(kind: type[TurnpikeError]) -> None:
    assert 400 <= kind.http_status <= 599
    assert kind.problem.replace("-", "").isalpha()
    assert kind.title


@pytest.mark.parametrize(
    ("error", "fragments"),
    [
        (errors.UnknownRouteError("/anser", {"/answer"}), ["No gateway policy", "register_route_policy", "'/answer'"]),
        (errors.UnknownTierError("cheep", "/x", {"cheap"}), ["not configured", "Did you mean 'cheap'?"]),
        (errors.UnknownProviderError("opnai", {"openai"}), ["not registered", "Did you mean 'openai'?"]),
        (errors.MissingAPIKeyError("openai", "OPENAI_API_KEY"), ["OPENAI_API_KEY", "api_key"]),
        (errors.MissingExtraError("X", "openai"), ["pip install 'turnpike[openai]'"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_messages_name_the_thing_and_the_cure(error: TurnpikeError, fragments: list[str]) -> None:
    assert [fragment for fragment in fragments if fragment not in str(error)] == []


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.UnknownRouteError, ValueError),
        (errors.UnknownTierError, ValueError),
        (errors.UnknownProviderError, ValueError),
        (errors.MissingAPIKeyError, ValueError),
        (errors.InvalidRequestError, ValueError),
        (errors.SettingsError, ValueError),
        (errors.MissingExtraError, ImportError),
        (errors.UnattributedError, LookupError),
        (errors.LedgerError, OSError),
    ],
)
def test_errors_are_caught_as_they_were_before(kind: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_every_error_survives_a_process_boundary(error: TurnpikeError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)


PROVIDER_ERRORS = [kind for kind in EVERY if issubclass(kind, ProviderError)]


@pytest.mark.parametrize("kind", PROVIDER_ERRORS, ids=lambda kind: kind.__name__)
def test_a_provider_error_survives_a_process_boundary_without_the_sdk_s_own(kind: type[ProviderError]) -> None:
    error = kind("openai", "HTTP 429", status=429, code="x", retry_after_s=2.0, original=ValueError("secret"))
    copy: Any = pickle.loads(pickle.dumps(error))

    assert type(copy) is kind
    assert (str(copy), copy.provider, copy.status, copy.code) == ("Provider 'openai': HTTP 429", "openai", 429, "x")
    assert (copy.retry_after_s, copy.category, copy.original) == (2.0, error.category, None)


@pytest.mark.parametrize(
    ("category", "status"),
    [
        ("auth_error", 502),
        ("rate_limit", 503),
        ("timeout", 504),
        ("transient_error", 502),
        ("invalid_request", 502),
        ("unknown", 502),
        ("made up", 502),
    ],
)
def test_every_category_has_its_class(category: str, status: int) -> None:
    kind = error_of_category(category)

    assert kind.http_status == status
    assert kind("p", "d", category=category).category == category
    assert kind is ProviderError or kind.category == category
