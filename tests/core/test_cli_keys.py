"""``turnpike keys``: a new key on standard output and nothing else there, and no key anywhere else."""

from __future__ import annotations

import inspect
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click", reason="needs click: install turnpike[cli]")

import click
from click.testing import CliRunner, Result

from turnpike.boundary.issued_keys import IssuedKeyStore
from turnpike.boundary.key_file import KeyFile
from turnpike.boundary.key_format import KEY_PATTERN, parse_key
from turnpike.cli.commands import turnpike
from turnpike.cli.keys import SETTINGS, keys
from turnpike.secret import Secret
from turnpike.settings import Settings

# Until click 8.2 the runner mixed both outputs unless told not to.
_SEPARATE: Any = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TURNPIKE_KEY_FILE", "TURNPIKE_KEY_PEPPERS", "TURNPIKE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".turnpike" / "keys.json"


def run(*words: str, exit_code: int = 0, command: click.Command = turnpike, **environment: str) -> Result:
    group = ("keys",) if command is turnpike else ()
    result = CliRunner(**_SEPARATE).invoke(command, [*group, *words], env=environment)
    assert result.exit_code == exit_code, result.stderr
    return result


def create(*words: str, **environment: str) -> tuple[str, str]:
    """Return the id and the text of a new key."""
    key = run("create", *words, **environment).stdout.strip()
    return parse_key(key) or "", key


def listed(*words: str) -> list[dict[str, Any]]:
    return json.loads(run("list", "--json", *words).stdout)


def find(path: Path, key: str, *peppers: Secret) -> object:
    return IssuedKeyStore(KeyFile(path, peppers), peppers).find(key)


def test_create_prints_the_key_alone_and_says_the_rest_elsewhere(path: Path) -> None:
    result = run("create", "--tenant", "acme", "--caller", "web")
    assert re.fullmatch(KEY_PATTERN + "\n", result.stdout)
    assert "tenant acme, caller web does not expire. It is shown this once" in result.stderr
    assert result.stdout.strip() not in result.stderr
    assert find(path, result.stdout.strip()) is not None


