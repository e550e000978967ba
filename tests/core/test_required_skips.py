"""A skip for want of a service is a failure where TURNPIKE_TEST_REQUIRE says that the service must be there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

TESTS = """
import pytest

def test_of_a_service():
    pytest.skip("needs redis: start redis-server")

@pytest.mark.skipif(True, reason="only on Windows")
def test_of_a_platform(): ...

def test_of_nothing_in_particular(): ...
"""
MODULE_OF_A_SERVICE = """
import pytest

pytest.skip("needs redis: start redis-server", allow_module_level=True)
"""


def outcome(folder: Path, source: str, required: str) -> tuple[int, str]:
    shutil.copy(CONFTEST, folder)
    (folder / "test_case.py").write_text(source)
    settings = {"TURNPIKE_TEST_REQUIRE": required, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"--rootdir={folder}", str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
        check=False,
    )
    return run.returncode, run.stdout


@pytest.mark.parametrize("required", ["", "postgres", "red"])
def test_a_service_that_is_not_required_may_be_missing(tmp_path: Path, required: str) -> None:
    code, report = outcome(tmp_path, TESTS, required)
    assert (code, "1 passed, 2 skipped" in report) == (0, True), report


@pytest.mark.parametrize("required", ["all", "postgres, redis"])
def test_a_required_service_that_is_missing_fails_its_test_and_no_other(tmp_path: Path, required: str) -> None:
    code, report = outcome(tmp_path, TESTS, required)
    assert (code, "1 failed, 1 passed, 1 skipped" in report) == (1, True), report


def test_a_module_that_skips_as_a_whole_fails_too(tmp_path: Path) -> None:
    code, report = outcome(tmp_path, MODULE_OF_A_SERVICE, "all")
    assert (code, "needs redis: start redis-server" in report) == (2, True), report


@pytest.mark.parametrize(("required", "code"), [("all", 0), ("all,recordings", 1)])
def test_what_nobody_can_install_is_required_only_by_name(tmp_path: Path, required: str, code: int) -> None:
    assert outcome(tmp_path, TESTS.replace("redis", "recordings"), required)[0] == code
