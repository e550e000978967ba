"""``manage.py turnpike_keys``: issue, list, revoke and rotate keys, in the database or in a key file.

A new key goes to standard output, alone on its line and this once; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from turnpike.boundary.issued_keys import IssuedKey, KeyRecord
from turnpike.boundary.key_file import DEFAULT_KEY_FILE, KeyFile
from turnpike.boundary.key_format import key_id_in
from turnpike.clock import SYSTEM_CLOCK
from turnpike.errors import ConfigurationError
from turnpike_django import conf

if TYPE_CHECKING:
    from turnpike_django.keys.table import KeyTable

__all__ = ["Command"]

_SPAN = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Command(BaseCommand):
    """Issue, list, revoke and rotate API keys."""

    help = (
        "Issue, list, revoke and rotate API keys: in the database where 'turnpike_django.keys' is installed, else in the "
        "key file of the settings."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the actions and what they take."""
        parser.add_argument("--file", type=Path, help="A key file, instead of the database or the settings' file.")
        actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke|rotate")
        create = actions.add_parser("create", help="Issue a key and print it, this once.")
        create.add_argument("--tenant", required=True, help="Who pays.")
        create.add_argument("--caller", help="Application or user within the tenant.")
        create.add_argument("--scope", dest="scopes", action="append", default=[], help="Repeat it for several.")
        create.add_argument("--rate-limit", help="The holder's own limit, such as 60/minute.")
        create.add_argument("--expires", type=_span, help="When it ends, from now: 90d, 12h. By default never.")
        create.add_argument("--note", help="Your own words.")
        create.add_argument("--environment", choices=["live", "test"], default="live", help="Part of the key's text.")
        actions.add_parser("list", help="Show all keys; never a key or a digest.")
        revoke = actions.add_parser("revoke", help="Revoke a key, for good.")
        rotate = actions.add_parser("rotate", help="Issue a key with the rights of another, and print it, this once.")
        rotate.add_argument(
            "--overlap", type=_span, default="24h", help="How long the old key stays valid (24h); 0s ends it now."
        )
        for action in (revoke, rotate):
            action.add_argument(
                "id", type=_key_id, help="The key's id, which list shows; a leaked key will do as well."
            )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do what was asked."""
        try:
            getattr(self, f"_{options['action']}")(_keys(options["file"]), options)
        except ConfigurationError as error:
            raise CommandError(str(error)) from None

    def _create(self, keys: KeyFile | KeyTable, options: dict[str, Any]) -> None:
        expires = options["expires"]
        issued = keys.create(
            tenant=options["tenant"],
            caller=options["caller"],
            scopes=options["scopes"],
            rate_limit=options["rate_limit"],
            expires_at=None if expires is None else _now() + expires,
            note=options["note"],
            environment=options["environment"],
        )
        self._hand_over(issued)

    def _list(self, keys: KeyFile | KeyTable, _options: dict[str, Any]) -> None:
        head = ("ID", "ENV", "TENANT", "CALLER", "SCOPES", "LIMIT", "STATUS", "EXPIRES", "NOTE")
        lines = [head, *(_row(record) for record in keys.list())]
        widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())

    def _revoke(self, keys: KeyFile | KeyTable, options: dict[str, Any]) -> None:
        record = keys.revoke(options["id"])
        self._say(f"Key {record.key_id} of tenant {record.tenant} is revoked.")

    def _rotate(self, keys: KeyFile | KeyTable, options: dict[str, Any]) -> None:
        overlap: timedelta = options["overlap"]
        self._hand_over(keys.rotate(options["id"], overlap_s=overlap.total_seconds()))
        self._say(f"Key {options['id']} stays valid for {overlap} at most.")

    def _hand_over(self, issued: IssuedKey) -> None:
        self.stdout.write(issued.key.reveal())
        record = issued.record
        self._say(f"Key {record.key_id} of tenant {record.tenant}. It is shown this once: keep it now.")

    def _say(self, text: str) -> None:
        self.stderr.write(_shown(text), style_func=str)


def _keys(path: Path | None) -> KeyFile | KeyTable:
    if path is None and apps.is_installed(conf.KEYS_APP):
        from turnpike_django.keys.table import KeyTable

        return KeyTable()
    settings = conf.load_settings()
    return KeyFile(path or settings.key_file or DEFAULT_KEY_FILE, settings.key_peppers)


def _row(record: KeyRecord) -> tuple[str, ...]:
    status = record.status(SYSTEM_CLOCK.time())
    cells = (
        record.key_id,
        record.environment,
        record.tenant,
        record.caller or "",
        " ".join(record.scopes),
        record.rate_limit or "",
        status if record.replaced_by is None else f"{status}, see {record.replaced_by}",
        "" if record.expires_at is None else record.expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        record.note or "",
    )
    return tuple(_shown(cell) for cell in cells)


def _shown(text: str) -> str:
    """Return ``text`` without characters that would act on the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError("write a span of time as 90d, 12h or 30m (weeks, days, hours, minutes)")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _key_id(text: str) -> str:
    if (key_id := key_id_in(text)) is None:
        # Not repeated: it may be part of a key.
        raise argparse.ArgumentTypeError("an id has nine letters and digits; list shows them")
    return key_id


def _now() -> datetime:
    return datetime.fromtimestamp(int(SYSTEM_CLOCK.time()), UTC)
