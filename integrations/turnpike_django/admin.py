"""The admin's page of spend by tenant: for staff with the permission ``turnpike_django.view_spend``. It only reads."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import number_format

from turnpike_django.conf import load_settings
from turnpike_django.models import Spend
from turnpike_django.spend import OTHERS, Report, Sums, report

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Spend]
else:
    Base = admin.ModelAdmin

__all__ = ["SpendAdmin"]

_PERIODS = {
    "24h": ("Past 24 hours", timedelta(hours=24)),
    "7d": ("Past 7 days", timedelta(days=7)),
    "30d": ("Past 30 days", timedelta(days=30)),
    "90d": ("Past 90 days", timedelta(days=90)),
    "all": ("All", None),
}
_USUAL = "30d"
_FIGURES = ("Calls", "Errors", "Cancelled", "Tokens in", "Tokens out", "Cost (USD)", "Unpriced")
_MICRO = Decimal("0.000001")
_MAX_SHOWN = 500


class Row(NamedTuple):
    """One line of the page's table."""

    names: tuple[str, ...]
    figures: tuple[str, ...]
    link: str = ""


@admin.register(Spend)
class SpendAdmin(Base):
    """A change list that shows no objects, but what the ledger says."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: nothing is added here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Spend | None = None) -> bool:
        """Refuse: nothing is changed here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Spend | None = None) -> bool:
        """Refuse: nothing is deleted here."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show spend by tenant, or with ``?tenant=`` that of one tenant by route and model."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        chosen = request.GET.get("period", _USUAL)
        period = chosen if chosen in _PERIODS else _USUAL
        tenant = request.GET.get("tenant")
        settings = load_settings()
        path = Path(settings.telemetry_path).expanduser()
        found = report(path, since=_since(period), tenant=tenant)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "subtitle": None,
            "title": "Spend by tenant" if tenant is None else f"Spend of {tenant}",
            "tenant": tenant,
            "path": path,
            "is_off": not settings.ledger,
            "found": found,
            "heads": ("Tenant",) if tenant is None else ("Route", "Model"),
            "figures": _FIGURES,
            "rows": _rows(found, period, tenant),
            "hidden": max(0, len(found.rows) - _MAX_SHOWN),
            "total": _figures(found.total),
            "periods": _choices(period, tenant),
            "back": "?" + urlencode({"period": period}),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/turnpike_django/spend.html", context)


def _since(period: str) -> datetime | None:
    span = _PERIODS[period][1]
    return None if span is None else timezone.now().astimezone() - span


def _rows(found: Report, period: str, tenant: str | None) -> list[Row]:
    ordered = sorted(found.rows.items(), key=lambda item: (-item[1].cost_nano_usd, -item[1].calls, item[0]))
    rows = []
    for name, sums in ordered[:_MAX_SHOWN]:
        if name == OTHERS:
            rows.append(Row(("(all others)",) + ("",) * (tenant is not None), _figures(sums)))
        elif tenant is None:
            rows.append(Row(name, _figures(sums), "?" + urlencode({"period": period, "tenant": name[0]})))
        else:
            rows.append(Row(name, _figures(sums)))
    return rows


def _figures(sums: Sums) -> tuple[str, ...]:
    counts = (sums.calls, sums.errors, sums.cancelled, sums.tokens_in, sums.tokens_out)
    cost = Decimal(sums.cost_nano_usd).scaleb(-9).quantize(_MICRO)
    shown = (number_format(count, 0, force_grouping=True) for count in counts)
    return (*shown, number_format(cost, 6, force_grouping=True), number_format(sums.unpriced, 0, force_grouping=True))


def _choices(period: str, tenant: str | None) -> list[dict[str, Any]]:
    also = {} if tenant is None else {"tenant": tenant}
    return [
        {"selected": name == period, "query_string": "?" + urlencode({"period": name, **also}), "display": display}
        for name, (display, _) in _PERIODS.items()
    ]
