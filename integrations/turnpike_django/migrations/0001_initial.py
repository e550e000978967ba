"""The permission to see spend; it makes no table."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """First version."""

    initial = True

    dependencies: ClassVar = []

    operations: ClassVar = [
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
    ]
