"""The ``turnpike`` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the ``turnpike`` command; its libraries are an extra, so that the library itself stays light."""
    try:
        from turnpike.cli.commands import turnpike
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit("The turnpike command needs an optional dependency. Install it with: pip install 'turnpike[cli]'")
    turnpike(prog_name="turnpike")
