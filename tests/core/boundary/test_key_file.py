"""The key file: changed by one at a time, whole at every moment, private from birth, and noticed without a restart."""

from __future__ import annotations

import json
import logging
import os
import pickle
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from turnpike.boundary import key_file as module
from turnpike.boundary.issued_keys import IssuedKey, IssuedKeyStore, pepper_id_of
from turnpike.boundary.key_document import KeyDocument
from turnpike.boundary.key_file import KeyFile
from turnpike.errors import ConfigurationError
from turnpike.secret import Secret

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class ManualClock:
    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic(self) -> float:
        return self.passed_s

    def time(self) -> float:
        return NOON.timestamp() + self.passed_s


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def desk(path: Path, clock: ManualClock) -> KeyFile:
    """The file as whoever manages it has it."""
    return KeyFile(path, clock=clock)


@pytest.fixture
def service(path: Path, clock: ManualClock) -> KeyFile:
    """The file as a running service has it."""
    return KeyFile(path, clock=clock)


def accepts(service: KeyFile, issued: IssuedKey, clock: ManualClock) -> bool:
    return IssuedKeyStore(service, service.peppers, clock=clock).find(issued.key.reveal()) is not None


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------------------------------------------- managing


def test_a_key_that_is_created_is_accepted_and_listed(desk: KeyFile, service: KeyFile, clock: ManualClock) -> None:
    issued = desk.create(tenant="acme", caller="web", scopes=["chat"], rate_limit="5/minute", note="first")
    assert accepts(service, issued, clock)
    assert desk.list() == (issued.record,)
    assert service.get(issued.record.key_id) == issued.record


def test_keys_are_listed_in_the_order_of_their_creation(desk: KeyFile) -> None:
    ids = [desk.create(tenant=tenant).record.key_id for tenant in ("zeta", "acme", "midway")]
    assert [record.key_id for record in desk.list()] == ids


def test_revoking_is_for_good(desk: KeyFile, service: KeyFile, clock: ManualClock) -> None:
    issued = desk.create(tenant="acme")
    first = desk.revoke(issued.record.key_id)
    clock.passed_s += 60
    assert desk.revoke(issued.record.key_id) == first
    assert first.revoked_at == NOON
    assert not accepts(service, issued, clock)


def test_a_rotated_key_stays_valid_for_the_overlap_and_names_its_successor(
    desk: KeyFile, service: KeyFile, clock: ManualClock
) -> None:
    old = desk.create(tenant="acme", caller="web", scopes=["chat"], rate_limit="5/minute", note="n", environment="test")
    new = desk.rotate(old.record.key_id, overlap_s=3600)
    for field in ("tenant", "caller", "scopes", "rate_limit", "note", "environment"):
        assert getattr(new.record, field) == getattr(old.record, field)
    assert desk.list()[0].replaced_by == new.record.key_id
    clock.passed_s = 3599
    assert accepts(service, old, clock)
    assert accepts(service, new, clock)
    clock.passed_s = 3600
    assert not accepts(service, old, clock)
    assert accepts(service, new, clock)


def test_a_rotation_without_overlap_ends_the_old_key_at_once(
    desk: KeyFile, service: KeyFile, clock: ManualClock
) -> None:
    old = desk.create(tenant="acme")
    clock.passed_s = 0.9
    desk.rotate(old.record.key_id, overlap_s=0)
    assert not accepts(service, old, clock)


def test_a_rotation_prolongs_no_old_key_and_gives_the_new_one_as_long_a_life(desk: KeyFile, clock: ManualClock) -> None:
    old = desk.create(tenant="acme", expires_at=NOON + timedelta(hours=2))
    clock.passed_s = 3600
    new = desk.rotate(old.record.key_id, overlap_s=86400)
    assert desk.list()[0].expires_at == NOON + timedelta(hours=2)
    assert new.record.expires_at == NOON + timedelta(hours=3)


