"""Examples loaded into this process, each time anew, so that they read the environment as it is now."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from turnpike.demo.servers import examples_folder

__all__ = ["load_example"]


def load_example(name: str) -> ModuleType:
    """Run the file ``name`` of the examples' folder as a module of its own."""
    path = examples_folder() / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
