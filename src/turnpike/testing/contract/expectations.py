"""What cases say about what they found: comparisons whose failures explain themselves without a test runner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from turnpike.boundary.problem import Problem
from turnpike.envelope import LLMRequestEnvelope
from turnpike.testing.contract.transports import Response

__all__ = ["SaysNothing", "check", "equal", "one", "same_problem", "status", "whose"]


class SaysNothing(Exception):  # noqa: N818 - no error: a cell of the table that stays empty
    """A case has found that it says nothing of this stack, behind this server; the text is the reason."""


def check(condition: object, what: str) -> None:
    """Fail with ``what`` unless ``condition`` is true."""
    if not condition:
        raise AssertionError(what)


def equal(found: object, expected: object, what: str) -> None:
    """Fail unless both are equal."""
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def one(things: Iterable[Any], what: str) -> Any:
    """Return the only one of ``things``, or fail."""
    found = list(things)
    equal(len(found), 1, f"number of {what}")
    return found[0]


def status(response: Response, expected: int) -> Response:
    """Return ``response`` if it has the status; show its body and what the application raised otherwise."""
    if response.status != expected:
        raised = f"; the application raised {response.error!r}" if response.error is not None else ""
        raise AssertionError(f"status: expected {expected}, found {response.status} {response.body[:300]!r}{raised}")
    return response


def same_problem(response: Response, problem: Problem) -> None:
    """Fail unless the response is ``problem`` byte for byte, with all of its headers once."""
    status(response, problem.status)
    equal(response.body, problem.body, "body of the problem")
    for name, value in problem.response_headers.items():
        equal(response.values(name), [value], f"header {name}")
    equal(response.values("content-length"), [str(len(problem.body))], "header Content-Length")


def whose(envelope: LLMRequestEnvelope) -> str:
    """Return tenant and caller of an envelope as ``tenant/caller``, or how it is marked as nobody's."""
    return f"{envelope.tenant_id}/{envelope.caller_id}" if envelope.attributed else "nobody"