def test_the_new_key_of_a_rotation_may_be_given_another_end(desk: KeyFile) -> None:
    end = NOON + timedelta(days=5)
    assert desk.rotate(desk.create(tenant="acme").record.key_id, expires_at=end).record.expires_at == end


def test_a_key_that_ends_with_all_dates_can_be_rotated(desk: KeyFile, clock: ManualClock) -> None:
    old = desk.create(tenant="acme", expires_at=datetime.max.replace(tzinfo=UTC))
    clock.passed_s = 60
    assert desk.rotate(old.record.key_id).record.expires_at == datetime.max.replace(tzinfo=UTC)


def test_a_key_is_rotated_once_and_only_while_it_is_active(desk: KeyFile, clock: ManualClock) -> None:
    rotated, revoked = desk.create(tenant="acme").record.key_id, desk.create(tenant="acme").record.key_id
    expired = desk.create(tenant="acme", expires_at=NOON + timedelta(seconds=5)).record.key_id
    successor = desk.rotate(rotated).record.key_id
    desk.revoke(revoked)
    clock.passed_s = 5
    for key_id, complaint in ((rotated, f"to {successor}"), (revoked, "is revoked"), (expired, "is expired")):
        with pytest.raises(ConfigurationError, match=complaint):
            desk.rotate(key_id)
    assert len(desk.list()) == 4


@pytest.mark.parametrize("overlap_s", [-1, float("nan"), float("inf"), 1e300])
def test_an_overlap_that_is_no_length_of_time_changes_nothing(desk: KeyFile, overlap_s: float) -> None:
    key_id = desk.create(tenant="acme").record.key_id
    before = desk.list()
    with pytest.raises(ConfigurationError, match="overlap_s must be"):
        desk.rotate(key_id, overlap_s=overlap_s)
    assert desk.list() == before


@pytest.mark.parametrize("change", [KeyFile.revoke, KeyFile.rotate])
def test_a_key_that_is_not_there_is_an_error_that_does_not_repeat_what_was_given(
    desk: KeyFile, change: Callable[[KeyFile, str], Any]
) -> None:
    with pytest.raises(ConfigurationError, match="turnpike keys list") as caught:
        change(desk, "tpk_canary")
    assert "canary" not in str(caught.value)


def test_a_wrong_argument_leaves_no_file_behind(desk: KeyFile) -> None:
    with pytest.raises(ConfigurationError, match="tenant"):
        desk.create(tenant="")
    assert not desk.path.exists()


def test_an_id_that_comes_up_twice_replaces_no_key(path: Path) -> None:
    stuck = KeyFile(path, random_bytes=bytes)
    issued = stuck.create(tenant="acme")
    with pytest.raises(ConfigurationError, match="repeats itself"):
        stuck.create(tenant="rival")
    assert stuck.list() == (issued.record,)


def test_home_is_expanded_and_missing_folders_are_made_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    KeyFile("~/a/b/keys.json").create(tenant="acme")
    assert (tmp_path / "a" / "b" / "keys.json").is_file()
    assert [mode_of(tmp_path / "a"), mode_of(tmp_path / "a" / "b")] == [0o700, 0o700]


# ---------------------------------------------------------------------------------------------------- peppers


def test_without_configured_peppers_the_file_has_one_of_its_own_and_keeps_it(desk: KeyFile, path: Path) -> None:
    desk.create(tenant="acme")
    [pepper] = {desk.create(tenant="acme") and json.loads(path.read_text())["pepper"] for _ in range(2)}
    assert len(bytes.fromhex(pepper)) == 32
    assert {record.pepper_id for record in desk.list()} == {pepper_id_of(Secret(pepper))}


def test_two_files_have_two_peppers(tmp_path: Path) -> None:
    ids = {KeyFile(tmp_path / name).create(tenant="acme").record.pepper_id for name in ("one", "two")}
    assert len(ids) == 2


