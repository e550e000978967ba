"""What the admin's page of spend hangs on: a model without a table, for the permission ``turnpike_django.view_spend``."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models

__all__ = ["Spend"]


class _NoRows(models.Manager[Any]):
    """Answers every query without asking the database, which has no such table; ``dumpdata`` asks for all models."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class Spend(models.Model):
    """Spend by tenant, as the ledger says; nothing of it is kept here."""

    tenant: models.CharField[str, str] = models.CharField(max_length=200, primary_key=True)

    objects: ClassVar[_NoRows] = _NoRows()

    class Meta:  # noqa: D106
        managed: bool = False
        default_permissions: tuple[str, ...] = ("view",)
        base_manager_name: str = "objects"
        verbose_name: str = "spend by tenant"
        verbose_name_plural: str = "spend by tenant"
