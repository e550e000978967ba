"""What every test may rely on: the event loop's name, and skips that CI turns into failures.

A test that needs something which a machine may lack (a service, a program, a directory of recordings) skips with a
reason of the form ``needs <name>: <what to do>``. ``TURNPIKE_TEST_REQUIRE`` lists the names that must not be skipped,
separated by commas, or says ``all``; `.ci/run` sets it, so that a test which silently stops running is seen. ``all``
leaves out material that is not public, such as recordings of real providers; to require that, name it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import TypeVar

import pytest

_NEEDS = re.compile(r"(?:Skipped: )?needs (?P<name>[\w.-]+):")
_NOT_PUBLIC = frozenset({"check_genai", "pricing-cases", "recordings"})

ReportT = TypeVar("ReportT", pytest.TestReport, pytest.CollectReport)


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop of every supported server."""
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips for want of something that is required here."""
    return _fail_if_required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that skips as a whole for want of something that is required here."""
    return _fail_if_required((yield))


def _fail_if_required(report: ReportT) -> ReportT:
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return report
    path, line, reason = report.longrepr
    needs = _NEEDS.match(reason)
    if needs and _is_required(needs["name"]):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: {reason} (TURNPIKE_TEST_REQUIRE makes this skip a failure)"
    return report


def _is_required(name: str) -> bool:
    required = {item.strip() for item in os.environ.get("TURNPIKE_TEST_REQUIRE", "").split(",")}
    return name in required or ("all" in required and name not in _NOT_PUBLIC)
