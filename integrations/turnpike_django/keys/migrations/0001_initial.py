"""The table of API keys."""

from collections.abc import Sequence
from typing import ClassVar

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.migrations.operations.base import Operation

from turnpike_django.keys.validators import validate_rate_limit, validate_scopes, validate_text


class Migration(migrations.Migration):
    """First version."""

    initial: ClassVar[bool | None] = True

    dependencies: ClassVar[Sequence[tuple[str, str]]] = (migrations.swappable_dependency(settings.AUTH_USER_MODEL),)

    operations: ClassVar[Sequence[Operation]] = (
        migrations.CreateModel(
            name="APIKey",
            fields=[
                (
                    "id",
                    models.CharField(
                        editable=False, max_length=9, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("digest", models.BinaryField()),
                ("pepper_id", models.CharField(editable=False, max_length=8)),
                (
                    "environment",
                    models.CharField(
                        choices=[("live", "live"), ("test", "test")],
                        default="live",
                        help_text="Part of the key's text.",
                        max_length=4,
                    ),
                ),
                (
                    "tenant",
                    models.CharField(db_index=True, help_text="Who pays.", max_length=200, validators=[validate_text]),
                ),
                (
                    "caller",
                    models.CharField(
                        blank=True,
                        help_text="Application or user within the tenant.",
                        max_length=200,
                        validators=[validate_text],
                    ),
                ),
                (
                    "scopes",
                    models.CharField(
                        blank=True,
                        help_text="What the holder may do: names with spaces between them.",
                        max_length=1000,
                        validators=[validate_scopes],
                    ),
                ),
                (
                    "rate_limit",
                    models.CharField(
                        blank=True,
                        help_text="The holder's own limit, such as 60/minute; empty means the service's.",
                        max_length=32,
                        validators=[validate_rate_limit],
                    ),
                ),
                ("created_at", models.DateTimeField(editable=False)),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True, help_text="From when on it is refused; empty means never.", null=True
                    ),
                ),
                ("revoked_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "note",
                    models.CharField(
                        blank=True, help_text="Your own words.", max_length=200, validators=[validate_text]
                    ),
                ),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "replaced_by",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="turnpike_keys.apikey",
                    ),
                ),
            ],
            options={
                "verbose_name": "API key",
                "ordering": ("-created_at", "id"),
                "permissions": (("rotate_apikey", "Can rotate API key"), ("revoke_apikey", "Can revoke API key")),
                "default_permissions": ("add", "change", "view"),
            },
        ),
    )
