"""Ledger lines as a gateway writes them, with what a test says of them."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

from turnpike.clock import utc_stamp

__all__ = ["line", "write_lines"]

_numbers = itertools.count()


def line(**said: Any) -> bytes:
    """Return a line, with its end."""
    usual = {
        "schema_version": "0.2.0",
        "request_id": f"r-{next(_numbers)}",
        "tenant_id": "acme",
        "route": "/chat",
        "status": "success",
        "timestamp": utc_stamp(time.time()),
        "attempts": [],
    }
    return json.dumps({**usual, **said}).encode() + b"\n"


def write_lines(path: Path, *lines: dict[str, Any]) -> None:
    """Append lines to a ledger."""
    with path.open("ab") as file:
        file.writelines(line(**said) for said in lines)
