"""A group of commands that shows Turnpike's own errors as one line each."""

from __future__ import annotations

import click

from turnpike.errors import TurnpikeError

__all__ = ["Group"]


class Group(click.Group):
    """Turns our own errors into one line and exit code 1; a traceback would only bury the cure."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (TurnpikeError, ImportError) as error:
            raise click.ClickException(str(error)) from None
