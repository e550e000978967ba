"""Checks what a subject wrote down: as many lines as calls, each with an identity and a cost."""

from __future__ import annotations

import json
from pathlib import Path


class LedgerCheck:
    """Reads a ledger from where it was last read."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._offset = 0
        self.lines = 0

    def read_on(self) -> None:
        """Read the lines that have come.

        Raises:
            RuntimeError: if one says not who called, or not what it cost.
        """
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        for raw in data.splitlines():
            line = json.loads(raw)
            if line.get("tenant_id") != "acme" or not (line.get("estimated_cost_usd") or 0) > 0:
                raise RuntimeError(f"a line without identity or cost: {raw[:200]!r}")
            self.lines += 1
