"""Appends lines to a ledger file: each line is one write to a descriptor opened for appending.

A line that cannot be written is kept, within bounds, and written before the next one; an error here is counted and logged
once, and never reaches a call that has already been paid for.
"""

from __future__ import annotations

import atexit
import logging
import os
import stat
import threading
import weakref
from collections import deque
from pathlib import Path

from turnpike.errors import LedgerError
from turnpike.fork import reset_in_child

__all__ = ["LedgerWriter"]

_log = logging.getLogger("turnpike.ledger")

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MAX_WAITING_LINES = 10_000


class LedgerWriter:
    """One ledger file, shared by the threads of a process; each process of a fork opens its own descriptor.

    The file is created with mode 0600, folders that are missing with 0700. Symbolic links and anything but regular files
    are refused. A
    file that was renamed or removed is noticed and a new one is begun.

    Attributes:
        dropped: lines given up because the file could not be written for too long.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path).expanduser()
        self.dropped: int = 0
        self._lock = threading.Lock()
        self._fd = -1
        self._pid = -1
        self._identity: tuple[int, int] | None = None
        self._waiting: deque[bytes] = deque()
        self._complained = False
        _writers.add(self)
        reset_in_child(self)

    def check(self) -> None:
        """Open the file now, so that a path that cannot work is found before anything is spent.

        Raises:
            LedgerError: naming the path and the cure.
        """
        with self._lock:
            try:
                self._ready()
            except OSError as error:
                raise LedgerError(
                    f"Cannot open the ledger {self.path}: {error.strerror or error}. Set TURNPIKE_TELEMETRY_PATH (or "
                    "telemetry_path in the settings) to a file in a folder that this process may write, or switch the "
                    "ledger off with TURNPIKE_LEDGER=off."
                ) from None

    def append(self, line: bytes) -> bool:
        """Write ``line`` (without a newline) and say whether it is in the file now.

        ``False`` means that it waits in memory for the next append. Never raises ``OSError``.
        """
        with self._lock:
            self._waiting.append(line)
            return self._write_waiting()

    def flush(self) -> bool:
        """Try again to write lines that wait; say whether none is left."""
        with self._lock:
            return self._write_waiting()

    def _write_waiting(self) -> bool:
        try:
            fd = self._ready()
            while self._waiting:
                data = self._waiting[0] + b"\n"
                # A short write leaves a torn line behind: end it, and write the whole line again.
                if os.write(fd, data) != len(data):
                    self._waiting[0] = b"\n" + self._waiting[0].lstrip(b"\n")
                    raise OSError("short write")
                self._waiting.popleft()
        except OSError as error:
            self._complain(error)
            while len(self._waiting) > _MAX_WAITING_LINES:
                self._waiting.popleft()
                self.dropped += 1
            return False
        self._complained = False
        return True

    def _ready(self) -> int:
        if self._fd < 0 or self._pid != os.getpid() or not self._is_current():
            self._open()
        return self._fd

    def _is_current(self) -> bool:
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _open(self) -> None:
        self._close()
        for folder in reversed(self.path.parents):
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(self.path, _FLAGS, 0o600)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise OSError("it is not a regular file")
        self._fd, self._pid, self._identity = fd, os.getpid(), (found.st_dev, found.st_ino)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                _log.debug("closing the ledger's descriptor failed", exc_info=True)

    def close(self) -> None:
        """Write what waits and close the file; a later append opens it again."""
        with self._lock:
            self._write_waiting()
            self._close()

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            _log.warning(
                "the ledger %s cannot be written (%s); lines are kept in memory and tried again",
                self.path,
                error.strerror or error,
            )

    def after_fork_in_child(self) -> None:
        """Forget the parent's lock and lines: the parent still writes what it has accepted."""
        self._lock = threading.Lock()
        self._waiting.clear()
        self._pid = -1


_writers: weakref.WeakSet[LedgerWriter] = weakref.WeakSet()


def _flush_writers_at_exit() -> None:
    for writer in list(_writers):
        if writer._waiting:
            writer.flush()


atexit.register(_flush_writers_at_exit)
