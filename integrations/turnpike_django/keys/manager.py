"""Issuing, rotating and revoking keys: the only ways in which a key comes into the table or loses its force."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import models, router, transaction

from turnpike.boundary.issued_keys import IssuedKey, KeyRecord, issue
from turnpike.boundary.key_format import Environment
from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.errors import ConfigurationError
from turnpike_django.keys.peppers import key_peppers
from turnpike_django.keys.times import to_database

if TYPE_CHECKING:
    from turnpike_django.keys.models import APIKey

    Base = models.Manager[APIKey]
else:
    Base = models.Manager

__all__ = ["APIKeyManager"]

DAY = timedelta(days=1)


class APIKeyManager(Base):
    """``APIKey.objects``."""

    def issue(
        self,
        *,
        tenant: str,
        caller: str | None = None,
        scopes: Iterable[str] = (),
        rate_limit: str | int | None = None,
        expires_at: datetime | None = None,
        note: str | None = None,
        environment: Environment = "live",
        created_by: Any = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> IssuedKey:
        """Issue a key. Show ``key.reveal()`` of what this returns to its holder: it cannot be had again.

        Args:
            tenant: the tenant that pays.
            caller: the application or user within the tenant.
            scopes: names of what the holder may do.
            rate_limit: the holder's own limit, such as ``60/minute``.
            expires_at: from when on the key is refused; must have a time zone.
            note: the operator's own words.
            environment: ``live`` or ``test``.
            created_by: the user who issues it.
            clock: source of the record's time.

        Raises:
            ConfigurationError: naming what cannot be in a record.
        """
        issued = issue(
            tenant=tenant,
            caller=caller,
            scopes=scopes,
            rate_limit=rate_limit,
            expires_at=expires_at,
            note=note,
            environment=environment,
            pepper=key_peppers()[0],
            clock=clock,
        )
        self.model.from_record(issued.record, created_by=created_by).save(force_insert=True)
        return issued

    def rotate(
        self, key_id: str, *, overlap: timedelta = DAY, created_by: Any = None, clock: Clock = SYSTEM_CLOCK
    ) -> IssuedKey:
        """Issue a key with the rights of another, which stays valid for ``overlap`` more.

        The new key lives as long as the old one was meant to.

        Args:
            key_id: the key to replace.
            overlap: how long the old key stays valid, unless it expires sooner; 0 ends it at once.
            created_by: the user who rotates it.
            clock: source of time.

        Raises:
            ConfigurationError: if the key is not active, or was rotated before.
            APIKey.DoesNotExist: if there is no such key.
        """
        if overlap < timedelta(0):
            raise ConfigurationError("overlap must not be negative.")
        with self._change():
            key = self.select_for_update().get(pk=key_id)
            old, now = key.to_record(), _now(clock)
            _refuse_to_rotate(old, clock.time())
            issued = self.issue(
                tenant=old.tenant,
                caller=old.caller,
                scopes=old.scopes,
                rate_limit=old.rate_limit,
                expires_at=None if old.expires_at is None else now + (old.expires_at - old.created_at),
                note=old.note,
                environment=old.environment,
                created_by=created_by,
                clock=clock,
            )
            ends = now + overlap
            key.expires_at = to_database(ends if old.expires_at is None else min(ends, old.expires_at))
            key.replaced_by_id = issued.record.key_id
            key.save(update_fields=["expires_at", "replaced_by"])
        return issued

    def revoke(self, key_id: str, *, clock: Clock = SYSTEM_CLOCK) -> APIKey:
        """Revoke a key for good, and return it. One that is revoked already stays as it is.

        Raises:
            APIKey.DoesNotExist: if there is no such key.
        """
        with self._change():
            key = self.select_for_update().get(pk=key_id)
            if key.revoked_at is None:
                key.revoked_at = to_database(_now(clock))
                key.save(update_fields=["revoked_at"])
        return key

    def _change(self) -> transaction.Atomic:
        return transaction.atomic(using=router.db_for_write(self.model))


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(int(clock.time()), UTC)


def _refuse_to_rotate(record: KeyRecord, epoch_s: float) -> None:
    if record.replaced_by is not None:
        raise ConfigurationError(
            f"Key {record.key_id} was rotated before, to {record.replaced_by}: rotate that one, or issue a key."
        )
    if (status := record.status(epoch_s)) != "active":
        raise ConfigurationError(f"Key {record.key_id} is {status}, so it cannot be rotated: issue a key instead.")
