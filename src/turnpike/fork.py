"""What has to be made new in the child of a fork: locks another thread held, lines and connections of the parent."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

__all__ = ["ForkAware", "reset_in_child"]


class ForkAware(Protocol):
    """An object with something to replace in a child process."""

    def after_fork_in_child(self) -> None:
        """Replace it. Runs in the child before any other code, with no lock of the parent usable."""
        ...


_registered: weakref.WeakSet[Any] = weakref.WeakSet()


def reset_in_child(instance: ForkAware) -> None:
    """Have ``instance.after_fork_in_child()`` called in every child of a fork, for as long as the instance lives."""
    _registered.add(instance)


def _reset_all() -> None:
    for instance in list(_registered):
        instance.after_fork_in_child()


os.register_at_fork(after_in_child=_reset_all)
