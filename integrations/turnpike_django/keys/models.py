"""API keys in the database: digests and what they allow. No key is ever in it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.conf import settings
from django.db import models

from turnpike.boundary.issued_keys import KeyRecord
from turnpike.boundary.key_format import Environment
from turnpike.clock import SYSTEM_CLOCK
from turnpike_django.keys.manager import APIKeyManager
from turnpike_django.keys.times import from_database, to_database
from turnpike_django.keys.validators import validate_rate_limit, validate_scopes, validate_text

if TYPE_CHECKING:
    # Written out, so that fields have types without the mypy plugin too.
    Text = models.CharField[str, str]
    Bytes = models.BinaryField[bytes, bytes]
    Moment = models.DateTimeField[datetime, datetime]
    MomentOrNone = models.DateTimeField[datetime | None, datetime | None]
    Reference = models.ForeignKey[Any, Any]

__all__ = ["APIKey"]


class APIKey(models.Model):
    """What is kept of an issued key. ``APIKey.objects.issue(tenant=...)`` makes one."""

    id: Text = models.CharField("ID", primary_key=True, max_length=9, editable=False)
    digest: Bytes = models.BinaryField(editable=False)
    pepper_id: Text = models.CharField(max_length=8, editable=False)
    environment: Text = models.CharField(
        max_length=4, choices=[("live", "live"), ("test", "test")], default="live", help_text="Part of the key's text."
    )
    tenant: Text = models.CharField(max_length=200, db_index=True, validators=[validate_text], help_text="Who pays.")
    caller: Text = models.CharField(
        max_length=200, blank=True, validators=[validate_text], help_text="Application or user within the tenant."
    )
    scopes: Text = models.CharField(
        max_length=1000,
        blank=True,
        validators=[validate_scopes],
        help_text="What the holder may do: names with spaces between them.",
    )
    rate_limit: Text = models.CharField(
        max_length=32,
        blank=True,
        validators=[validate_rate_limit],
        help_text="The holder's own limit, such as 60/minute; empty means the service's.",
    )
    created_at: Moment = models.DateTimeField(editable=False)
    expires_at: MomentOrNone = models.DateTimeField(
        null=True, blank=True, help_text="From when on it is refused; empty means never."
    )
    revoked_at: MomentOrNone = models.DateTimeField(null=True, blank=True, editable=False)
    replaced_by: Reference = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    note: Text = models.CharField(max_length=200, blank=True, validators=[validate_text], help_text="Your own words.")
    created_by: Reference = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    objects: ClassVar[APIKeyManager] = APIKeyManager()

    class Meta:  # noqa: D106
        verbose_name: str = "API key"
        ordering: tuple[str, ...] = ("-created_at", "id")
        # Without "delete": a revoked key stays, so that the ledger's callers can be looked up.
        default_permissions: tuple[str, ...] = ("add", "change", "view")
        permissions: tuple[tuple[str, str], ...] = (
            ("rotate_apikey", "Can rotate API key"),
            ("revoke_apikey", "Can revoke API key"),
        )

    if TYPE_CHECKING:
        replaced_by_id: str | None

    def __str__(self) -> str:
        return f"{self.id} ({self.tenant})"

    @property
    def status(self) -> str:
        """``active``, ``expired`` or ``revoked``."""
        return self.to_record().status(SYSTEM_CLOCK.time())

    def to_record(self) -> KeyRecord:
        """Return the record that ``IssuedKeyStore`` judges by."""
        return KeyRecord(
            key_id=self.id,
            digest=bytes(self.digest),
            pepper_id=self.pepper_id,
            tenant=self.tenant,
            caller=self.caller or None,
            scopes=tuple(self.scopes.split()),
            rate_limit=self.rate_limit or None,
            environment=cast("Environment", self.environment),
            created_at=from_database(self.created_at),
            expires_at=from_database(self.expires_at),
            revoked_at=from_database(self.revoked_at),
            replaced_by=self.replaced_by_id,
            note=self.note or None,
        )

    @classmethod
    def from_record(cls, record: KeyRecord, *, created_by: Any = None) -> APIKey:
        """Return an unsaved key for ``record``."""
        return cls(
            id=record.key_id,
            digest=record.digest,
            pepper_id=record.pepper_id,
            environment=record.environment,
            tenant=record.tenant,
            caller=record.caller or "",
            scopes=" ".join(record.scopes),
            rate_limit=record.rate_limit or "",
            created_at=to_database(record.created_at),
            expires_at=to_database(record.expires_at),
            note=record.note or "",
            created_by=created_by,
        )
