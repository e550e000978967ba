"""``litestar turnpike``: the commands of an application that has the plugin."""

from __future__ import annotations

from copy import copy
from typing import Any

import click
from litestar import Litestar

from turnpike.boundary.installation import Installation
from turnpike.boundary.route_table import format_route_table
from turnpike.cli.keys import SETTINGS, keys
from turnpike_litestar.rules import handlers_of, row_of

__all__ = ["add_commands"]


def add_commands(cli: Any, installation: Installation) -> None:
    """Add the group ``turnpike`` to Litestar's own, ``cli``, which hands ``app`` to commands that ask for it."""

    @cli.group(name="turnpike")  # type: ignore[untyped-decorator]
    def turnpike() -> None:
        """Turnpike: routes and API keys."""
        click.get_current_context().meta[SETTINGS] = installation.gateway.settings

    @turnpike.command()  # type: ignore[untyped-decorator]
    def routes(app: Litestar) -> None:
        """Show what each route asks of those who use it."""
        rows = [row_of(route, handler) for route in app.routes for handler in handlers_of(route)]
        # Everybody may ask what is allowed, on every route.
        shown = [row for row in rows if row.methods != ("OPTIONS",)]
        click.echo(format_route_table(shown, installation.gate))

    # Copied, because Litestar replaces the callbacks of the commands that it is given.
    turnpike.add_command(copy(keys))
