"""The commands, each a thin layer over a function of the library."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnpike.cli.group import Group
from turnpike.cli.keys import keys
from turnpike.cli.tokens import tokens

if TYPE_CHECKING:
    from turnpike.testing.simulator import Simulator


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="turnpike", message="turnpike %(version)s")
def turnpike() -> None:
    """In-process LLM gateway: who spent what, on which model, and why."""


turnpike.add_command(keys)


turnpike.add_command(tokens)


@turnpike.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8089, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
)
def simulate(host: str, port: int) -> None:
    """Run a provider simulator that the OpenAI and Anthropic SDKs can talk to.

    It answers Chat Completions, Responses and Messages deterministically, and keeps a bill book at /__bills.
    """
    from turnpike.testing.simulator import serve

    def announce(simulator: Simulator) -> None:
        click.echo(f"Simulator listening on {simulator.url}")
        click.echo(f"  export OPENAI_BASE_URL={simulator.openai_base_url} OPENAI_API_KEY=simulated")
        click.echo(f"  export ANTHROPIC_BASE_URL={simulator.anthropic_base_url} ANTHROPIC_API_KEY=simulated")
        click.echo(f"  bill book: {simulator.url}/__bills")
        sys.stdout.flush()

    try:
        serve(host, port, ready=announce)
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from None


@turnpike.command()
@click.option(
    "--stack",
    default="fastapi",
    show_default=True,
    type=click.Choice(["fastapi", "flask", "django", "litestar"]),
    help="Framework of the example.",
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the ledger; by default a file in a new temporary folder.",
)
def demo(stack: str, ledger: Path | None) -> None:
    """Show the whole product in a minute, offline and without an API key.

    Starts a provider simulator and the example service, sends the traffic of three tenants, then prints who spent what,
    reconciled with the simulator's own bill book.
    """
    from turnpike.demo import run_demo

    sys.exit(0 if run_demo(stack, ledger) else 1)
