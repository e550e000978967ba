"""Durations and moments as an operator types them: ``90d``, ``24h``, ``2027-01-31``. Use them as the type of an option."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

__all__ = ["duration", "moment"]

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])", re.ASCII)


def duration(text: str) -> timedelta:
    """Read a whole number of seconds, minutes, hours, days or weeks.

    Raises:
        click.BadParameter: if ``text`` is none.
    """
    if (found := _read_duration(text)) is None:
        raise click.BadParameter("write a number and s, m, h, d or w (m is minutes), such as 24h or 90d.")
    return found


def moment(text: str) -> timedelta | datetime:
    """Read a duration from now, or a date or time in ISO 8601, in UTC unless it says otherwise.

    Raises:
        click.BadParameter: if ``text`` is neither.
    """
    if (found := _read_duration(text)) is not None:
        return found
    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.BadParameter("write it as 90d, 12h, 2027-01-31 or 2027-01-31T18:00+01:00.") from None
    return read if read.utcoffset() is not None else read.replace(tzinfo=UTC)


def _read_duration(text: str) -> timedelta | None:
    match = _DURATION.fullmatch(text.strip())
    return timedelta(seconds=int(match[1]) * _UNIT_S[match[2]]) if match else None
