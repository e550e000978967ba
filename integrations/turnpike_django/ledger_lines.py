"""Reading a ledger from some moment on, without reading what lies before it and without holding more than one line.

It only reads. A line that is being written just now, or is no call's, is skipped and counted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec

__all__ = ["Line", "files_of", "lines_since", "parse"]

_MAX_LINE = 4 * 1024 * 1024
_CLOSE_ENOUGH = 64 * 1024
_DISORDER = timedelta(hours=1)
"""How much older than a line before it a line may be: it may have waited for a file that could not be written."""

_ROTATED = re.compile(r"[.-]\d+", re.ASCII)


class Line(msgspec.Struct):
    """What is read of a call's line; see ``docs/ledger-and-telemetry.md`` for all of it."""

    request_id: str
    tenant_id: str
    route: str
    timestamp: str
    status: str
    model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_nano_usd: int | None = None
    estimated_cost_usd: float | None = None
    cost_source: str | None = None

    @property
    def cost(self) -> int | None:
        """Cost in billionths of a US dollar; ``None`` if nobody knows it."""
        if self.cost_nano_usd is not None:
            return self.cost_nano_usd
        # Lines of 0.1.x have dollars alone, and a 0 where they mean that the price is unknown.
        if self.estimated_cost_usd is None or self.cost_source == "degraded_unknown":
            return None
        return round(self.estimated_cost_usd * 1e9)


_decode = msgspec.json.Decoder(Line).decode


def parse(raw: bytes) -> tuple[Line, datetime] | None:
    """Return a call's line and its time, or ``None`` for what is no call's."""
    try:
        line = _decode(raw)
        moment = datetime.fromisoformat(line.timestamp)
    except ValueError:  # msgspec's errors are among them
        return None
    return line, moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)


def files_of(path: Path) -> list[Path]:
    """Return the ledger at ``path`` and those that were rotated away from it, such as ``telemetry.jsonl.1``."""
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return []
    rotated = [name for name in names if name.startswith(path.name) and _ROTATED.fullmatch(name[len(path.name) :])]
    return [path.parent / name for name in (*rotated, path.name) if (path.parent / name).is_file()]


def lines_since(path: Path, since: datetime | None) -> Iterator[bytes]:
    """Give the lines that may be as late as ``since``, and some before them. A line that is too long is given empty."""
    with path.open("rb") as file:
        if since is not None:
            _seek(file, since - _DISORDER)
        while line := file.readline(_MAX_LINE):
            if len(line) == _MAX_LINE and not line.endswith(b"\n"):
                _skip_rest(file)
                line = b""
            yield line


def _seek(file: BinaryIO, moment: datetime) -> None:
    """Go to the beginning of a line before which all are older than ``moment``, as lines are written in their order."""
    low, high = 0, file.seek(0, os.SEEK_END)
    while high - low > _CLOSE_ENOUGH:
        middle = (low + high) // 2
        found = _first_moment(file, middle, high)
        if found is not None and found < moment:
            low = middle
        else:
            high = middle
    file.seek(low)
    if low:
        _skip_rest(file)


def _first_moment(file: BinaryIO, start: int, end: int) -> datetime | None:
    file.seek(start)
    _skip_rest(file)
    while file.tell() < end and (line := file.readline(_MAX_LINE)):
        if (parsed := parse(line)) is not None:
            return parsed[1]
    return None


def _skip_rest(file: BinaryIO) -> None:
    while (part := file.readline(_MAX_LINE)) and not part.endswith(b"\n"):
        continue
