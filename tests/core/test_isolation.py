"""The library stands alone: importing it loads no framework, no provider SDK and no price data."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import turnpike

FRAMEWORKS = ("django", "fastapi", "flask", "litestar", "quart", "sanic", "starlette")
LOADED_ON_USE = ("aiohttp", "anthropic", "genai_prices", "httpx", "httpx2", "openai", "opentelemetry.sdk", "pydantic")

without_framework = pytest.mark.skipif(
    "TURNPIKE_TEST_WITHOUT_FRAMEWORK" not in os.environ,
    reason="holds in the tox environments that install no framework",
)
in_tox = pytest.mark.skipif("TOX_ENV_NAME" not in os.environ, reason="holds where tox installed the wheel")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("package", ["turnpike", "turnpike.gateway.client", "turnpike.boundary", "turnpike.settings"])
def test_importing_a_package_loads_no_framework_no_sdk_and_no_prices(package: str) -> None:
    assert loaded_by(f"import {package}").isdisjoint({*FRAMEWORKS, *LOADED_ON_USE})


@without_framework
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_framework_is_installed_beside_the_core(framework: str) -> None:
    assert importlib.util.find_spec(framework) is None


@in_tox
def test_the_tests_import_the_installed_wheel_and_not_the_checkout() -> None:
    assert Path(turnpike.__file__).is_relative_to(sys.prefix)


@in_tox
@pytest.mark.parametrize("file", ["py.typed", "../turnpike_fastapi/py.typed", "_examples"])
def test_the_wheel_carries(file: str) -> None:
    assert (Path(turnpike.__file__).parent / file).exists()
