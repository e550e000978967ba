"""The routes of an application and what the boundary asks of each, for the `routes` commands and for checks at start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from turnpike.boundary.admission import Gate
from turnpike.boundary.rules import NO_RULE, RouteRule

__all__ = ["RouteRow", "format_route_table", "unknown_limits"]


class RouteRow(NamedTuple):
    """One route of an application."""

    methods: tuple[str, ...]
    template: str
    rule: RouteRule = NO_RULE
    guarded: bool = True
    """Whether the adapter brings the route's requests to the gate at all."""


def format_route_table(rows: Iterable[RouteRow], gate: Gate) -> str:
    """Return the routes as a table of text: methods, template, access, limits and scopes."""
    head = ("METHODS", "ROUTE", "ACCESS", "LIMITS", "SCOPES")
    cells = [head, *(_cells(row, gate) for row in sorted(rows, key=lambda row: (row.template, row.methods)))]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def unknown_limits(rows: Iterable[RouteRow], gate: Gate) -> Sequence[tuple[str, str]]:
    """Return route and limit for each limit that a route names and the settings do not have."""
    known = gate.limits.known
    return [
        (row.template, name) for row in rows for name in gate.limits.names(row.template, row.rule) if name not in known
    ]


def _cells(row: RouteRow, gate: Gate) -> tuple[str, str, str, str, str]:
    methods = ",".join(sorted(row.methods)) or "any"
    if not row.guarded or gate.is_exempt(row.template, row.rule):
        return methods, row.template, "open", "-", "-"
    limits = ",".join(("default", *gate.limits.names(row.template, row.rule)))
    return methods, row.template, "key", limits, ",".join(row.rule.scopes) or "-"
