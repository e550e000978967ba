"""What a call costs the client: CPU of a fully attributed Turnpike call beside the bare SDK and its peers.

    python benchmarks/make_environments.py build/benchmarks
    python benchmarks/call_overhead.py [--quick] [--rounds 5] [--subjects openai-turnpike,...] [--jsonl raw.jsonl]

Needs nothing but the standard library itself: subjects run in the environments. See README.md for the rules.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from overhead.processes import Worker
from overhead.scenarios import FULL, QUICK, Scenario
from overhead.server import ServerProcess
from overhead.subjects import SUBJECTS, Subject
from overhead.tables import evidence, render

HERE = Path(__file__).resolve().parent
_NEWEST = {"openai": "openai-bare", "anthropic": "anthropic-bare"}


class Round:
    """One round: every subject once in every scenario, each right after the bare SDK it is compared with."""

    def __init__(self, number: int, workers: dict[str, Worker], server: ServerProcess, jsonl: Path | None) -> None:
        self._number = number
        self._workers = workers
        self._server = server
        self._jsonl = jsonl
        self.rows: list[dict[str, Any]] = []

    def run(self, scenario: Scenario, subjects: list[Subject]) -> None:
        self._server.behave(scenario.server_options())
        turn = self._number % max(1, len(subjects))
        newest: dict[str, float | None] = {}
        for subject in (*subjects[turn:], *subjects[:turn]):
            baseline = self._block(subject.baseline, scenario)
            if subject.baseline in _NEWEST.values():
                newest[subject.provider] = baseline
            elif subject.provider not in newest:
                newest[subject.provider] = self._block(_NEWEST[subject.provider], scenario)
            self._block(subject.name, scenario, baseline_cpu_us=baseline, newest_cpu_us=newest[subject.provider])

    def _block(self, name: str, scenario: Scenario, **against: float | None) -> float | None:
        worker = self._workers[name]
        before = self._server.cpu_s()
        row = worker.run(scenario)
        row |= {
            "subject": name,
            "scenario": scenario.name,
            "round": self._number,
            "versions": worker.versions,
            **against,
        }
        row["server_cpu_us"] = (self._server.cpu_s() - before) / (scenario.calls + scenario.warm_up) * 1e6
        row["load"] = os.getloadavg()[0]
        self.rows.append(row)
        if self._jsonl is not None:
            with self._jsonl.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if "error" in row:
            print(f"{name}, {scenario.name}: {row['error']}", file=sys.stderr)
        return row.get("cpu_us")


def _wanted(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Subject]:
    """The subjects to compare, without those whose environment does not exist, which are named."""
    names = arguments.subjects.split(",") if arguments.subjects else list(SUBJECTS)
    unknown = [name for name in names if name not in SUBJECTS]
    if unknown:
        parser.error(f"there is no subject {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    wanted = [SUBJECTS[name] for name in names if SUBJECTS[name].baseline]
    missing = sorted({subject.environment for subject in wanted if not _python(arguments, subject).exists()})
    for environment in missing:
        print(f"skipped: no environment {environment!r} in {arguments.environments}", file=sys.stderr)
    return [subject for subject in wanted if subject.environment not in missing]


def _python(arguments: argparse.Namespace, subject: Subject) -> Path:
    path: Path = arguments.environments / subject.environment / "bin" / "python"
    return path


class Measurement:
    """All rounds over one choice of subjects and scenarios."""

    def __init__(
        self, arguments: argparse.Namespace, scenarios: tuple[Scenario, ...], subjects: list[Subject], folder: Path
    ) -> None:
        self._arguments = arguments
        self._scenarios = scenarios
        self._subjects = subjects
        self._folder = folder
        baselines = (SUBJECTS[subject.baseline] for subject in subjects)
        newest = (SUBJECTS[_NEWEST[subject.provider]] for subject in subjects)
        self._all = {subject.name: subject for subject in (*baselines, *newest, *subjects)}

    def run(self, server: ServerProcess) -> Iterator[dict[str, Any]]:
        """Run every round in fresh processes and return its blocks."""
        rounds = self._arguments.rounds or (2 if self._arguments.quick else 5)
        for number in range(rounds):
            began = time.monotonic()
            yield from self._round(number, server)
            print(f"round {number + 1} of {rounds}: {time.monotonic() - began:.0f} s", file=sys.stderr)

    def _round(self, number: int, server: ServerProcess) -> list[dict[str, Any]]:
        with ExitStack() as stack:
            workers = {}
            for subject in self._all.values():
                ledger = self._folder / f"{subject.name}-{number}.jsonl"
                worker = Worker(subject, _python(self._arguments, subject), server.url, ledger)
                workers[subject.name] = worker
                stack.callback(worker.close)
            this = Round(number, workers, server, self._arguments.jsonl)
            for scenario in self._scenarios:
                this.run(scenario, self._subjects)
            return this.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=HERE.parent / "build" / "benchmarks")
    parser.add_argument("--rounds", type=int, help="by default 5, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="three scenarios, in less than two minutes")
    parser.add_argument("--subjects", default="", help="names with commas; by default all")
    parser.add_argument("--scenarios", default="", help=f"names with commas, of {', '.join(s.name for s in FULL)}")
    parser.add_argument("--jsonl", type=Path, help="append every measured block to this file")
    parser.add_argument("--table", type=Path, help="print the tables of such a file, and measure nothing")
    arguments = parser.parse_args()
    arguments.environments = arguments.environments.absolute()
    if arguments.table:
        rows = [json.loads(line) for line in arguments.table.read_text().splitlines()]
        print(render(rows, FULL), evidence(rows), sep="\n")
        return
    subjects = _wanted(arguments, parser)
    if not subjects:
        parser.error(f"nothing to measure; build the environments: make_environments.py {arguments.environments}")
    scenarios: tuple[Scenario, ...] = QUICK if arguments.quick else FULL
    if arguments.scenarios:
        asked = arguments.scenarios.split(",")
        scenarios = tuple(scenario for scenario in FULL if scenario.name in asked)
    simulator = arguments.environments / "turnpike" / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix="turnpike-benchmark-") as folder, ServerProcess(str(simulator)) as server:
        rows = list(Measurement(arguments, scenarios, subjects, Path(folder)).run(server))
    print(render(rows, scenarios), evidence(rows), sep="\n")


if __name__ == "__main__":
    main()
