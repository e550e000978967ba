"""The table of keys, managed with the verbs that a key file has too, so that one command serves both."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import F

from turnpike.boundary.issued_keys import IssuedKey, KeyRecord
from turnpike.boundary.key_format import Environment
from turnpike.errors import ConfigurationError
from turnpike_django.keys.models import APIKey

__all__ = ["KeyTable"]


class KeyTable:
    """``APIKey.objects`` with the verbs of ``turnpike.boundary.key_file.KeyFile``, and its errors."""

    def create(
        self,
        *,
        tenant: str,
        caller: str | None = None,
        scopes: Iterable[str] = (),
        rate_limit: str | int | None = None,
        expires_at: datetime | None = None,
        note: str | None = None,
        environment: Environment = "live",
    ) -> IssuedKey:
        """Issue a key; see ``APIKeyManager.issue``."""
        return APIKey.objects.issue(
            tenant=tenant,
            caller=caller,
            scopes=scopes,
            rate_limit=rate_limit,
            expires_at=expires_at,
            note=note,
            environment=environment,
        )

    def list(self) -> tuple[KeyRecord, ...]:
        """Return all records, in the order in which they were created."""
        # A key stands before the one that replaced it, even if both were made in the same second.
        oldest_first = APIKey.objects.order_by("created_at", F("replaced_by_id").desc(nulls_last=True), "id")
        return tuple(key.to_record() for key in oldest_first.iterator())

    def revoke(self, key_id: str) -> KeyRecord:
        """Revoke a key for good.

        Raises:
            ConfigurationError: if there is no such key.
        """
        try:
            return APIKey.objects.revoke(key_id).to_record()
        except APIKey.DoesNotExist:
            raise _unknown() from None

    def rotate(self, key_id: str, *, overlap_s: float = 86400) -> IssuedKey:
        """Issue a key with the rights of another; see ``APIKeyManager.rotate``.

        Raises:
            ConfigurationError: if there is no such key, it is not active, or it was rotated before.
        """
        try:
            return APIKey.objects.rotate(key_id, overlap=timedelta(seconds=overlap_s))
        except APIKey.DoesNotExist:
            raise _unknown() from None


def _unknown() -> ConfigurationError:
    # The id is not repeated: it may be part of a key that was given in its place.
    return ConfigurationError("There is no key of that id. To see the ids: manage.py turnpike_keys list")
