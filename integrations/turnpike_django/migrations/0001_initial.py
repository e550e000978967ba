"""The permission to see spend; it makes no table."""

from collections.abc import Sequence
from typing import ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    """First version."""

    initial: ClassVar[bool | None] = True

    dependencies: ClassVar[Sequence[tuple[str, str]]] = ()

    operations: ClassVar[Sequence[Operation]] = (
        migrations.CreateModel(
            name="Spend",
            fields=[("tenant", models.CharField(max_length=200, primary_key=True, serialize=False))],
            options={
                "verbose_name": "spend by tenant",
                "verbose_name_plural": "spend by tenant",
                "managed": False,
                "default_permissions": ("view",),
                "base_manager_name": "objects",
            },
        ),
    )
