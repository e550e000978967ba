"""Runs cases against stacks and shows the table: what passed, what failed and why, and what says nothing of a stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from turnpike.testing.contract.expectations import SaysNothing
from turnpike.testing.contract.harness import Harness, Serve
from turnpike.testing.contract.registry import Case, cases
from turnpike.testing.contract.stack import Stack
from turnpike.testing.waiting import TIMEOUT_S

__all__ = ["Cell", "check_stacks", "format_failures", "format_table"]


@dataclass(frozen=True)
class Cell:
    """One case against one stack.

    Attributes:
        case: the case.
        stack: the stack.
        outcome: what came of it.
        reason: why it failed, or why it says nothing of the stack.
        error: what was raised where it failed.
        took_s: how long it took, in seconds.
    """

    case: Case
    stack: Stack
    outcome: Literal["pass", "FAIL", "n/a"]
    reason: str = ""
    error: BaseException | None = None
    took_s: float = 0.0


def check_stacks(
    stacks: Iterable[Stack],
    *,
    only: Sequence[Case] | None = None,
    serve: Serve | None = None,
    timeout_s: float = TIMEOUT_S,
    told: Callable[[Cell], object] | None = None,
) -> list[Cell]:
    """Run cases against stacks.

    Args:
        stacks: the stacks.
        only: the cases; by default all of them.
        serve: how applications are served; by default in this process.
        timeout_s: how long anything that a case waits for may take, in seconds.
        told: called with each cell as soon as it is known.
    """
    chosen = cases() if only is None else only
    found = []
    with Harness(serve=serve, timeout_s=timeout_s) as harness:
        for stack in stacks:
            for made in sorted(chosen, key=lambda each: not each.is_ordinary):
                cell = _check(harness, made, stack)
                found.append(cell)
                if told is not None:
                    told(cell)
    return sorted(found, key=lambda cell: chosen.index(cell.case))


def _check(harness: Harness, made: Case, stack: Stack) -> Cell:
    began = time.perf_counter()
    try:
        harness.check(made, stack)
    except SaysNothing as nothing:
        return Cell(made, stack, "n/a", str(nothing))
    except Exception as error:  # noqa: BLE001 - whatever a stack raises, the other cells are still to be known
        text = str(error) if isinstance(error, AssertionError) and str(error) else f"{type(error).__name__}: {error}"
        return Cell(made, stack, "FAIL", text, error, time.perf_counter() - began)
    return Cell(made, stack, "pass", took_s=time.perf_counter() - began)


def format_table(cells: Sequence[Cell], *, by_subject: bool = False) -> str:
    """Return cases against stacks as a table of text, with the number of cells below.

    Args:
        cells: what ``check_stacks`` returned.
        by_subject: show a row for each subject, with its numbers, instead of one for each case.
    """
    stacks = list(dict.fromkeys(cell.stack.name for cell in cells))
    rows = list(dict.fromkeys(cell.case.subject if by_subject else cell.case.id for cell in cells))
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.case.subject if by_subject else cell.case.id, cell.stack.name), []).append(cell)
    head = ("case", *stacks)
    body = [(row, *(_shown(found.get((row, name), []), by_subject) for name in stacks)) for row in rows]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *body)
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:], "", _sum(cells, len(stacks))])


def _shown(cells: Sequence[Cell], by_subject: bool) -> str:
    if not by_subject:
        return cells[0].outcome if cells else ""
    counts = {outcome: sum(cell.outcome == outcome for cell in cells) for outcome in ("pass", "FAIL", "n/a")}
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)


def _sum(cells: Sequence[Cell], stacks: int) -> str:
    counts = {outcome: sum(cell.outcome == outcome for cell in cells) for outcome in ("pass", "FAIL", "n/a")}
    ran = len({cell.case.id for cell in cells})
    numbers = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    return f"{len(cells)} cells ({ran} cases x {stacks} stacks): {numbers}"


def format_failures(cells: Iterable[Cell]) -> str:
    """Return what failed and why, and the reasons for which cases say nothing of a stack."""
    cells = list(cells)
    lines = []
    for cell in cells:
        if cell.outcome == "FAIL":
            lines += [f"FAIL {cell.stack.name}: {cell.case.id}", f"     {cell.case.says}.", f"     {cell.reason}", ""]
    reasons: dict[tuple[str, str], int] = {}
    for cell in cells:
        if cell.outcome == "n/a":
            reasons[cell.stack.name, cell.reason] = reasons.get((cell.stack.name, cell.reason), 0) + 1
    lines += [f"n/a  {name}: {number} cases, {reason}" for (name, reason), number in reasons.items()]
    return "\n".join(lines).rstrip()
