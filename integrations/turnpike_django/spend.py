"""Who spent what, added up from the ledger in one pass: as much memory as there are rows, and those have a bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from turnpike_django.ledger_lines import Line, files_of, lines_since, parse

__all__ = ["OTHERS", "Report", "Sums", "report"]

Name = tuple[str, ...]

OTHERS: Name = ("",)
"""The row of everything beyond the bound."""

_MAX_ROWS = 10_000
_FAILED = frozenset({"error", "denied", "unknown"})


@dataclass(slots=True)
class Sums:
    """What a number of calls amount to.

    Attributes:
        calls: how many.
        errors: those that failed, were refused by a rule, or whose end nobody knows.
        cancelled: those that their caller did not wait for.
        unpriced: those whose cost nobody knows; it is not in ``cost_nano_usd``.
        tokens_in: input tokens, where known.
        tokens_out: output tokens, where known.
        cost_nano_usd: cost in billionths of a US dollar, where known.
    """

    calls: int = 0
    errors: int = 0
    cancelled: int = 0
    unpriced: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_nano_usd: int = 0

    def add(self, line: Line) -> None:
        """Add a call."""
        self.calls += 1
        self.errors += line.status in _FAILED
        self.cancelled += line.status == "cancelled"
        self.tokens_in += line.tokens_in or 0
        self.tokens_out += line.tokens_out or 0
        if (cost := line.cost) is None:
            self.unpriced += 1
        else:
            self.cost_nano_usd += cost


@dataclass
class Report:
    """Spend by tenant, or of one tenant by route and model.

    Attributes:
        rows: the sums of each name.
        total: the sums of all.
        skipped: lines that are no call's.
        files: how many ledger files were read.
    """

    rows: dict[Name, Sums] = field(default_factory=dict)
    total: Sums = field(default_factory=Sums)
    skipped: int = 0
    files: int = 0

    def add(self, line: Line, name: Name) -> None:
        """Add a call to the row of ``name``."""
        row = self.rows.get(name)
        if row is None:
            row = self.rows.setdefault(name if len(self.rows) < _MAX_ROWS else OTHERS, Sums())
        row.add(line)
        self.total.add(line)


def report(path: Path, *, since: datetime | None = None, tenant: str | None = None) -> Report:
    """Add up the ledger at ``path`` and those rotated away from it.

    Args:
        path: ``Settings.telemetry_path``, with ``~`` expanded.
        since: calls that ended before are left out.
        tenant: add up this tenant's calls by route and model, instead of all calls by tenant.
    """
    found = Report()
    for file in files_of(path):
        try:
            _read(found, lines_since(file, since), since, tenant)
        except OSError:
            continue  # it was rotated away meanwhile, or is not ours to read
        found.files += 1
    return found


def _read(found: Report, lines: Iterable[bytes], since: datetime | None, tenant: str | None) -> None:
    for raw in lines:
        parsed = parse(raw)
        if parsed is None:
            found.skipped += raw.strip() != b"" or raw == b""
            continue
        line, moment = parsed
        if since is not None and moment < since:
            continue
        if tenant is None:
            found.add(line, (line.tenant_id,))
        elif line.tenant_id == tenant:
            found.add(line, (line.route, line.model or "-"))
