"""``flask turnpike``: the application's routes as the boundary sees them, and its keys."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import with_appcontext

from turnpike.boundary.route_table import format_route_table, unknown_limits
from turnpike.cli.group import Group
from turnpike.cli.keys import SETTINGS, keys
from turnpike_flask.proxies import installation_of
from turnpike_flask.routes import route_rows

__all__ = ["commands"]


@click.group("turnpike", cls=Group)
@with_appcontext
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Turnpike: who may call which route, and with which keys."""
    ctx.meta[SETTINGS] = installation_of(current_app).gateway.settings


@commands.command()
@click.pass_context
def routes(ctx: click.Context) -> None:
    """Show what each route asks of a request; fail if one names a limit that the settings do not have."""
    rows, gate = list(route_rows(current_app)), installation_of(current_app).gate
    click.echo(format_route_table(rows, gate))
    unknown = unknown_limits(rows, gate)
    for template, name in unknown:
        click.echo(f"{template} names the limit '{name}', which the settings do not have.", err=True)
    ctx.exit(1 if unknown else 0)


commands.add_command(keys)
