"""``manage.py turnpike_routes``: every route, and what the boundary asks of it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from turnpike.boundary.route_table import format_route_table
from turnpike.errors import ConfigurationError
from turnpike_django import conf
from turnpike_django.routes import rows

__all__ = ["Command"]


class Command(BaseCommand):
    """Print the routes as a table."""

    help = "Show every route: who may use it, and which limits and scopes it has."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the table."""
        try:
            settings = conf.load_settings()
            table = format_route_table(rows(settings), conf.build_gate(settings))
        except ConfigurationError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(table)
