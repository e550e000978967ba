"""The admin of API keys: a new key is shown once, in the response to the request that made it.

It is in no message, session, log entry or table, because each of those would keep it. Keys are revoked, never deleted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from turnpike.boundary.issued_keys import IssuedKey
from turnpike.errors import ConfigurationError
from turnpike_django.keys.filters import StatusFilter
from turnpike_django.keys.models import APIKey
from turnpike_django.keys.times import from_database

if TYPE_CHECKING:
    Base = admin.ModelAdmin[APIKey]
    Form = forms.ModelForm[APIKey]
else:
    Base, Form = admin.ModelAdmin, forms.ModelForm

__all__ = ["APIKeyAdmin"]

_OVERLAPS = {
    "0": ("at once", timedelta(0)),
    "1h": ("in an hour", timedelta(hours=1)),
    "1d": ("in a day", timedelta(days=1)),
    "7d": ("in a week", timedelta(days=7)),
    "30d": ("in 30 days", timedelta(days=30)),
}


class APIKeyForm(Form):
    """What a key is issued with."""

    def clean_expires_at(self) -> Any:
        """Refuse to issue a key that has expired already; one that exists may be ended."""
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and self.instance._state.adding and expires_at <= timezone.now():
            raise ValidationError("Choose a time in the future.")
        return expires_at


@admin.register(APIKey)
class APIKeyAdmin(Base):
    """Issue, change, rotate and revoke keys."""

    form: type[APIKeyForm] = APIKeyForm
    list_display: tuple[str, ...] = (
        "id",
        "tenant",
        "caller",
        "status",
        "scopes",
        "rate_limit",
        "created_at",
        "expires_at",
    )
    list_filter: ClassVar[tuple[Any, ...]] = (StatusFilter, "environment")
    search_fields: ClassVar[tuple[str, ...]] = ("id", "tenant", "caller", "note")
    actions: tuple[str, ...] = ("rotate", "revoke")
    _given = ("tenant", "caller", "environment")
    _editable = ("scopes", "rate_limit", "expires_at", "note")
    _known = ("id", "status", "created_at", "created_by", "revoked_at", "replaced_by")

    def get_fields(self, request: HttpRequest, obj: APIKey | None = None) -> tuple[str, ...]:
        """Return the fields of the form: of a new key, those that say what it is."""
        return (*self._given, *self._editable) if obj is None else (*self._known, *self._given, *self._editable)

    def get_readonly_fields(self, request: HttpRequest, obj: APIKey | None = None) -> tuple[str, ...]:
        """Return what cannot be changed: whose a key is, among others, for the ledger names them by it."""
        return () if obj is None else (*self._known, *self._given)

    def has_delete_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        """Refuse: a revoked key stays."""
        return False

    def has_rotate_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may rotate keys."""
        return _may(request, "turnpike_keys.rotate_apikey")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may revoke keys."""
        return _may(request, "turnpike_keys.revoke_apikey")

    # -------------------------------------------------------------------------------------------------- issuing

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the form of a new key, with one way to save it: the next page is the key."""
        only_save = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {**(extra_context or {}), **only_save})

    def save_model(self, request: HttpRequest, obj: APIKey, form: Any, change: bool) -> None:
        """Issue a new key, or save what was changed of an old one."""
        if change:
            super().save_model(request, obj, form, change)
            return
        issued = APIKey.objects.issue(
            tenant=obj.tenant,
            caller=obj.caller or None,
            scopes=obj.scopes.split(),
            rate_limit=obj.rate_limit or None,
            expires_at=from_database(obj.expires_at),
            note=obj.note or None,
            environment="test" if obj.environment == "test" else "live",
            created_by=request.user,
        )
        obj.pk = issued.record.key_id
        obj.refresh_from_db()
        obj.issued = issued  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: APIKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the new key, this once."""
        return self._show(request, [obj.issued])  # type: ignore[attr-defined]

    # -------------------------------------------------------------------------------------------------- actions

    @admin.action(description="Rotate selected API keys", permissions=["rotate"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> HttpResponse:
        """Ask when the old keys are to end, then replace them and show the new ones, this once."""
        overlap = _OVERLAPS.get(request.POST.get("overlap", ""))
        if overlap is None:
            return self._ask(request, queryset, "rotate", "Rotate API keys", overlaps=_OVERLAPS)
        issued = []
        for key in queryset:
            try:
                new = APIKey.objects.rotate(key.pk, overlap=overlap[1], created_by=request.user)
            except ConfigurationError as error:
                self.message_user(request, str(error), messages.WARNING)
                continue
            self.log_change(request, key, f"Rotated to {new.record.key_id}.")
            self.log_addition(request, APIKey.objects.get(pk=new.record.key_id), f"Issued in place of {key.pk}.")
            issued.append(new)
        return self._show(request, issued)

    @admin.action(description="Revoke selected API keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> HttpResponse | None:
        """Ask, then revoke the keys for good."""
        if request.POST.get("confirmed") != "yes":
            return self._ask(request, queryset, "revoke", "Revoke API keys")
        for key in queryset:
            APIKey.objects.revoke(key.pk)
            self.log_change(request, key, "Revoked.")
        self.message_user(request, "The selected API keys are revoked.", messages.SUCCESS)
        return None

    def _ask(
        self, request: HttpRequest, queryset: QuerySet[APIKey], action: str, title: str, **more: Any
    ) -> HttpResponse:
        shown = {"title": title, "action": action, "keys": queryset, "action_checkbox_name": ACTION_CHECKBOX_NAME}
        return self._page(request, "confirm", {**shown, **more})

    def _show(self, request: HttpRequest, issued: list[IssuedKey]) -> HttpResponse:
        title = "New API keys" if len(issued) > 1 else "New API key"
        response = self._page(request, "issued", {"title": title, "issued": issued})
        response.headers["Cache-Control"] = "no-store"
        return response

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> TemplateResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media, "subtitle": None}
        return TemplateResponse(request, f"admin/turnpike_keys/{name}.html", {**shared, **context})


def _may(request: HttpRequest, permission: str) -> bool:
    user: Any = request.user
    return bool(user.has_perm(permission))
