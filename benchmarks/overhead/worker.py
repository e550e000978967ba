"""A process that holds one subject and measures what it is told to over standard input, one JSON line each.

It imports a subject's packages and nothing of the others': it runs in that subject's environment.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from overhead.ledger import LedgerCheck
from overhead.measure import Bench
from overhead.operations import Setting
from overhead.scenarios import Scenario
from overhead.subjects import SUBJECTS, Subject
from overhead.telemetry import Telemetry


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _check(subject: Subject, bench: Bench, telemetry: Telemetry | None, ledger: LedgerCheck) -> dict[str, Any]:
    """Say what the calls so far have left behind; more spans than calls are some subjects' way."""
    left: dict[str, Any] = {"calls": bench.calls_made}
    if telemetry is not None:
        left["spans"] = telemetry.spans
        left["attributes"] = telemetry.attributes
        if telemetry.spans < bench.calls_made:
            raise RuntimeError(f"{subject.name}: {telemetry.spans} spans for {bench.calls_made} calls")
    if subject.ledger:
        ledger.read_on()
        left["lines"] = ledger.lines
        if ledger.lines != bench.calls_made:
            raise RuntimeError(f"{subject.name}: {ledger.lines} ledger lines for {bench.calls_made} calls")
    return left


def main() -> None:
    name, server, ledger_path = sys.argv[1:4]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not get between the answers
    warnings.simplefilter("ignore")
    subject = SUBJECTS[name]
    setting = Setting(server, ledger_path, subject.provider, subject.transport, subject.api)
    telemetry = Telemetry() if subject.spans else None
    adapter = importlib.import_module(f"overhead.adapters.{subject.adapter}")
    ledger = LedgerCheck(ledger_path)
    with asyncio.Runner() as runner:
        # Clients are built inside a running loop, as applications do; some transports want it so.
        bench = Bench(runner.run(_build(adapter, setting)), telemetry)
        print(json.dumps({"versions": _versions(adapter.PACKAGES)}), file=answers)
        for order in sys.stdin:
            try:
                result = bench.run(Scenario(**json.loads(order)), runner) or {"unsupported": True}
                result |= _check(subject, bench, telemetry, ledger)
                result["max_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                if telemetry is not None:
                    result["metric_records"] = telemetry.metric_records()
            except Exception as error:
                result = {"error": f"{type(error).__name__}: {error}"[:500]}
            print(json.dumps(result), file=answers)
    Path(ledger_path).unlink(missing_ok=True)
    os._exit(0)  # background threads of some subjects never end


async def _build(adapter: Any, setting: Setting) -> Any:
    return adapter.build(setting)


if __name__ == "__main__":
    main()