def test_a_configured_pepper_is_not_in_the_file(path: Path, clock: ManualClock) -> None:
    peppered = KeyFile(path, [Secret("pepper-canary")], clock=clock)
    issued = peppered.create(tenant="acme")
    assert b"canary" not in path.read_bytes()
    assert json.loads(path.read_text())["pepper"] is None
    assert accepts(peppered, issued, clock)
    assert not accepts(KeyFile(path, [Secret("another")], clock=clock), issued, clock)


def test_keys_from_before_peppers_were_configured_stay_valid(desk: KeyFile, path: Path, clock: ManualClock) -> None:
    before = desk.create(tenant="acme")
    peppered = KeyFile(path, [Secret("new"), Secret("old")], clock=clock)
    after = peppered.create(tenant="acme")
    assert after.record.pepper_id == pepper_id_of(Secret("new"))
    assert accepts(peppered, before, clock)
    assert accepts(peppered, after, clock)


# ---------------------------------------------------------------------------------------------------- noticing changes


def test_a_revoked_key_is_refused_by_a_running_service_at_its_next_look(
    desk: KeyFile, service: KeyFile, clock: ManualClock
) -> None:
    issued = desk.create(tenant="acme")
    assert accepts(service, issued, clock)
    desk.revoke(issued.record.key_id)
    clock.passed_s += 0.99
    assert accepts(service, issued, clock)
    clock.passed_s += 0.01
    assert not accepts(service, issued, clock)


def test_the_one_who_changes_the_file_sees_the_change_at_once(desk: KeyFile, clock: ManualClock) -> None:
    issued = desk.create(tenant="acme")
    assert accepts(desk, issued, clock)
    desk.revoke(issued.record.key_id)
    assert not accepts(desk, issued, clock)


