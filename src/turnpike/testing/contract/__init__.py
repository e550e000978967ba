"""The contract that every adapter keeps, as cases that run against any stack.

A stack file wires the small service of ``turnpike.testing.contract.service`` to its framework and exposes
``STACKS: tuple[Stack, ...]``. ``python -m turnpike.testing.contract mystack.py:STACKS`` runs every case against it. The
suite imports no framework and no test runner.
"""

from turnpike.testing.contract.expectations import SaysNothing
from turnpike.testing.contract.harness import Harness, Serve
from turnpike.testing.contract.registry import Case, cases
from turnpike.testing.contract.runner import Cell, check_stacks, format_failures, format_table
from turnpike.testing.contract.service import OWN_HEADER, ROUTES, SESSION_HEADER, STREAM_MEDIA_TYPE, Call, Route
from turnpike.testing.contract.stack import ContractSetup, Feature, Stack
from turnpike.testing.contract.stack_files import load_stacks

__all__ = [
    "OWN_HEADER",
    "ROUTES",
    "SESSION_HEADER",
    "STREAM_MEDIA_TYPE",
    "Call",
    "Case",
    "Cell",
    "ContractSetup",
    "Feature",
    "Harness",
    "Route",
    "SaysNothing",
    "Serve",
    "Stack",
    "cases",
    "check_stacks",
    "format_failures",
    "format_table",
    "load_stacks",
]
