"""The admin: keys that are shown once, and what was spent, for those who may see it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django", reason="needs django: install turnpike[django]")

# ruff: noqa: E402 - Django is set up before its models are imported.
from . import django_site

django_site.configure()

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core.checks import run_checks
from django.test import Client, override_settings
from django.urls import path
from django.utils import timezone

from turnpike.clock import utc_stamp
from turnpike_django.keys.models import APIKey
from turnpike_django.keys.store import DatabaseKeyStore

from .django_bench import OURS, urls
from .django_databases import Databases
from .ledger_lines import write_lines

KEYS = "/admin/turnpike_keys/apikey/"
SPEND = "/admin/turnpike_django/spend/"
_KEY = re.compile(r"tpk_(?:live|test)_[0-9A-Za-z]{9}_[0-9A-Za-z]{39}")
_FORM = {"tenant": "acme", "caller": "web", "environment": "live", "scopes": "", "rate_limit": "", "note": ""}


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.jsonl"


@pytest.fixture
def site(databases: Databases, ledger: Path) -> Iterator[None]:
    with (
        databases.using("default"),
        override_settings(
            ROOT_URLCONF=urls(path("admin/", admin.site.urls)),
            TURNPIKE={"EXEMPT": ["/admin/*"], "TELEMETRY_PATH": str(ledger)},
            MIDDLEWARE=[
                "django.contrib.sessions.middleware.SessionMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
                "django.contrib.messages.middleware.MessageMiddleware",
                OURS,
            ],
        ),
    ):
        yield


@pytest.fixture
def root(site: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def staff(*permissions: str) -> Client:
    """Somebody who may enter the admin, and has these permissions."""
    user = User.objects.create_user(f"staff {User.objects.count()}", is_staff=True)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client()
    client.force_login(user)
    return client


def page(response: Any) -> str:
    assert response.status_code == 200, response
    return response.content.decode()  # type: ignore[no-any-return]


def act(client: Client, action: str, *keys: APIKey, **more: str) -> Any:
    return client.post(KEYS, {"action": action, "_selected_action": [key.pk for key in keys], "index": "0", **more})


def test_the_admins_own_checks_find_nothing(site: None) -> None:
    assert [each for each in run_checks() if each.id not in ("turnpike.E001", "admin.W411")] == []


# --------------------------------------------------------------------------------------------------------------- keys


def test_a_new_key_is_shown_once_and_kept_nowhere(root: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert "save-and-add" not in page(root.get(f"{KEYS}add/"))
    response = root.post(f"{KEYS}add/", {**_FORM, "scopes": "chat  reports:read", "rate_limit": "5/minute"})
    shown = page(response)
    assert "no-store" in response.headers["Cache-Control"]
    [key] = _KEY.findall(shown)
    principal = DatabaseKeyStore().find(key)
    assert principal is not None
    assert (principal.tenant, principal.caller, principal.scopes) == ("acme", "web", ("chat", "reports:read"))
    kept = APIKey.objects.get()
    assert kept.created_by == User.objects.get()
    for address in (KEYS, f"{KEYS}{kept.pk}/change/", f"{KEYS}{kept.pk}/history/", "/admin/"):
        assert kept.pk in (text := page(root.get(address))) or address == "/admin/"
        assert not _KEY.findall(text)
        assert kept.digest.hex() not in text
    logged = [(entry.object_id, entry.action_flag) for entry in LogEntry.objects.all()]
    assert logged == [(kept.pk, 1)]
    secret = key.rpartition("_")[2]
    everywhere = [
        *(entry.change_message + entry.object_repr for entry in LogEntry.objects.all()),
        *(str(session.get_decoded()) for session in Session.objects.all()),
        *(str(cookie) for cookie in root.cookies.values()),
        *(record.getMessage() for record in caplog.records),
    ]
    assert not any(secret in text for text in everywhere)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tenant": " "}, "This field is required"),
        ({"tenant": "a\tb"}, "Write printable text on one line"),
        ({"scopes": "a\x07"}, "Write names of at most 200 printable characters"),
        ({"scopes": "a" * 201}, "Write names of at most 200 printable characters"),
        ({"rate_limit": "often"}, "Write a rate limit as"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}, "Choose a time in the future"),
    ],
)
def test_what_cannot_be_in_a_record_is_said_beside_its_field(root: Client, wrong: dict[str, str], message: str) -> None:
    assert message in page(root.post(f"{KEYS}add/", {**_FORM, **wrong}))
    assert not APIKey.objects.exists()


def test_a_key_keeps_its_tenant_and_may_get_other_rights(root: Client) -> None:
    key = _issued()
    changed = {"tenant": "evil", "id": "aaaaaaaaa", "scopes": "chat", "rate_limit": "1/minute", "note": "new"}
    assert root.post(f"{KEYS}{key.pk}/change/", changed).status_code == 302
    key.refresh_from_db()
    assert (key.tenant, key.scopes, key.rate_limit, key.note) == ("acme", "chat", "1/minute", "new")
    ended = {"scopes": "", "rate_limit": "", "note": "", "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    assert root.post(f"{KEYS}{key.pk}/change/", ended).status_code == 302
    key.refresh_from_db()
    assert key.status == "expired"


def test_keys_are_revoked_after_a_question_and_never_deleted(root: Client) -> None:
    key, other = _issued(), _issued()
    assert "cannot be undone" in page(act(root, "revoke", key))
    key.refresh_from_db()
    assert key.status == "active"
    assert act(root, "revoke", key, confirmed="yes").status_code == 302
    for each in (key, other):
        each.refresh_from_db()
    assert (key.status, other.status) == ("revoked", "active")
    assert LogEntry.objects.get().get_change_message() == "Revoked."
    assert "delete_selected" not in page(root.get(KEYS))
    assert root.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403


def test_keys_are_rotated_with_an_overlap_and_the_new_ones_shown_once(root: Client) -> None:
    first, second, revoked = _issued(), _issued(tenant="beta"), _issued()
    APIKey.objects.revoke(revoked.pk)
    assert not _KEY.findall(page(act(root, "rotate", first, second)))
    assert APIKey.objects.count() == 3
    shown = page(act(root, "rotate", first, second, revoked, overlap="1h"))
    assert f"Key {revoked.pk} is revoked" in shown
    keys = _KEY.findall(shown)
    store = DatabaseKeyStore()
    assert sorted(str(found and found.tenant) for found in map(store.find, keys)) == ["acme", "beta"]
    first.refresh_from_db()
    assert first.replaced_by is not None
    assert first.expires_at is not None
    assert timedelta(minutes=59) < first.expires_at - timezone.now() <= timedelta(hours=1)
    assert LogEntry.objects.count() == 4
    assert not any(key in entry.change_message for key in keys for entry in LogEntry.objects.all())


@pytest.mark.parametrize("status", ["active", "expired", "revoked"])
def test_the_list_can_be_narrowed_to_a_status(root: Client, status: str) -> None:
    keys = {"active": _issued(), "expired": _issued(), "revoked": _issued()}
    APIKey.objects.filter(pk=keys["expired"].pk).update(expires_at=timezone.now() - timedelta(days=1))
    APIKey.objects.filter(pk=keys["revoked"].pk).update(revoked_at=timezone.now())
    shown = page(root.get(KEYS, {"status": status}))
    assert {name for name, key in keys.items() if key.pk in shown} == {status}


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ((), set()),
        (("turnpike_keys.view_apikey",), {"list"}),
        (("turnpike_keys.view_apikey", "turnpike_keys.add_apikey"), {"list", "add"}),
        (("turnpike_keys.view_apikey", "turnpike_keys.rotate_apikey"), {"list", "rotate"}),
        (("turnpike_keys.view_apikey", "turnpike_keys.revoke_apikey"), {"list", "revoke"}),
        (("turnpike_keys.change_apikey",), {"list", "change"}),
    ],
)
def test_everyone_does_what_they_are_permitted_to(site: None, permissions: tuple[str, ...], allowed: set[str]) -> None:
    client, key = staff(*permissions), _issued()
    did = set()
    if client.get(KEYS).status_code == 200:
        did.add("list")
    if client.post(f"{KEYS}add/", _FORM).status_code == 200:
        did.add("add")
    if client.post(f"{KEYS}{key.pk}/change/", {"note": "changed"}).status_code == 302:
        did.add("change")
    act(client, "rotate", key, overlap="1d")
    key.refresh_from_db()
    if key.replaced_by is not None:
        did.add("rotate")
    act(client, "revoke", key, confirmed="yes")
    key.refresh_from_db()
    if key.revoked_at is not None:
        did.add("revoke")
    assert did == allowed


def test_hostile_names_are_shown_as_text(root: Client) -> None:
    key = _issued(tenant="<script>alert(1)</script>", note="<b>")
    for shown in (page(root.get(KEYS)), page(act(root, "revoke", key)), page(act(root, "rotate", key, overlap="0"))):
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


def _issued(**fields: Any) -> APIKey:
    issued = APIKey.objects.issue(**{"tenant": "acme", **fields})
    return APIKey.objects.get(pk=issued.record.key_id)


# -------------------------------------------------------------------------------------------------------------- spend


def test_spend_is_added_up_by_tenant(root: Client, ledger: Path) -> None:
    write_lines(
        ledger,
        {"tenant_id": "acme", "tokens_in": 1000, "tokens_out": 500, "cost_nano_usd": 1_500_000_000},
        {"tenant_id": "acme", "tokens_in": 1, "cost_nano_usd": 600},
        {"tenant_id": "beta", "status": "error", "cost_nano_usd": 0},
        {"tenant_id": "beta", "status": "cancelled"},
    )
    assert _rows(page(root.get(SPEND))) == [
        ["acme", "2", "0", "0", "1,001", "500", "1.500001", "0"],
        ["beta", "2", "1", "1", "0", "0", "0.000000", "1"],
        ["Total", "4", "1", "1", "1,001", "500", "1.500001", "1"],
    ]


def test_a_tenants_spend_is_shown_by_route_and_model(root: Client, ledger: Path) -> None:
    hostile = "a&b=<i>/ö\"'"
    write_lines(
        ledger,
        {"tenant_id": hostile, "route": "/chat/<int:n>", "model": "gpt-4o", "cost_nano_usd": 2000},
        {"tenant_id": hostile, "route": "/other", "cost_nano_usd": 1000},
        {"tenant_id": "beta", "cost_nano_usd": 9000},
    )
    overview = page(root.get(SPEND, {"period": "7d"}))
    assert "<i>" not in overview
    [link] = [link for link in re.findall(r'href="(\?[^"]+tenant=[^"]+)"', overview) if "beta" not in link]
    shown = page(root.get(SPEND + link.replace("&amp;", "&")))
    assert _rows(shown) == [
        ["/chat/&lt;int:n&gt;", "gpt-4o", "1", "0", "0", "0", "0", "0.000002", "0"],
        ["/other", "-", "1", "0", "0", "0", "0", "0.000001", "0"],
        ["Total", "2", "0", "0", "0", "0", "0.000003", "0"],
    ]
    assert "<i>" not in shown
    assert 'class="selected">\n    <a href="?period=7d&amp;tenant=' in shown


def test_a_period_leaves_out_what_is_older(root: Client, ledger: Path) -> None:
    now = timezone.now().timestamp()
    ages = {"hours": 3600, "days": 3 * 86400, "weeks": 20 * 86400, "months": 60 * 86400, "years": 700 * 86400}
    ordered = sorted(ages.items(), key=lambda item: -item[1])
    write_lines(ledger, *({"tenant_id": name, "timestamp": utc_stamp(now - age)} for name, age in ordered))
    expected = {"24h": 1, "7d": 2, "30d": 3, "90d": 4, "all": 5, "nonsense": 3, "": 3}
    for period, number in expected.items():
        rows = _rows(page(root.get(SPEND, {"period": period} if period else {})))
        assert {row[0] for row in rows[:-1]} == set(list(ages)[:number]), period


def test_without_a_ledger_the_page_says_so(root: Client, ledger: Path) -> None:
    assert "There is no ledger at" in page(root.get(SPEND))
    ledger.write_text("")
    assert "No calls in this period" in page(root.get(SPEND))
    with override_settings(TURNPIKE={"EXEMPT": ["/admin/*"], "LEDGER": False, "TELEMETRY_PATH": str(ledger)}):
        assert "The ledger is switched off" in page(root.get(SPEND))


def test_only_staff_with_the_permission_see_spend(site: None, ledger: Path) -> None:
    write_lines(ledger, {"tenant_id": "acme"})
    allowed = staff("turnpike_django.view_spend")
    assert "acme" in page(allowed.get(SPEND))
    assert "Spend by tenant" in page(allowed.get("/admin/"))
    assert staff("turnpike_keys.view_apikey").get(SPEND).status_code == 403
    assert Client().get(SPEND).status_code == 302
    not_staff = Client()
    not_staff.force_login(User.objects.create_user("no staff"))
    assert not_staff.get(SPEND).status_code == 302


def test_nothing_can_be_written_through_the_page_of_spend(root: Client, ledger: Path) -> None:
    write_lines(ledger, {"tenant_id": "acme"})
    before = ledger.read_bytes()
    assert root.post(f"{SPEND}add/", {"tenant": "x"}).status_code == 403
    for address in (f"{SPEND}acme/change/", f"{SPEND}acme/delete/", f"{SPEND}acme/history/"):
        assert root.post(address, {"post": "yes"}).status_code in (302, 403)
    page(root.post(SPEND, {"action": "delete_selected", "_selected_action": ["acme"]}))
    assert ledger.read_bytes() == before


def _rows(shown: str) -> list[list[str]]:
    """The cells of the table's rows, without their tags."""
    table = shown[shown.index('class="spend"') :].partition("<tbody>")[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[re.sub(r"<[^>]*>", "", cell).strip() for cell in row] for row in cells]
