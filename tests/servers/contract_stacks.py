"""The stacks of the contract, by name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from turnpike.testing.contract import Stack

STACKS = Path(__file__).parent.parent / "contract" / "stacks"


def stack_called(name: str) -> Stack:
    """Return the stack ``name``, such as ``flask-sync``, from the file of its framework."""
    path = STACKS / f"{name.split('-', maxsplit=1)[0]}_stack.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Litestar looks up where its handlers come from
    spec.loader.exec_module(module)
    found: Stack = next(stack for stack in module.STACKS if stack.name == name)
    return found
