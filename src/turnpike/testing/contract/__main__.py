"""``python -m turnpike.testing.contract MODULE:ATTRIBUTE ...``: run the contract and print its table."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from turnpike.testing.contract.registry import Case, cases
from turnpike.testing.contract.runner import Cell, check_stacks, format_failures, format_table
from turnpike.testing.contract.stack_files import load_stacks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code: 1 if any cell fails."""
    options = _parser().parse_args(argv)
    chosen = _chosen(options.only)
    if options.list:
        print("\n".join(f"{made.id}: {made.says}." for made in chosen))  # noqa: T201
        return 0
    stacks = [stack for name in options.stacks for stack in load_stacks(name)]
    if not options.verbose:
        # Failing handlers are part of the contract, and frameworks say so at length.
        logging.disable(logging.CRITICAL)
    cells = check_stacks(stacks, only=chosen, told=_progress if sys.stderr.isatty() else None)
    print(format_table(cells, by_subject=options.by_subject))  # noqa: T201
    if notes := format_failures(cells):
        print(f"\n{notes}")  # noqa: T201
    return 1 if any(cell.outcome == "FAIL" for cell in cells) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m turnpike.testing.contract", description="Hold stacks to Turnpike's adapter contract."
    )
    parser.add_argument(
        "stacks", nargs="*", metavar="MODULE:ATTRIBUTE", help="a module or file, and what holds its stacks (STACKS)"
    )
    parser.add_argument("--only", action="append", default=[], metavar="PREFIX", help="cases whose id begins with this")
    parser.add_argument("--by-subject", action="store_true", help="a row for each subject instead of each case")
    parser.add_argument("--list", action="store_true", help="list the cases and what they say")
    parser.add_argument("--verbose", action="store_true", help="let applications log")
    return parser


def _chosen(prefixes: Sequence[str]) -> list[Case]:
    chosen = [made for made in cases() if not prefixes or made.id.startswith(tuple(prefixes))]
    if not chosen:
        raise SystemExit(f"no case begins with {' or '.join(prefixes)}; --list shows them all")
    return chosen


def _progress(cell: Cell) -> None:
    sys.stderr.write({"pass": ".", "FAIL": "F", "n/a": "-"}[cell.outcome])
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
