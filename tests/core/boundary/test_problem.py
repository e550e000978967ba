"""Errors as problem details: one body, one set of headers, and nothing in them that is not the client's business."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike import errors
from turnpike.boundary.problem import Problem, problem_from

CANARY = "sk-canary-do-not-show"


def problem_of(error: BaseException) -> Problem:
    problem = problem_from(error)
    assert problem is not None
    return problem


def provider_error(kind: type[errors.ProviderError], **details: Any) -> errors.ProviderError:
    return kind("openai", f"answered {CANARY}", **details)


def all_kinds(base: type[errors.TurnpikeError]) -> list[type[errors.TurnpikeError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in all_kinds(child))]


KINDS = [kind for kind in all_kinds(errors.TurnpikeError) if kind.__module__ == errors.__name__]


def test_the_body_holds_the_members_of_rfc_9457_in_order_and_then_the_extensions() -> None:
    problem = Problem(
        429,
        "Quota exceeded",
        "Try again in 7 s.",
        "https://example.org/problems/quota",
        members={"violated-policies": ["default"]},
        instance="/jobs/1",
        request_id="r-1",
    )
    assert problem.body == (
        b'{"type":"https://example.org/problems/quota","title":"Quota exceeded","status":429,'
        b'"detail":"Try again in 7 s.","instance":"/jobs/1","request_id":"r-1","violated-policies":["default"]}'
    )


def test_a_problem_without_a_type_of_its_own_is_about_blank_and_leaves_empty_members_out() -> None:
    assert Problem(403, "Forbidden", "Not yours.").body == (
        b'{"type":"about:blank","title":"Forbidden","status":403,"detail":"Not yours."}'
    )


def test_a_problem_is_never_stored_by_caches() -> None:
    assert Problem(401, "Unauthorized", "No key.", headers={"WWW-Authenticate": "ApiKey"}).response_headers == {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "WWW-Authenticate": "ApiKey",
    }


def test_frameworks_may_assign_to_a_raised_problem() -> None:
    problem = Problem(401, "Unauthorized", "No key.")
    problem.__traceback__ = None
    with pytest.raises(Problem, match="401 Unauthorized: No key"):
        raise problem


@given(st.text(st.characters()))
def test_any_text_can_be_a_detail(detail: str) -> None:
    assert json.loads(Problem(400, "Invalid request", detail).body)["detail"] == detail


def test_other_peoples_errors_are_not_problems() -> None:
    assert problem_from(ValueError("x")) is None


def test_a_problem_stands_for_itself() -> None:
    problem = Problem(401, "Unauthorized", "No key.")
    assert problem_from(problem) is problem


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_becomes_a_problem_with_its_own_status_type_and_title(kind: type[errors.TurnpikeError]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "x")
    if isinstance(error, errors.ProviderError):
        error.retry_after_s = error.envelope = None
    problem = problem_of(error)
    assert (problem.status, problem.title, problem.type) == (kind.http_status, kind.title, error.problem_type)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.ProviderRequestError, 502),
        (errors.ProviderUnavailableError, 502),
        (errors.ProviderRateLimitError, 503),
        (errors.ProviderTimeoutError, 504),
    ],
)
def test_a_providers_failure_shows_nothing_of_what_it_said(kind: type[errors.ProviderError], status: int) -> None:
    problem = problem_of(provider_error(kind))
    assert problem.status == status
    assert CANARY not in problem.body.decode()
    assert "openai" not in problem.body.decode()


@pytest.mark.parametrize(
    ("wait_s", "header"),
    [(12.2, "13"), (0.0, "0"), (-3.0, "0"), (None, None), (math.inf, None), (math.nan, None)],
)
def test_the_wait_that_a_provider_asks_for_is_passed_on_in_whole_seconds(
    wait_s: float | None, header: str | None
) -> None:
    problem = problem_of(provider_error(errors.ProviderRateLimitError, retry_after_s=wait_s))
    assert problem.response_headers.get("Retry-After") == header


def test_a_misconfiguration_is_told_to_the_log_and_not_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    error = errors.UnknownTierError("cheep", "/answer", ["cheap"])
    body = problem_of(error).body.decode()
    assert "cheep" not in body
    assert "/answer" not in body
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, f"UnknownTierError: {error}")
    ]


def test_an_invalid_request_is_explained_to_the_client() -> None:
    problem = problem_of(errors.InvalidRequestError("messages must not be empty"))
    assert (problem.status, problem.detail) == (400, "messages must not be empty")


def test_an_exhausted_budget_tells_sdk_clients_not_to_retry() -> None:
    class BudgetExhaustedError(errors.TurnpikeError):
        http_status = 402

    assert problem_of(BudgetExhaustedError("spent")).response_headers["x-should-retry"] == "false"
    assert "x-should-retry" not in problem_of(errors.InvalidRequestError("x")).response_headers


def test_a_failed_call_is_named_so_that_its_ledger_line_can_be_found() -> None:
    error = provider_error(errors.ProviderTimeoutError)

    class Envelope:
        request_id = "req-7"

    error.envelope = Envelope()  # type: ignore[assignment]
    assert json.loads(problem_of(error).body)["request_id"] == "req-7"
