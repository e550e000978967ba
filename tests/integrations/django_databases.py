"""The databases of the Django tests: a SQLite file and a real PostgreSQL, each with the site's tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from .postgresql import running_postgresql

__all__ = ["ALIASES", "Databases"]

ALIASES = ("default", "postgresql")


class _Router:
    """Sends every query to one database."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_read(self, _model: Any, **_: Any) -> str:
        return self.alias

    db_for_write = db_for_read


class Databases:
    """Makes tables where they are first needed, and empties them after each test."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._ready: set[str] = set()

    @contextmanager
    def using(self, alias: str) -> Iterator[str]:
        """Use the database ``alias`` for everything, for the length of the block."""
        if alias not in self._ready:
            if alias == "postgresql":
                self._add_postgresql()
            call_command("migrate", database=alias, verbosity=0)
            self._ready.add(alias)
        with override_settings(DATABASE_ROUTERS=[_Router(alias)]):
            try:
                yield alias
            finally:
                for model in ("turnpike_keys.APIKey", "admin.LogEntry", "sessions.Session", "auth.User"):
                    apps.get_model(model)._base_manager.using(alias).all().delete()
                connections.close_all()

    def _add_postgresql(self) -> None:
        pytest.importorskip("psycopg", reason="needs psycopg: install psycopg[binary]")
        folder: Path = self._stack.enter_context(running_postgresql())
        written = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "turnpike",
            "HOST": str(folder),
        }
        known = connections.configure_settings({"default": {}, "postgresql": written})
        connections.settings["postgresql"] = known["postgresql"]
        self._stack.callback(connections.settings.pop, "postgresql")

    def close(self) -> None:
        """Stop what was started."""
        connections.close_all()
        self._stack.close()
