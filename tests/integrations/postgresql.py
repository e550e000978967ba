"""A PostgreSQL server of the test run's own, in a folder that is thrown away, reached through a socket in it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["running_postgresql"]

_START_TIMEOUT_S = 60
_UNPRIVILEGED = ("postgres", "nobody")
"""Users to run it as where the tests run as root, which PostgreSQL refuses."""


@contextmanager
def running_postgresql() -> Iterator[Path]:
    """Run a server for the length of the block; yields the folder of its socket, for the user ``turnpike``."""
    programs = _programs()
    # In the system's own folder for temporary files: the path of a socket must be short, and its folder open to others.
    folder = Path(tempfile.mkdtemp(prefix="turnpike-pg-"))
    data = folder / "data"
    try:
        as_user = _give_away(folder)
        _run(as_user, programs / "initdb", "-D", data, "-U", "turnpike", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        wait = ("-w", "-t", str(_START_TIMEOUT_S))
        _run(as_user, programs / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, *wait, "start")
        try:
            yield folder
        finally:
            _run(as_user, programs / "pg_ctl", "-D", data, "-m", "immediate", *wait, "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs; Debian keeps them off the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which("initdb")
    if found is None:
        pytest.skip("needs postgresql: install Debian's postgresql package")
    return Path(found).resolve().parent


def _give_away(folder: Path) -> list[str]:
    """Return how to run a command as a user who may run PostgreSQL, and give ``folder`` to that user."""
    if os.geteuid() != 0:
        return []
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = next(known[name] for name in _UNPRIVILEGED if name in known)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _run(as_user: list[str], *command: object) -> None:
    # Its output goes to a file: the server that pg_ctl leaves running would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [*as_user, *map(str, command)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=False
        )
        output.seek(0)
        assert done.returncode == 0, f"{command[0]} failed:\n{output.read().decode(errors='replace')}"