def test_create_writes_down_what_it_was_told(path: Path) -> None:
    scopes = ["--scope", "chat", "--scope", "admin"]
    rest = ["--rate-limit", "5/minute", "--note", "for the demo", "--environment", "test"]
    key_id, key = create("--tenant", "acme", "--caller", "web", *scopes, *rest)
    [record] = KeyFile(path).list()
    assert key.startswith("tpk_test_")
    assert (record.key_id, record.tenant, record.caller, record.scopes, record.rate_limit, record.note) == (
        key_id,
        "acme",
        "web",
        ("chat", "admin"),
        "5/minute",
        "for the demo",
    )


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        ("90d", timedelta(days=90)),
        ("12 h", timedelta(hours=12)),
        ("2w", timedelta(weeks=2)),
        ("2999-01-31", datetime(2999, 1, 31, tzinfo=UTC)),
        ("2999-01-31T18:00+01:00", datetime(2999, 1, 31, 17, tzinfo=UTC)),
        ("2999-01-31T18:00Z", datetime(2999, 1, 31, 18, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_duration_or_a_date(path: Path, expires: str, expected: timedelta | datetime) -> None:
    create("--tenant", "acme", "--expires", expires)
    [record] = KeyFile(path).list()
    assert record.expires_at is not None
    if isinstance(expected, timedelta):
        assert abs(record.expires_at - record.created_at - expected) <= timedelta(seconds=1)
    else:
        assert record.expires_at == expected


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--expires", "soon"], "write it as 90d, 12h, 2027-01-31"),
        (["--expires", "2020-01-01"], "must be in the future"),
        (["--expires", "0s"], "must be in the future"),
        (["--expires", "999999w"], "beyond the year 9999"),
        (["--rate-limit", "lots"], "write a rate limit as '60/minute'"),
        (["--scope", "two words"], "without spaces"),
        (["--note", "\x1b[2J"], "note must be printable"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_no_key_is_made(path: Path, words: list[str], complaint: str) -> None:
    result = CliRunner(**_SEPARATE).invoke(turnpike, ["keys", "create", "--tenant", "acme", *words])
    assert result.exit_code in (1, 2)
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not path.exists()


def test_the_file_is_the_one_given_then_the_settings_then_the_one_at_home(path: Path, tmp_path: Path) -> None:
    create("--tenant", "home")
    create("--tenant", "settings", TURNPIKE_KEY_FILE=str(tmp_path / "b.json"))
    create("--tenant", "given", "--file", str(tmp_path / "c.json"), TURNPIKE_KEY_FILE=str(tmp_path / "b.json"))
    files = {"home": path, "settings": tmp_path / "b.json", "given": tmp_path / "c.json"}
    for tenant, file in files.items():
        assert [record.tenant for record in KeyFile(file).list()] == [tenant]


def test_create_says_how_a_service_comes_to_read_the_file_unless_it_does(path: Path) -> None:
    assert f"TURNPIKE_KEY_FILE={path}" in run("create", "--tenant", "acme").stderr
    served = run("create", "--tenant", "acme", TURNPIKE_KEY_FILE="~/.turnpike/keys.json")
    assert "TURNPIKE_KEY_FILE" not in served.stderr


def test_keys_are_digested_under_the_configured_pepper(path: Path) -> None:
    _, key = create("--tenant", "acme", TURNPIKE_KEY_PEPPERS="new,old")
    assert find(path, key, Secret("new")) is not None
    assert find(path, key) is None


def test_list_shows_what_there_is_in_columns_and_leaves_out_those_that_are_empty(path: Path) -> None:
    first, _ = create("--tenant", "acme", "--scope", "chat", "--scope", "admin", "--expires", "2999-01-31")
    second, _ = create("--tenant", "beta")
    run("revoke", second)
    assert run("list").stdout.splitlines() == [
        "id         env   tenant  scopes      status   expires",
        f"{first}  live  acme    chat admin  active   2999-01-31 00:00 UTC",
        f"{second}  live  beta                revoked",
    ]


def test_list_as_json_has_every_field_but_the_digest(path: Path) -> None:
    create("--tenant", "acme", "--scope", "chat")
    [data] = listed()
    [record] = KeyFile(path).list()
    assert set(data) == {*record.__struct_fields__, "status"} - {"digest"}
    assert (data["scopes"], data["status"], data["expires_at"]) == (["chat"], "active", None)
    assert datetime.fromisoformat(data["created_at"]) == record.created_at


def test_list_without_keys_says_so_and_prints_valid_json(path: Path) -> None:
    result = run("list")
    assert (result.stdout, "no keys" in result.stderr) == ("", True)
    assert listed() == []


def test_list_does_not_let_a_file_speak_to_the_terminal(path: Path) -> None:
    create("--tenant", "acme", "--note", "X-X")
    path.write_text(path.read_text().replace("X-X", "\\u001b[2J\\n\\u202e"))
    assert "\ufffd[2J\ufffd\ufffd" in run("list").stdout


def test_a_revoked_key_is_refused(path: Path) -> None:
    key_id, key = create("--tenant", "acme")
    result = run("revoke", key_id)
    assert f"Key {key_id} of tenant acme is revoked." in result.stderr
    assert find(path, key) is None


def test_a_leaked_key_can_be_given_in_place_of_its_id_and_is_not_repeated(path: Path) -> None:
    _, key = create("--tenant", "acme")
    result = run("revoke", key)
    assert key not in result.stdout + result.stderr
    assert find(path, key) is None


@pytest.mark.parametrize(("given", "exit_code"), [("tpk_canary", 2), ("canary", 2), ("canary_12", 2), ("000000000", 1)])
def test_an_id_that_is_none_is_not_repeated(path: Path, given: str, exit_code: int) -> None:
    create("--tenant", "acme")
    result = run("revoke", given, exit_code=exit_code)
    assert "canary" not in result.stderr
    assert "list" in result.stderr


def test_rotate_prints_the_new_key_alone_and_keeps_the_old_one_for_a_day(path: Path) -> None:
    old_id, old = create("--tenant", "acme", "--scope", "chat")
    result = run("rotate", old_id)
    new = result.stdout.strip()
    assert re.fullmatch(KEY_PATTERN, new)
    assert f"Key {old_id} stays valid until " in result.stderr
    assert find(path, old) is not None
    assert find(path, new) is not None
    first, second = KeyFile(path).list()
    assert first.expires_at is not None
    assert abs(first.expires_at - second.created_at - timedelta(days=1)) <= timedelta(seconds=1)
    assert first.replaced_by == second.key_id
    assert f"active, see {second.key_id}" in run("list").stdout


def test_rotate_can_end_the_old_key_at_once_and_set_the_end_of_the_new_one(path: Path) -> None:
    old_id, old = create("--tenant", "acme")
    run("rotate", old_id, "--overlap", "0s", "--expires", "2999-01-31")
    assert find(path, old) is None
    assert [data["status"] for data in listed()] == ["expired", "active"]
    assert listed()[1]["expires_at"] == "2999-01-31T00:00:00+00:00"


def test_an_overlap_that_is_no_duration_is_refused(path: Path) -> None:
    key_id, _ = create("--tenant", "acme")
    assert "such as 24h or 90d" in run("rotate", key_id, "--overlap", "2027-01-01", exit_code=2).stderr


def test_a_file_that_cannot_be_used_is_said_in_a_line(path: Path) -> None:
    create("--tenant", "acme")
    path.write_text("{")
    result = run("list", exit_code=1)
    assert result.stderr.startswith(f"Error: Cannot use the key file {path}: it is not a key file")


def test_a_frameworks_command_can_mount_the_group_with_the_settings_of_its_application(
    path: Path, tmp_path: Path
) -> None:
    @click.group()
    @click.pass_context
    def framework(ctx: click.Context) -> None:
        ctx.obj = object()  # a framework's own, which must not be in the way
        ctx.meta[SETTINGS] = Settings(key_file=str(tmp_path / "app.json"), key_peppers=(Secret("app"),))

    framework.add_command(keys)
    result = run("keys", "create", "--tenant", "acme", command=framework)
    assert find(tmp_path / "app.json", result.stdout.strip(), Secret("app")) is not None
    assert "TURNPIKE_KEY_FILE" not in result.stderr
    failed = run("keys", "revoke", "000000000", command=framework, exit_code=1)
    assert failed.stderr.startswith("Error: The key file")
