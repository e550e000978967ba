"""Runs one scenario in this process and says what it cost.

CPU is user and system time of the whole process, every thread of it. What a subject leaves to the background (span
export, logging queues) is drained inside the measured window: it belongs to the calls.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from overhead.operations import Answer, Operations
from overhead.scenarios import Scenario
from overhead.telemetry import Telemetry


class Bench:
    """One subject in one process, asked again and again."""

    def __init__(self, operations: Operations, telemetry: Telemetry | None) -> None:
        self._operations = operations
        self._telemetry = telemetry
        self.calls_made = 0

    def run(self, scenario: Scenario, runner: asyncio.Runner) -> dict[str, Any] | None:
        """Measure one block of calls, or return ``None`` if the subject has no such calls."""
        operations = self._operations
        if scenario.sync:
            return self._run_sync(scenario, runner)
        operation = operations.stream if scenario.stream else operations.call
        if operation is None:
            return None
        runner.run(_drive(operation, scenario, scenario.warm_up))
        self._drain(scenario.warm_up, runner)
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        answers = runner.run(_drive(operation, scenario, scenario.calls))
        wall = time.perf_counter() - wall
        self._drain(scenario.calls, runner)
        return _result(scenario, answers, time.process_time() - cpu, wall)

    def _run_sync(self, scenario: Scenario, runner: asyncio.Runner) -> dict[str, Any] | None:
        operation = self._operations.stream_sync if scenario.stream else self._operations.call_sync
        if operation is None:
            return None
        for _ in range(scenario.warm_up):
            operation(scenario.messages)
        self._drain(scenario.warm_up, runner)
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        answers = [operation(scenario.messages) for _ in range(scenario.calls)]
        wall = time.perf_counter() - wall
        self._drain(scenario.calls, runner)
        return _result(scenario, answers, time.process_time() - cpu, wall)

    def _drain(self, calls: int, runner: asyncio.Runner) -> None:
        self.calls_made += calls
        if self._operations.drain is not None:
            runner.run(self._operations.drain(self.calls_made))
        if self._telemetry is not None:
            self._telemetry.flush()


async def _drive(operation: Any, scenario: Scenario, calls: int) -> list[Answer]:
    """Make the calls in as many lanes as may be in flight; a lane begins its next call when one has ended."""
    answers: list[Answer] = []
    left = iter(range(calls))

    async def lane() -> None:
        for _ in left:
            answer = await operation(scenario.messages)
            answers.append(answer)

    if scenario.in_flight == 1:
        await lane()
    else:
        await asyncio.gather(*(lane() for _ in range(scenario.in_flight)))
    return answers


def _result(scenario: Scenario, answers: list[Answer], cpu_s: float, wall_s: float) -> dict[str, Any]:
    chunks = scenario.chunks if scenario.stream else 1
    broken = [answer for answer in answers if not answer.is_whole(chunks)]
    if broken or len(answers) != scenario.calls:
        raise RuntimeError(f"{len(answers)} of {scenario.calls} answers, {len(broken)} not whole, such as {broken[:1]}")
    return {"cpu_us": cpu_s / len(answers) * 1e6, "calls_per_s": len(answers) / wall_s, "example": answers[-1]}
