"""A small file that decides who may enter: read only if nobody else can have written it, and replaced whole or not at all.

The rules are modelled on those of ``sshd`` for ``authorized_keys`` (StrictModes in sshd_config(5)): such a file is worth
nothing if another user can write it, so it is refused; one that others can merely read is used. Of folders this asks less:
only that not everybody can write to the file's own.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Snapshot", "Stamp", "exclusive", "read_checked", "replace_whole", "stamp_of"]

Stamp = tuple[int, int, int, int]
"""What changes when a file does: modification and change time in nanoseconds, inode, size."""


class Snapshot(NamedTuple):
    """A file's content and what was known of the file when it was read."""

    data: bytes
    stamp: Stamp
    mode: int


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of ``path``.

    Raises:
        OSError: if the file cannot be looked at.
    """
    return _stamp(path.stat())


def read_checked(path: Path) -> Snapshot:
    """Read ``path``. It may be a symbolic link, as mounted secrets are: what it leads to is what is checked and read.

    Raises:
        OSError: if the file cannot be read, is not a regular one, or may have been written by other users.
    """
    # Without O_NONBLOCK, opening a FIFO would wait for somebody to write to it.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        _refuse_what_others_write(found, path.parent.stat())
        return Snapshot(file.read(), _stamp(found), stat.S_IMODE(found.st_mode))


def replace_whole(path: Path, data: bytes) -> None:
    """Put a file that holds ``data`` in the place of ``path``, so that a crash at any moment leaves the old or the new one.

    A new file has mode 0600, whatever the umask; one that was there keeps its owner and who may read it. Call this under
    ``exclusive(path)``.

    Raises:
        OSError: if that fails; the old file is then as it was.
    """
    kept = _regular_or_none(path)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)  # what a crashed process left behind: only one at a time gets here
    try:
        with open(temporary, "xb", opener=_open_privately) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            if kept is not None:
                _take_over(file.fileno(), kept)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process or thread is within this block for ``path``. Makes the folders of ``path`` if need be.

    The lock lies on a file beside it, ``<name>.lock``, which stays: a lock on the file itself would be replaced with it.

    Raises:
        OSError: if the lock's file cannot be opened.
    """
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        # Closing alone would not do: a child forked meanwhile shares the open file, and with it the lock.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _refuse_what_others_write(found: os.stat_result, folder: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a regular file")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError("other users may write it; take that right away: chmod go-w")
    # Root may use anybody's file, as it does when it runs a command for a service.
    if os.geteuid() not in (0, found.st_uid) and found.st_uid != 0:
        raise OSError("it belongs to another user; chown it to the one that runs this")
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        raise OSError("anybody may replace it, because all may write to its folder; take that right away: chmod o-w")


def _regular_or_none(path: Path) -> os.stat_result | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise OSError("it is a symbolic link, which a change would replace; name the file that it leads to")
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a regular file")
    return found


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _take_over(fd: int, kept: os.stat_result) -> None:
    """Give the new file the owner of the old one, and the same readers."""
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) != (kept.st_uid, kept.st_gid):
        os.fchown(fd, kept.st_uid, kept.st_gid)
    os.fchmod(fd, 0o600 | stat.S_IMODE(kept.st_mode) & (stat.S_IRGRP | stat.S_IROTH))


def _sync_folder(folder: Path) -> None:
    # The new file is in place by now, so nothing here may look like a failure; some file systems cannot do this at all.
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
