"""``turnpike keys``: issue, list, revoke and rotate the keys of a key file.

A new key goes to standard output, alone on its line and this once; everything else goes to standard error. The group needs
nothing but click, so an adapter can mount it in its framework's own command, and hand over the application's settings:
``ctx.meta[SETTINGS] = settings`` in the group around it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from turnpike.boundary.issued_keys import IssuedKey, KeyRecord
from turnpike.boundary.key_file import DEFAULT_KEY_FILE, KeyFile
from turnpike.boundary.key_format import Environment, key_id_in
from turnpike.cli.group import Group
from turnpike.cli.moments import duration, moment
from turnpike.clock import SYSTEM_CLOCK
from turnpike.settings import Settings

__all__ = ["SETTINGS", "keys"]

SETTINGS = "turnpike.cli.settings"
"""Key of ``click.Context.meta`` under which a group around this one leaves the application's ``Settings``."""

_COLUMNS = ("id", "env", "tenant", "caller", "scopes", "limit", "status", "expires", "note")


@click.group(cls=Group)
def keys() -> None:
    """Issue, list, revoke and rotate API keys.

    The file is the one named by --file, else by key_file in the settings or TURNPIKE_KEY_FILE, else ~/.turnpike/keys.json.
    A running service notices changes by itself.
    """


def _with_key_file(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--file``, and give ``command`` the ``KeyFile`` that is meant."""

    @click.option(
        "--file",
        "path",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Key file; by default that of the settings, else ~/.turnpike/keys.json.",
    )
    @functools.wraps(command)
    def run(path: Path | None, **options: Any) -> None:
        settings = _settings()
        command(KeyFile(path or settings.key_file or DEFAULT_KEY_FILE, settings.key_peppers), **options)

    return run


@keys.command()
@click.option("--tenant", required=True, help="Who pays.")
@click.option("--caller", help="Application or user within the tenant.")
@click.option("--scope", "scopes", multiple=True, help="What the holder may do; repeat it for several.")
@click.option(
    "--expires", type=moment, metavar="WHEN", help="When it ends: 90d, 12h, 2027-01-31 (00:00 UTC). By default never."
)
@click.option("--rate-limit", help="The holder's own limit, such as 60/minute; by default the service's.")
@click.option("--note", help="Your own words, shown by list.")
@click.option(
    "--environment",
    type=click.Choice(["live", "test"]),
    default="live",
    show_default=True,
    help="What the key is for; part of its text.",
)
@_with_key_file
def create(
    key_file: KeyFile,
    tenant: str,
    caller: str | None,
    scopes: tuple[str, ...],
    expires: timedelta | datetime | None,
    rate_limit: str | None,
    note: str | None,
    environment: Environment,
) -> None:
    """Issue a key and print it, this once."""
    issued = key_file.create(
        tenant=tenant,
        caller=caller,
        scopes=scopes,
        expires_at=_counted_from_now(expires),
        rate_limit=rate_limit,
        note=note,
        environment=environment,
    )
    _hand_over(issued)
    served = _settings().key_file
    if served is None or Path(served).expanduser() != key_file.path:
        click.echo(f"A service accepts it if it is started with TURNPIKE_KEY_FILE={key_file.path}", err=True)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every field but the digests.")
@_with_key_file
def list_keys(key_file: KeyFile, as_json: bool) -> None:
    """Show all keys, those that expired or were revoked included; never a key or a digest."""
    records = key_file.list()
    if as_json:
        click.echo(json.dumps([_as_data(record) for record in records], indent=2))
    elif records:
        click.echo(_table([_row(record) for record in records]))
    else:
        click.echo(f"There are no keys in {key_file.path}.", err=True)


@keys.command()
@click.argument("key_id", metavar="ID", callback=lambda _ctx, _param, value: _key_id(value))
@_with_key_file
def revoke(key_file: KeyFile, key_id: str) -> None:
    """Revoke a key, for good.

    A running service refuses it about a second later. ID is what `list` shows; a leaked key itself will do as well.
    """
    record = key_file.revoke(key_id)
    click.echo(f"Key {record.key_id} of {_holder(record)} is revoked.", err=True)


@keys.command()
@click.argument("key_id", metavar="ID", callback=lambda _ctx, _param, value: _key_id(value))
@click.option(
    "--overlap",
    type=duration,
    metavar="DURATION",
    default="24h",
    show_default=True,
    help="How long the old key stays valid; 0s ends it now.",
)
@click.option(
    "--expires",
    type=moment,
    metavar="WHEN",
    help="When the new key ends; by default it lives as long as the old one would.",
)
@_with_key_file
def rotate(key_file: KeyFile, key_id: str, overlap: timedelta, expires: timedelta | datetime | None) -> None:
    """Issue a key with the rights of another, which stays valid for a while, and print it, this once."""
    issued = key_file.rotate(key_id, overlap_s=overlap.total_seconds(), expires_at=_counted_from_now(expires))
    _hand_over(issued)
    old = next(record for record in key_file.list() if record.key_id == key_id)
    click.echo(f"Key {key_id} stays valid until {_time(old.expires_at)}.", err=True)


def _settings() -> Settings:
    given: Settings | None = click.get_current_context().meta.get(SETTINGS)
    return Settings.from_env() if given is None else given


def _key_id(text: str) -> str:
    if (key_id := key_id_in(text)) is None:
        # Not repeated: it may be part of a key.
        raise click.BadParameter("an id has nine letters and digits; `list` shows them.")
    return key_id


def _counted_from_now(given: timedelta | datetime | None) -> datetime | None:
    if not isinstance(given, timedelta):
        return given
    try:
        return datetime.fromtimestamp(int(SYSTEM_CLOCK.time()), UTC) + given
    except OverflowError:
        raise click.BadParameter("that is beyond the year 9999.", param_hint="--expires") from None


def _hand_over(issued: IssuedKey) -> None:
    record = issued.record
    click.echo(issued.key.reveal())
    ends = f"expires {_time(record.expires_at)}" if record.expires_at else "does not expire"
    click.echo(f"Key {record.key_id} of {_holder(record)} {ends}. It is shown this once: keep it now.", err=True)


def _holder(record: KeyRecord) -> str:
    return _shown(f"tenant {record.tenant}" + (f", caller {record.caller}" if record.caller else ""))


def _as_data(record: KeyRecord) -> dict[str, Any]:
    data = {name: getattr(record, name) for name in record.__struct_fields__ if name != "digest"}
    times = {name: value.isoformat() for name, value in data.items() if isinstance(value, datetime)}
    return {**data, **times, "status": record.status(SYSTEM_CLOCK.time())}


def _row(record: KeyRecord) -> tuple[str, ...]:
    return (
        record.key_id,
        record.environment,
        record.tenant,
        record.caller or "",
        " ".join(record.scopes),
        record.rate_limit or "",
        record.status(SYSTEM_CLOCK.time()) + (f", see {record.replaced_by}" if record.replaced_by else ""),
        _time(record.expires_at) if record.expires_at else "",
        record.note or "",
    )


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [_COLUMNS, *(tuple(_shown(cell) for cell in row) for row in rows)]
    # A column in which nobody has anything is left out.
    used = [at for at in range(len(_COLUMNS)) if any(line[at] for line in lines[1:])]
    widths = {at: max(len(line[at]) for line in lines) for at in used}
    return "\n".join("  ".join(line[at].ljust(widths[at]) for at in used).rstrip() for line in lines)


def _shown(text: str) -> str:
    """Return ``text`` without characters that would act on the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _time(moment: datetime | None) -> str:
    return "never" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
