"""Runs the demo from end to end and prints what it came to."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from turnpike.demo.reckoning import Reckoning, Spend, reckon, spend_by
from turnpike.demo.servers import running_app, running_job, running_simulator
from turnpike.demo.traffic import JOB, JOB_ARGUMENTS, STEPS, Outcome, environment, send_traffic
from turnpike.envelope import LLMRequestEnvelope

__all__ = ["run_demo"]


def run_demo(stack: str, ledger: Path | None = None) -> bool:
    """Run the demo on the example service of ``stack``.

    Args:
        stack: the framework: fastapi, flask, django or litestar.
        ledger: where the ledger is written; by default a file in a new temporary folder.

    Returns:
        Whether everything was answered as expected and both sets of books agree.

    Raises:
        ConfigurationError: if a server does not start.
        MissingExtraError: if the framework or its server is not installed.
    """
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="turnpike-demo-"))
    ledger = ledger.absolute() if ledger is not None else folder / "telemetry.jsonl"
    begun = time.monotonic()
    console.print(f"[bold]Turnpike demo[/bold]: a provider simulator and the {stack} example, no network, no API key.")
    with running_simulator(folder / "simulator.log") as simulator_url:
        known = environment(simulator_url, str(ledger))
        with (
            running_app(stack, known, folder / "app.log") as app_url,
            running_job(JOB, JOB_ARGUMENTS, known, folder / "job.log") as job,
        ):
            outcome = _send(console, app_url, simulator_url, job)
        # The service has stopped, so every call has ended; the simulator still has its books.
        bills = httpx2.get(f"{simulator_url}/__bills").json()
    reckoning = reckon(ledger, bills)
    _print_spend(console, reckoning.envelopes)
    _print_outcome(console, outcome, reckoning)
    console.print(f"\nLedger: {ledger}  ({time.monotonic() - begun:.0f} s)", soft_wrap=True)
    return reckoning.agrees and not outcome.failures


def _send(console: Console, app_url: str, simulator_url: str, job: subprocess.Popen[bytes]) -> Outcome:
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=STEPS)

        def step(what: str) -> None:
            progress.update(task, advance=1, description=f"sending {what}")

        return send_traffic(app_url, simulator_url, step, job)


def _usd(nano: int) -> str:
    return f"{nano / 1e9:.6f}"


def _print_spend(console: Console, envelopes: list[LLMRequestEnvelope]) -> None:
    for title, key in (
        ("tenant and caller", lambda envelope: f"{envelope.tenant_id} / {envelope.caller_id}"),
        ("route", lambda envelope: envelope.route),
        ("model", lambda envelope: envelope.response_model or envelope.model_selected or "-"),
    ):
        table = Table(title=f"Spend by {title}", title_justify="left", title_style="bold")
        table.add_column(title, min_width=30)
        for name in ("calls", "tokens in", "tokens out", "USD"):
            table.add_column(name, justify="right")
        for name, spend in spend_by(envelopes, key).items():
            table.add_row(name, *_cells(spend))
        console.print(table)


def _cells(spend: Spend) -> tuple[str, str, str, str]:
    usd = _usd(spend.cost_nano_usd) + (f" + {spend.unpriced} unknown" if spend.unpriced else "")
    return str(spend.calls), f"{spend.tokens_in:,}", f"{spend.tokens_out:,}", usd


def _print_outcome(console: Console, outcome: Outcome, reckoning: Reckoning) -> None:
    console.print(
        f"{outcome.sent} requests: {outcome.answered} answered, {outcome.retried} after a retry, "
        f"{outcome.abandoned} stream abandoned, {outcome.refused_keys} key refused (401), "
        f"{outcome.rate_limited} over the rate limit (429). Beside the service, a job asked {len(JOB_ARGUMENTS)} questions "
        "that needed a tool."
    )
    if reckoning.undelivered:
        console.print(
            f"{reckoning.undelivered} answer was abandoned before its whole usage was sent: the provider bills "
            f"{_usd(reckoning.undelivered_nano_usd)} USD for it; the ledger has "
            f"{_usd(reckoning.undelivered_known_nano_usd)} USD, marked as partial, and leaves it out of the comparison."
        )
    ledger, bill = reckoning.ledger_nano_usd, reckoning.bill_nano_usd
    verdict = "[green]they agree to the nano-dollar[/green]" if reckoning.agrees else "[red]they differ[/red]"
    console.print(f"Ledger {ledger:,} nano-USD, simulator's bill book {bill:,} nano-USD:\n{verdict}.", soft_wrap=True)
    for problem in (*outcome.failures, *reckoning.differences):
        console.print(f"[red]{problem}[/red]")
