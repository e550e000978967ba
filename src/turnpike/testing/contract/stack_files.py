"""Finding stacks: ``package.module:ATTRIBUTE`` or ``path/to/file.py:ATTRIBUTE``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from turnpike.testing.contract.stack import Stack

__all__ = ["load_stacks"]


def load_stacks(name: str) -> tuple[Stack, ...]:
    """Import a stack file and return its stacks.

    Args:
        name: a module or the path of a file, and after a colon the attribute that holds a ``Stack`` or several; by default
            ``STACKS``.

    Raises:
        ImportError: if there is no such module, or its framework is missing.
        ValueError: if the attribute holds no stacks.
    """
    where, _, attribute = name.rpartition(":") if ":" in name else (name, "", "STACKS")
    module = _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    held = getattr(module, attribute, None)
    stacks = (held,) if isinstance(held, Stack) else held
    if not isinstance(stacks, (tuple, list)) or not stacks or not all(isinstance(each, Stack) for each in stacks):
        raise ValueError(
            f"{where} has no stacks under the name {attribute}: write {attribute} = (Stack(name=..., ...),)"
        )
    return tuple(stacks)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModuleNotFoundError(f"there is no file {path}")
    name = f"turnpike_contract_{path.stem}"
    if (loaded := sys.modules.get(name)) is not None and loaded.__file__ == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
