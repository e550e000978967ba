"""Every case of the published contract against every stack of this repository, as one test for each cell."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from turnpike.testing.contract import Case, SaysNothing, Stack, cases, load_stacks, run_case

_FILES = sorted((Path(__file__).parent / "stacks").glob("*_stack.py"))
_WITHOUT_FRAMEWORK = ("asgi", "wsgi")


def _cells() -> list[object]:
    cells: list[object] = []
    for path in _FILES:
        framework = path.stem.removesuffix("_stack")
        if framework not in _WITHOUT_FRAMEWORK and importlib.util.find_spec(framework) is None:
            reason = f"needs {framework}: install turnpike[{framework}]"
            cells.append(pytest.param(None, None, id=framework, marks=pytest.mark.skip(reason=reason)))
            continue
        for stack in load_stacks(str(path)):
            cells += [pytest.param(stack, made, id=f"{stack.name}-{made.id}") for made in cases()]
    return cells


@pytest.mark.parametrize(("stack", "made"), _cells())
def test_the_stack_keeps_the_contract(stack: Stack, made: Case) -> None:
    if reason := made.why_not(stack):
        pytest.skip(f"n/a for {stack.name}: {reason}")
    try:
        run_case(made, stack)
    except SaysNothing as nothing:
        pytest.skip(f"n/a for {stack.name}: {nothing}")