def test_the_file_is_looked_at_once_a_second_and_read_when_it_changed(
    desk: KeyFile, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.create(tenant="acme")
    service = KeyFile(path, clock=clock, look_every_s=2.5)
    done: list[str] = []
    for name in ("stamp_of", "read_checked"):
        original = getattr(module, name)

        def noted(at: Path, name: str = name, original: Any = original) -> Any:
            done.append(name)
            return original(at)

        monkeypatch.setattr(module, name, noted)
    for _ in range(21):  # 5 s, four requests a second
        service.get("000000000")
        clock.passed_s += 0.25
    assert done == ["stamp_of", "read_checked", "stamp_of", "stamp_of"]


def test_requests_go_on_with_what_is_known_while_one_of_them_reads_the_file(
    desk: KeyFile, service: KeyFile, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = desk.create(tenant="acme")
    assert service.get(issued.record.key_id) is not None
    is_reading, may_go_on = threading.Event(), threading.Event()

    def slow(path: Path) -> Any:
        is_reading.set()
        assert may_go_on.wait(30)
        raise OSError("gone")

    monkeypatch.setattr(module, "stamp_of", slow)
    clock.passed_s += 1
    reader = threading.Thread(target=service.get, args=["000000000"])
    reader.start()
    assert is_reading.wait(30)
    assert service.get(issued.record.key_id) == issued.record
    may_go_on.set()
    reader.join()


def test_a_service_starts_before_its_first_key_exists_and_says_how_to_make_one(
    desk: KeyFile, service: KeyFile, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    service.check()
    for _ in range(3):
        clock.passed_s += 1
        assert service.get("000000000") is None
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "turnpike keys create" in record.getMessage()
    issued = desk.create(tenant="acme")
    clock.passed_s += 1
    assert accepts(service, issued, clock)


def test_no_file_means_no_keys_in_a_running_service_too(desk: KeyFile, service: KeyFile, clock: ManualClock) -> None:
    issued = desk.create(tenant="acme")
    assert accepts(service, issued, clock)
    desk.path.unlink()
    clock.passed_s += 1
    assert not accepts(service, issued, clock)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _open_to_all(path: Path) -> None:
    path.chmod(0o666)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


DAMAGES = [_truncate, _open_to_all, _make_folder, _make_fifo]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_used_leaves_the_keys_as_they_were_and_is_mentioned_once(
    desk: KeyFile,
    service: KeyFile,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    issued = desk.create(tenant="acme")
    whole = desk.path.read_bytes()
    assert accepts(service, issued, clock)
    damage(desk.path)
    for _ in range(3):
        clock.passed_s += 1
        assert accepts(service, issued, clock)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "Keys are as they were when it was last read." in record.getMessage()
    _put_back(desk.path, whole)
    desk.revoke(issued.record.key_id)
    clock.passed_s += 1
    assert not accepts(service, issued, clock)


def _put_back(path: Path, data: bytes) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    path.write_bytes(data)
    path.chmod(0o600)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_used_stops_a_service_that_starts_and_every_change(
    desk: KeyFile, service: KeyFile, clock: ManualClock, damage: Callable[[Path], None]
) -> None:
    issued = desk.create(tenant="acme")
    damage(desk.path)
    for act in (
        service.check,
        desk.list,
        lambda: desk.create(tenant="acme"),
        lambda: desk.revoke(issued.record.key_id),
    ):
        with pytest.raises(ConfigurationError, match=r"Cannot use the key file .*keys\.json"):
            act()
    assert not accepts(service, issued, clock)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary())
@example(b'{"version": 1, "pepper": "\\ud800"}')
@example(b'{"version": 1, "keys": [{"key_id": "\xff"}]}')
@example(b"[" * 100_000)
@example(b'{"version": 2}')
def test_whatever_a_file_holds_reading_it_ends_in_our_own_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)
    broken = KeyFile(path)
    assert broken.get("000000000") is None
    with pytest.raises(ConfigurationError, match="Cannot use the key file"):
        broken.check()


def test_an_error_says_where_and_repeats_no_value(desk: KeyFile, path: Path) -> None:
    desk.create(tenant="acme")
    data = json.loads(path.read_text())
    data["keys"][0]["digest"] = "c2VjcmV0LWNhbmFyeQ=="
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigurationError, match=r"KeyRecord.digest must be 32 bytes - at `\$.keys\[0\]`") as caught:
        desk.list()
    assert "c2Vj" not in str(caught.value)


def test_a_file_of_a_later_format_and_one_with_an_id_twice_are_refused(desk: KeyFile, path: Path) -> None:
    desk.create(tenant="acme")
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "keys": data["keys"] * 2}))
    with pytest.raises(ConfigurationError, match="two keys of one id"):
        desk.list()
    path.write_text(json.dumps({**data, "version": 2}))
    with pytest.raises(ConfigurationError, match="version 2, and this Turnpike reads version 1"):
        desk.create(tenant="acme")


# ---------------------------------------------------------------------------------------------------- one at a time, whole

_RUN = [sys.executable, "-c"]


