"""API keys in the database: what is kept of them, how they come and go, and who is let in by them."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("django", reason="needs django: install turnpike[django]")

# ruff: noqa: E402 - Django is set up before its models are imported.
from . import django_site

django_site.configure()

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

from turnpike.boundary.issued_keys import pepper_id_of
from turnpike.errors import ConfigurationError
from turnpike.secret import Secret
from turnpike_django.keys.models import APIKey
from turnpike_django.keys.peppers import key_peppers
from turnpike_django.keys.store import DatabaseKeyStore

from .django_bench import ACME, Bench, ask_async, who
from .django_databases import ALIASES, Databases

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class HandClock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return NOW.timestamp() + self.now_s


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture(params=ALIASES)
def database(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    with databases.using(request.param) as alias:
        yield alias


@pytest.fixture
def sqlite(databases: Databases) -> Iterator[str]:
    with databases.using("default") as alias:
        yield alias


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def found(store: DatabaseKeyStore, key: Secret) -> str | None:
    principal = store.find(key.reveal())
    return None if principal is None else principal.tenant


# ------------------------------------------------------------------------------------------------------------ issuing


def test_an_issued_key_is_found_with_all_that_was_said_of_it(database: str, clock: HandClock) -> None:
    user = get_user_model().objects.create_user("ann")
    issued = APIKey.objects.issue(
        tenant="acme",
        caller="web",
        scopes=["chat", "reports:read"],
        rate_limit="5/minute",
        expires_at=NOW + timedelta(days=1),
        note="front end",
        environment="test",
        created_by=user,
        clock=clock,
    )
    key = APIKey.objects.get()
    assert key.to_record() == issued.record
    assert (key.status, key.created_by, str(key)) == ("active", user, f"{key.id} (acme)")
    principal = DatabaseKeyStore(clock=clock).find(issued.key.reveal())
    assert principal is not None
    assert (principal.tenant, principal.caller, principal.key_id) == ("acme", "web", key.id)
    assert principal.scopes == ("chat", "reports:read")
    assert (principal.rate_limit.requests, principal.rate_limit.window_s) == (5, 60)  # type: ignore[union-attr]


def test_nothing_in_the_database_is_the_key(database: str) -> None:
    issued = APIKey.objects.issue(tenant="acme")
    secret = issued.key.reveal().rpartition("_")[2]
    output = io.StringIO()
    call_command("dumpdata", "turnpike_keys", "turnpike_django", database=database, stdout=output)
    [row] = json.loads(output.getvalue())
    assert row["pk"] == issued.record.key_id
    assert secret not in output.getvalue()
    assert issued.key.reveal() not in repr(vars(APIKey.objects.get()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": ""},
        {"tenant": "a\nb"},
        {"tenant": "a", "rate_limit": "often"},
        {"tenant": "a", "scopes": ["two words"]},
        {"tenant": "a", "expires_at": NOW - timedelta(days=1)},
    ],
)
def test_what_cannot_be_in_a_record_is_refused_and_leaves_nothing(
    sqlite: str, clock: HandClock, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        APIKey.objects.issue(clock=clock, **wrong)
    assert not APIKey.objects.exists()


def test_other_texts_are_nobodys_key(database: str) -> None:
    issued = APIKey.objects.issue(tenant="acme")
    store, key = DatabaseKeyStore(), issued.key.reveal()
    APIKey.objects.filter(pk=issued.record.key_id).update(digest=bytes(32))
    for other in (key, key[:-1], key.upper(), "tpk_live_", "", "x" * 128, "\0"):
        assert store.find(other) is None


def test_only_what_may_be_a_key_costs_a_query_and_that_is_one(sqlite: str) -> None:
    issued = APIKey.objects.issue(tenant="acme")
    store = DatabaseKeyStore()
    with CaptureQueriesContext(connection) as queries:
        assert store.find("tpk_live_aaaaaaaaa_" + "b" * 39) is None
        assert len(queries) == 0
        assert found(store, issued.key) == "acme"
        assert len(queries) == 1


# ----------------------------------------------------------------------------------------------------- coming to an end


def test_a_key_ends_when_it_expires(database: str, clock: HandClock) -> None:
    issued = APIKey.objects.issue(tenant="acme", expires_at=NOW + timedelta(minutes=1), clock=clock)
    store = DatabaseKeyStore(clock=clock)
    assert found(store, issued.key) == "acme"
    clock.now_s = 60.0
    assert found(store, issued.key) is None


def test_a_revoked_key_is_refused_at_once_and_for_good(database: str, clock: HandClock) -> None:
    issued = APIKey.objects.issue(tenant="acme", clock=clock)
    store = DatabaseKeyStore(clock=clock)
    assert found(store, issued.key) == "acme"
    clock.now_s = 5.0
    assert APIKey.objects.revoke(issued.record.key_id, clock=clock).status == "revoked"
    assert found(store, issued.key) is None
    clock.now_s = 9.0
    APIKey.objects.revoke(issued.record.key_id, clock=clock)
    assert APIKey.objects.get().revoked_at == NOW + timedelta(seconds=5)
    with pytest.raises(APIKey.DoesNotExist):
        APIKey.objects.revoke("aaaaaaaaa")


def test_a_rotated_key_stays_valid_beside_its_successor_for_a_while(database: str, clock: HandClock) -> None:
    old = APIKey.objects.issue(
        tenant="acme", caller="web", scopes=["chat"], rate_limit="5/minute", note="n", environment="test", clock=clock
    )
    new = APIKey.objects.rotate(old.record.key_id, overlap=timedelta(hours=1), clock=clock)
    store = DatabaseKeyStore(clock=clock)
    assert (found(store, old.key), found(store, new.key)) == ("acme", "acme")
    before, after = (APIKey.objects.get(pk=each.record.key_id) for each in (old, new))
    assert (before.replaced_by, before.expires_at) == (after, NOW + timedelta(hours=1))
    same = ("tenant", "caller", "scopes", "rate_limit", "note", "environment")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    clock.now_s = 3600.0
    assert (found(store, old.key), found(store, new.key)) == (None, "acme")


def test_a_successor_lives_as_long_as_the_key_was_meant_to(database: str, clock: HandClock) -> None:
    old = APIKey.objects.issue(tenant="acme", expires_at=NOW + timedelta(days=30), clock=clock)
    clock.now_s = timedelta(days=29, hours=23).total_seconds()
    new = APIKey.objects.rotate(old.record.key_id, clock=clock)
    assert new.record.expires_at == NOW + timedelta(days=59, hours=23)
    # Its expiry comes before the end of the overlap.
    assert APIKey.objects.get(pk=old.record.key_id).expires_at == NOW + timedelta(days=30)


def test_a_key_is_rotated_once_and_only_while_it_is_active(database: str, clock: HandClock) -> None:
    first = APIKey.objects.issue(tenant="acme", clock=clock)
    APIKey.objects.rotate(first.record.key_id, clock=clock)
    with pytest.raises(ConfigurationError, match="was rotated before"):
        APIKey.objects.rotate(first.record.key_id, clock=clock)
    second = APIKey.objects.issue(tenant="acme", clock=clock)
    APIKey.objects.revoke(second.record.key_id, clock=clock)
    with pytest.raises(ConfigurationError, match="is revoked"):
        APIKey.objects.rotate(second.record.key_id, clock=clock)
    with pytest.raises(ConfigurationError, match="must not be negative"):
        APIKey.objects.rotate(second.record.key_id, overlap=timedelta(-1), clock=clock)
    assert APIKey.objects.count() == 3


def test_of_two_who_rotate_a_key_at_once_one_gets_the_successor(databases: Databases) -> None:
    with databases.using("postgresql"):
        key_id = APIKey.objects.issue(tenant="acme").record.key_id
        outcomes: list[str] = []
        both = threading.Barrier(2)

        def rotate() -> None:
            both.wait()
            try:
                APIKey.objects.rotate(key_id)
                outcomes.append("rotated")
            except ConfigurationError:
                outcomes.append("refused")
            finally:
                connections.close_all()

        threads = [threading.Thread(target=rotate) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["refused", "rotated"]
        assert APIKey.objects.count() == 2


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_times_are_right_without_time_zone_support_too(sqlite: str, clock: HandClock, zone: str) -> None:
    with override_settings(USE_TZ=False, TIME_ZONE=zone):
        issued = APIKey.objects.issue(tenant="acme", expires_at=NOW + timedelta(minutes=1), clock=clock)
        key = APIKey.objects.get()
        assert key.expires_at is not None
        assert key.expires_at.tzinfo is None
        assert key.to_record() == issued.record
        store = DatabaseKeyStore(clock=clock)
        assert found(store, issued.key) == "acme"
        clock.now_s = 60.0
        assert found(store, issued.key) is None


# ------------------------------------------------------------------------------------------------------------ peppers


def test_a_key_survives_a_new_secret_key_as_long_as_the_old_one_is_a_fallback(sqlite: str) -> None:
    with override_settings(SECRET_KEY="old"):
        issued = APIKey.objects.issue(tenant="acme")
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        assert found(DatabaseKeyStore(), issued.key) == "acme"
    with override_settings(SECRET_KEY="new"):
        assert found(DatabaseKeyStore(), issued.key) is None


def test_configured_peppers_are_for_new_keys_and_leave_old_ones_valid(sqlite: str) -> None:
    before = APIKey.objects.issue(tenant="before")
    with override_settings(TURNPIKE={"KEY_PEPPERS": ["one", "two"]}):
        after = APIKey.objects.issue(tenant="after")
        assert after.record.pepper_id == pepper_id_of(Secret("one"))
        store = DatabaseKeyStore()
        assert (found(store, before.key), found(store, after.key)) == ("before", "after")
    with override_settings(TURNPIKE={"KEY_PEPPERS": ["three", "one"]}):
        assert found(DatabaseKeyStore(), after.key) == "after"


def test_no_pepper_is_the_secret_key_itself() -> None:
    with override_settings(SECRET_KEY="s" * 50):
        [pepper] = key_peppers()
    assert "s" * 50 not in pepper.reveal()
    assert len(pepper.reveal()) == 64


# -------------------------------------------------------------------------------------------------------------- cache


def test_a_cache_is_asked_for_and_lasts_no_longer_than_it_says(sqlite: str, clock: HandClock) -> None:
    issued = APIKey.objects.issue(tenant="acme", clock=clock)
    store = DatabaseKeyStore(cache_s=1.0, clock=clock)
    assert found(store, issued.key) == "acme"
    APIKey.objects.revoke(issued.record.key_id, clock=clock)
    clock.now_s = 0.9
    assert found(store, issued.key) == "acme"
    clock.now_s = 1.0
    assert found(store, issued.key) is None


def test_of_unknown_ids_the_cache_keeps_nothing(sqlite: str, clock: HandClock) -> None:
    issued = APIKey.objects.issue(tenant="acme", clock=clock)
    key = APIKey.objects.get()
    APIKey.objects.all().delete()
    store = DatabaseKeyStore(cache_s=60.0, clock=clock)
    assert found(store, issued.key) is None
    key.save(force_insert=True)
    assert found(store, issued.key) == "acme"


def test_the_cache_is_used_on_an_event_loop_too(sqlite: str, clock: HandClock) -> None:
    issued = APIKey.objects.issue(tenant="acme", clock=clock)
    store = DatabaseKeyStore(cache_s=1.0, clock=clock)

    async def look() -> list[str | None]:
        principals = [await store.find_async(issued.key.reveal())]
        await sync_to_async(APIKey.objects.all().delete)()
        principals.append(await store.find_async(issued.key.reveal()))
        clock.now_s = 1.0
        principals.append(await store.find_async(issued.key.reveal()))
        await sync_to_async(connections.close_all)()
        return [principal and principal.tenant for principal in principals]

    assert asyncio.run(look()) == ["acme", "acme", None]


# --------------------------------------------------------------------------------------------------------- in requests


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gateway.close()


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_requests_are_admitted_by_keys_of_the_database_beside_those_of_the_settings(
    bench: Bench, database: str, kind: str
) -> None:
    issued = APIKey.objects.issue(tenant="tables", caller="api", rate_limit="2/minute")
    header = [(b"X-API-Key", issued.key.reveal().encode())]
    with bench.project(path("who", who), path("ask", ask_async)) as project:
        server = project.on(kind)
        response = server.request("GET", "/ask", header)
        assert response.body == b"tables said so"
        assert response.header("ratelimit-policy") == '"default";q=2;w=60'
        assert server.request("GET", "/who", header).json() == {"tenant": "tables", "caller": "api"}
        assert server.request("GET", "/who", header).status == 429
        assert server.request("GET", "/who", ACME).json()["tenant"] == "acme"
        APIKey.objects.revoke(issued.record.key_id)
        assert server.request("GET", "/who", header).status == 401
    assert [envelope.tenant_id for envelope in bench.books.envelopes] == ["tables"]


# ------------------------------------------------------------------------------------------------------------ commands


def keys_command(*arguments: str) -> tuple[str, str]:
    output, notes = io.StringIO(), io.StringIO()
    call_command("turnpike_keys", *arguments, stdout=output, stderr=notes)
    return output.getvalue().strip(), notes.getvalue().strip()


@pytest.mark.parametrize("where", ["database", "file"])
def test_the_command_issues_lists_rotates_and_revokes(sqlite: str, tmp_path: Any, where: str) -> None:
    options = [] if where == "database" else ["--file", str(tmp_path / "keys.json")]
    issue = ["create", "--tenant", "acme", "--caller", "web", "--scope", "a", "--scope", "b", "--expires", "90d"]
    key, note = keys_command(*options, *issue, "--rate-limit", "5/minute", "--note", "n", "--environment", "test")
    assert key.startswith("tpk_test_")
    key_id = key.split("_")[2]
    assert key_id in note
    assert key not in note
    successor, note = keys_command(*options, "rotate", key_id, "--overlap", "1h")
    assert "stays valid for 1:00:00" in note
    keys_command(*options, "revoke", successor)  # a leaked key names itself
    listed, _ = keys_command(*options, "list")
    head, first, second = listed.splitlines()
    assert head.split() == ["ID", "ENV", "TENANT", "CALLER", "SCOPES", "LIMIT", "STATUS", "EXPIRES", "NOTE"]
    successor_id = successor.split("_")[2]
    assert first.split()[:8] == [key_id, "test", "acme", "web", "a", "b", "5/minute", "active,"]
    assert f"see {successor_id}" in first
    assert "revoked" in second
    assert not any(secret.rpartition("_")[2] in listed for secret in (key, successor))
    assert APIKey.objects.count() == (2 if where == "database" else 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "--tenant", ""], "tenant"),
        (["create", "--tenant", "a", "--expires", "soon"], "write a span of time"),
        (["revoke", "aaaaaaaaa"], "no key of that id"),
        (["rotate", "aaaaaaaaa"], "no key of that id"),
        (["revoke", "not an id"], "nine letters and digits"),
    ],
)
def test_the_command_says_what_is_wrong(sqlite: str, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        keys_command(*arguments)


def test_no_migration_is_missing(sqlite: str) -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_all_tables_can_be_dumped_though_spend_has_none(sqlite: str) -> None:
    for options in ([], ["--all"]):
        output = io.StringIO()
        call_command("dumpdata", *options, stdout=output)
        assert "turnpike_django.spend" not in {row["model"] for row in json.loads(output.getvalue())}
