"""The ledger file: private, append-only, whole lines only, and never the reason that a call fails."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnpike.errors import LedgerError
from turnpike.ledger import LedgerWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turnpike" / "ledger.jsonl"


@pytest.fixture
def writer(path: Path) -> Iterator[LedgerWriter]:
    writer = LedgerWriter(path)
    yield writer
    writer.close()


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestTheFile:
    def test_is_made_with_its_folder_when_it_is_first_needed(self, writer: LedgerWriter, path: Path) -> None:
        assert not path.parent.exists()
        assert writer.append(b'{"n":1}')
        assert writer.append(b'{"n":2}')

        assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'

    @pytest.mark.usefixtures("open_umask")
    def test_belongs_to_its_owner_alone(self, writer: LedgerWriter, path: Path) -> None:
        writer.append(b"{}")

        assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)

    def test_keeps_the_lines_that_are_in_it(self, writer: LedgerWriter, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"old\n")
        writer.append(b"new")

        assert path.read_bytes() == b"old\nnew\n"

    @pytest.mark.parametrize("act", [Path.unlink, lambda path: path.rename(path.with_suffix(".1"))])
    def test_is_begun_anew_when_it_was_moved_or_removed(self, writer: LedgerWriter, path: Path, act) -> None:
        writer.append(b"one")
        act(path)
        writer.append(b"two")

        assert path.read_bytes() == b"two\n"

    def test_may_lie_below_the_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        writer = LedgerWriter("~/.turnpike/ledger.jsonl")
        writer.append(b"{}")
        writer.close()

        assert (tmp_path / ".turnpike" / "ledger.jsonl").exists()

    def test_is_closed_and_opened_again(self, writer: LedgerWriter, path: Path) -> None:
        writer.append(b"one")
        writer.close()
        writer.close()
        writer.append(b"two")

        assert path.read_bytes() == b"one\ntwo\n"

    def test_is_not_inherited_by_programs_that_are_started(self, writer: LedgerWriter) -> None:
        writer.append(b"one")

        assert not os.get_inheritable(writer._fd)


class TestAPathThatCannotWork:
    @pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo", "folder", "below a file"])
    def test_is_found_before_anything_is_spent(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "ledger.jsonl"
        if kind == "symlink":
            (tmp_path / "target").write_text("")
            path.symlink_to(tmp_path / "target")
        elif kind == "dangling":
            path.symlink_to(tmp_path / "target")
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.write_text("")
            path = path / "ledger.jsonl"
        writer = LedgerWriter(path)

        with pytest.raises(
            LedgerError, match=rf"Cannot open the ledger {path}: .*TURNPIKE_TELEMETRY_PATH.*TURNPIKE_LEDGER=off"
        ):
            writer.check()
        assert not (tmp_path / "target").exists() or (tmp_path / "target").read_text() == ""

    def test_that_a_reader_listens_to_is_refused_as_well(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.jsonl"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with pytest.raises(LedgerError, match="not a regular file"):
                LedgerWriter(path).check()
        finally:
            os.close(reader)

    def test_keeps_lines_says_so_once_and_writes_them_in_order_later(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path.parent.write_text("in the way")
        writer = LedgerWriter(path)
        with caplog.at_level(logging.WARNING, "turnpike.ledger"):
            assert [writer.append(b"%d" % number) for number in range(3)] == [False] * 3
        assert len(caplog.records) == 1
        assert str(path) in caplog.text
        assert "Traceback" not in caplog.text
        path.parent.unlink()

        assert writer.append(b"3")
        writer.close()
        assert path.read_bytes() == b"0\n1\n2\n3\n"

    def test_keeps_no_more_lines_than_it_may(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("turnpike.ledger.writer._MAX_WAITING_LINES", 3)
        path.parent.write_text("in the way")
        writer = LedgerWriter(path)
        for number in range(5):
            writer.append(b"%d" % number)
        path.parent.unlink()
        writer.flush()
        writer.close()

        assert path.read_bytes() == b"2\n3\n4\n"
        assert writer.dropped == 2


class TestAWriteThatFails:
    def test_half_way_leaves_a_torn_line_that_stands_alone(
        self, writer: LedgerWriter, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write, calls = os.write, []

        def short(fd: int, data: bytes) -> int:
            calls.append(data)
            return write(fd, data[:4] if len(calls) == 1 else data)

        monkeypatch.setattr(os, "write", short)
        assert not writer.append(b'{"n":1}')
        assert writer.append(b'{"n":2}')
        monkeypatch.undo()

        lines = path.read_bytes().split(b"\n")
        assert [line for line in lines if line.endswith(b"}")] == [b'{"n":1}', b'{"n":2}']
        assert lines[0] == b'{"n"'

    def test_for_want_of_space_is_no_error_of_the_call(
        self, writer: LedgerWriter, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer.append(b"one")

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            assert not writer.append(b"two")
        assert writer.append(b"three")

        assert path.read_bytes() == b"one\ntwo\nthree\n"


class TestManyWriters:
    def test_in_threads_write_whole_lines(self, writer: LedgerWriter, path: Path) -> None:
        def work(who: int) -> None:
            for number in range(200):
                writer.append(json.dumps({"who": who, "n": number, "pad": "x" * 500}).encode())

        threads = [threading.Thread(target=work, args=(who,)) for who in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert len(lines) == 1000
        for who in range(5):
            assert [line["n"] for line in lines if line["who"] == who] == list(range(200))

    def test_in_forked_processes_write_whole_lines_and_none_twice(self, path: Path) -> None:
        code = """
            import json, os, sys
            from turnpike.ledger import LedgerWriter

            writer = LedgerWriter(sys.argv[1])
            writer.append(b'{"who": 0, "n": -1}')
            children = []
            for who in range(1, 4):
                pid = os.fork()
                if pid == 0:
                    for number in range(200):
                        writer.append(json.dumps({"who": who, "n": number, "pad": "x" * 5000}).encode())
                    os._exit(0)
                children.append(pid)
            for pid in children:
                assert os.waitpid(pid, 0)[1] == 0
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=True, timeout=60)

        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert len({(line["who"], line["n"]) for line in lines}) == len(lines) == 601

    def test_a_child_does_not_write_the_lines_that_wait_in_its_parent(self, path: Path) -> None:
        code = """
            import os, sys
            from pathlib import Path
            from turnpike.ledger import LedgerWriter

            path = Path(sys.argv[1])
            path.parent.write_text("in the way")
            writer = LedgerWriter(path)
            assert not writer.append(b"parent")
            path.parent.unlink()
            pid = os.fork()
            if pid == 0:
                writer.append(b"child")
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=True, timeout=60)

        assert path.read_bytes() == b"child\nparent\n"

    def test_a_child_can_write_although_a_thread_of_its_parent_held_the_lock(
        self, writer: LedgerWriter, path: Path
    ) -> None:
        code = """
            import os, sys, threading
            from turnpike.ledger import LedgerWriter

            writer = LedgerWriter(sys.argv[1])
            writer._lock.acquire()
            pid = os.fork()
            if pid == 0:
                os._exit(0 if writer.append(b"child") else 1)
            assert os.waitpid(pid, 0)[1] == 0
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=True, timeout=20)

        assert path.read_bytes() == b"child\n"


def test_descriptors_are_not_left_open(path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs procfs: run on Linux")
    before = count()
    for _ in range(20):
        writer = LedgerWriter(path)
        writer.append(b"x")
        writer.close()
        del writer
    gc.collect()
    assert count() <= before + 1