def test_keys_created_by_several_processes_at_once_are_all_there(path: Path) -> None:
    script = f"""
from turnpike.boundary.key_file import KeyFile
keys = KeyFile({str(path)!r})
print(*(keys.create(tenant="acme").record.key_id for _ in range(10)))
"""
    running = [subprocess.Popen([*_RUN, script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    created = [key_id for process in running for key_id in process.communicate(timeout=60)[0].split()]
    records = KeyFile(path).list()
    assert len(created) == 40
    assert sorted(record.key_id for record in records) == sorted(created)
    assert len({record.pepper_id for record in records}) == 1


def test_keys_created_by_several_threads_at_once_are_all_there(desk: KeyFile) -> None:
    threads = [threading.Thread(target=desk.create, kwargs={"tenant": f"t{number}"}) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(desk.list()) == 16


def test_a_crash_before_the_new_file_is_in_place_leaves_the_old_one_whole(desk: KeyFile, path: Path) -> None:
    issued = desk.create(tenant="acme")
    before = path.read_bytes()
    script = f"""
import os, pathlib, signal
from turnpike.boundary.key_file import KeyFile
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
KeyFile({str(path)!r}).revoke({issued.record.key_id!r})
"""
    assert subprocess.run([*_RUN, script], check=False, timeout=60).returncode == -9
    assert path.read_bytes() == before
    assert (path.parent / "keys.json.new").exists()
    desk.create(tenant="beta")
    assert [record.tenant for record in desk.list()] == ["acme", "beta"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    desk: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.create(tenant="acme")
    before = path.read_bytes()

    def fsync(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ConfigurationError, match=r"keys\.json: No space left on device"):
        desk.create(tenant="beta")
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_readers_see_the_file_before_or_after_a_change_and_never_in_between(desk: KeyFile, path: Path) -> None:
    desk.create(tenant="acme")
    counts: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            counts.append(len(KeyDocument.from_bytes(path.read_bytes()).records))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        desk.create(tenant="acme")
    stop.set()
    reader.join()
    assert counts
    assert counts == sorted(counts)


def test_a_forked_child_goes_on_though_a_thread_of_its_parent_was_reading(path: Path) -> None:
    KeyFile(path).create(tenant="acme")
    script = f"""
import os
from turnpike.boundary.key_file import KeyFile
keys = KeyFile({str(path)!r})
[record] = keys.list()
keys._lock.acquire()
child = os.fork()
if child == 0:
    os._exit(0 if keys.get(record.key_id) == record else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([*_RUN, script], check=False, timeout=30).returncode == 0


def test_a_child_forked_during_a_change_does_not_hold_up_the_next_one(path: Path) -> None:
    script = f"""
import os
from turnpike.boundary.key_file import KeyFile
from turnpike.boundary.private_file import exclusive
keys = KeyFile({str(path)!r})
hold, go = os.pipe()
with exclusive(keys.path):
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(hold, 1)
        os._exit(0)
keys.create(tenant="acme")
os.close(go)
os.waitpid(child, 0)
"""
    assert subprocess.run([*_RUN, script], check=False, timeout=30).returncode == 0


# ---------------------------------------------------------------------------------------------------- private


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o077)
    yield lambda mask: os.umask(mask) and None
    os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o377])
def test_the_file_is_private_from_birth_whatever_the_umask(
    desk: KeyFile, path: Path, umask: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, mask: int
) -> None:
    born: list[int] = []
    opened = os.open

    def noted(*arguments: Any, **named: Any) -> int:
        fd = opened(*arguments, **named)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            born.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return fd

    monkeypatch.setattr(os, "open", noted)
    umask(mask)
    desk.create(tenant="acme")
    assert mode_of(path) == 0o600
    assert born
    assert [mode for mode in born if mode & 0o077] == []


@pytest.mark.parametrize(("given_mode", "kept"), [(0o600, 0o600), (0o640, 0o640), (0o644, 0o644), (0o400, 0o600)])
def test_a_change_keeps_the_readers_that_an_operator_admitted(
    desk: KeyFile, path: Path, given_mode: int, kept: int
) -> None:
    desk.create(tenant="acme")
    path.chmod(given_mode)
    desk.create(tenant="acme")
    assert mode_of(path) == kept


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_a_file_that_every_user_can_read_is_used_and_mentioned_once(
    desk: KeyFile,
    service: KeyFile,
    path: Path,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    mode: int,
    warnings: int,
) -> None:
    issued = desk.create(tenant="acme")
    path.chmod(mode)
    for _ in range(3):
        assert accepts(service, issued, clock)
        desk.create(tenant="acme")
        clock.passed_s += 1
    assert len([message for message in caplog.messages if "Every user can read" in message]) == warnings


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(desk: KeyFile, path: Path, mode: int) -> None:
    desk.create(tenant="acme")
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"other users may write it.*chmod go-w"):
        desk.check()


def test_a_file_in_a_folder_where_anybody_may_replace_it_is_refused(desk: KeyFile, path: Path) -> None:
    desk.create(tenant="acme")
    path.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match="anybody may replace it"):
        desk.check()
    path.parent.chmod(0o1777)
    desk.check()


@pytest.mark.parametrize(("reader", "is_refused"), [("its owner", False), ("root", False), ("somebody", True)])
def test_a_file_is_used_by_its_owner_and_by_root(
    desk: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, is_refused: bool
) -> None:
    desk.create(tenant="acme")
    if os.geteuid() == 0:
        os.chown(path, 4321, -1)
    users = {"its owner": path.stat().st_uid, "root": 0, "somebody": path.stat().st_uid + 1}
    monkeypatch.setattr(os, "geteuid", lambda: users[reader])
    if is_refused:
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            desk.check()
    else:
        desk.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_change_by_root_leaves_the_file_to_its_owner(desk: KeyFile, path: Path) -> None:
    desk.create(tenant="acme")
    os.chown(path, 4321, 4322)
    desk.create(tenant="acme")
    assert (path.stat().st_uid, path.stat().st_gid) == (4321, 4322)


def test_a_mounted_secret_is_read_through_its_links_and_its_replacement_is_noticed(
    desk: KeyFile, tmp_path: Path, clock: ManualClock
) -> None:
    """As Kubernetes mounts them: keys.json -> ..data/keys.json, ..data -> a folder that is exchanged whole."""
    issued = desk.create(tenant="acme")
    for name, data in (("one", desk.path.read_bytes()), ("two", b'{"version": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.json").write_bytes(data)
        (tmp_path / name / "keys.json").chmod(0o600)
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to(tmp_path / "one")
    (mount / "keys.json").symlink_to(Path("..data") / "keys.json")
    service = KeyFile(mount / "keys.json", clock=clock)
    assert accepts(service, issued, clock)
    (mount / "..new").symlink_to(tmp_path / "two")
    (mount / "..new").replace(mount / "..data")
    clock.passed_s += 1
    assert not accepts(service, issued, clock)


def test_a_change_follows_no_link(desk: KeyFile, path: Path, tmp_path: Path) -> None:
    desk.create(tenant="acme")
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with pytest.raises(ConfigurationError, match=r"symbolic link.*name the file that it leads to"):
        KeyFile(link).create(tenant="beta")
    assert [record.tenant for record in desk.list()] == ["acme"]


def test_links_put_in_the_way_of_a_change_are_not_followed(desk: KeyFile, path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "keys.json.new").symlink_to(victim)
    desk.create(tenant="acme")
    (tmp_path / "keys.json.lock").unlink()
    (tmp_path / "keys.json.lock").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="Cannot use the key file"):
        desk.create(tenant="beta")
    assert victim.read_text() == "precious"


# ---------------------------------------------------------------------------------------------------- canaries


def test_no_key_and_no_pepper_leaves_by_another_door(
    path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own = KeyFile(path.with_name("own.json"), clock=clock)
    peppered = KeyFile(path, [Secret("pepper-canary")], clock=clock)
    first, second = own.create(tenant="acme"), peppered.create(tenant="acme")
    third = peppered.rotate(second.record.key_id)
    own_pepper = json.loads(own.path.read_text())["pepper"]
    told = own.path.read_text().replace(own_pepper, "") + path.read_text()
    for thing in (own, peppered, own.list(), first, second, third, own._content, peppered._content):
        told += repr(thing) + str(thing) + _pickled(thing)
    for damage in (b"", b"{}", path.read_bytes()[:-9], path.read_bytes().replace(b"acme", b"ac\xffme")):
        path.write_bytes(damage)
        with pytest.raises(ConfigurationError) as caught:
            peppered.check()
        told += repr(caught.value)
    told += caplog.text
    for issued in (first, second, third):
        assert issued.key.reveal()[19:] not in told
        assert issued.key.reveal()[19:52] not in told
    assert own_pepper not in told
    assert "canary" not in told


def _pickled(thing: object) -> str:
    try:
        return repr(pickle.dumps(thing))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        return repr(error)
