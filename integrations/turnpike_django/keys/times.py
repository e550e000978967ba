"""Times between the database, which holds naive ones where ``USE_TZ`` is off, and records, whose times are aware."""

from __future__ import annotations

from datetime import datetime
from typing import overload

from django.conf import settings
from django.utils import timezone

__all__ = ["from_database", "to_database"]


@overload
def from_database(moment: datetime) -> datetime: ...
@overload
def from_database(moment: datetime | None) -> datetime | None: ...
def from_database(moment: datetime | None) -> datetime | None:
    """Return a field's value as an aware time."""
    if moment is None or timezone.is_aware(moment):
        return moment
    return timezone.make_aware(moment, timezone.get_default_timezone())


@overload
def to_database(moment: datetime) -> datetime: ...
@overload
def to_database(moment: datetime | None) -> datetime | None: ...
def to_database(moment: datetime | None) -> datetime | None:
    """Return an aware time as a field takes it."""
    if moment is None or settings.USE_TZ:
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())
