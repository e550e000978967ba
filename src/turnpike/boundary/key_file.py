"""Issued keys in a file: enough for one machine, or a few that share the file, and some thousand keys.

Changes go through ``KeyFile`` one at a time, and readers see the file before or after one, never in between. A running
service notices a change without a restart. The file holds digests and no key; nothing in it is written for each request.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from turnpike.boundary.issued_keys import IssuedKey, KeyRecord, issue
from turnpike.boundary.key_document import KeyDocument
from turnpike.boundary.key_format import Environment
from turnpike.boundary.private_file import Stamp, exclusive, read_checked, replace_whole, stamp_of
from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.errors import ConfigurationError
from turnpike.fork import reset_in_child
from turnpike.secret import Secret

__all__ = ["DEFAULT_KEY_FILE", "KeyFile"]

DEFAULT_KEY_FILE = "~/.turnpike/keys.json"
"""The file that ``turnpike keys`` uses where nothing names one."""

_LOG = logging.getLogger(__name__)


class KeyFile:
    """A file of issued keys: ``KeyRecords`` for the service, and the changes for whoever manages it.

    A file that is not there holds no keys, so a service can start before its first key is created. One that is there and
    cannot be used is an error in ``check`` and in every change. ``get`` then goes by what it read last, says so once in the
    log, and tries again at each look.

    Safe to share between threads, and usable in the children of a fork.

    Args:
        path: the file; ``~`` is expanded.
        peppers: ``Settings.key_peppers``, the current one first. Without any, the file gets a random pepper of its own:
            keys that were digested under it stay valid when others are configured later.
        clock: source of the records' times, and of the time between two looks at the file.
        look_every_s: seconds for which ``get`` relies on what it saw before it looks at the file again.
        random_bytes: source of ids, secrets and the file's own pepper.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        peppers: Sequence[Secret] = (),
        *,
        clock: Clock = SYSTEM_CLOCK,
        look_every_s: float = 1.0,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.path: Path = Path(path).expanduser()
        self.peppers: tuple[Secret, ...] = tuple(peppers)
        """The configured peppers; ``find_pepper`` knows the file's own."""
        self._clock = clock
        self._look_every_s = look_every_s
        self._random_bytes = random_bytes
        self._content = KeyDocument()
        self._stamp: Stamp | None = None
        self._look_at = -math.inf
        self._complaint = ""
        self._has_warned_of_readers = False
        self._lock = threading.Lock()
        reset_in_child(self)

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"

    # ------------------------------------------------------------------------------------------------ serving

    def check(self) -> None:
        """Read the file now, so that one which cannot be used is found when a service starts.

        Raises:
            ConfigurationError: saying what is wrong with the file. That there is none is no error, and logged.
        """
        with self._lock:
            if (error := self._look()) is not None:
                raise error

    def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of ``key_id``, or ``None``. Looks at the file at most every ``look_every_s``; never raises."""
        # While one thread reads the file, the others go on with what was there; only the very first read is waited for.
        if self._clock.monotonic() >= self._look_at and self._lock.acquire(blocking=self._look_at == -math.inf):
            try:
                if self._clock.monotonic() >= self._look_at:
                    self._look()
            finally:
                self._lock.release()
        return self._content.records.get(key_id)

    def find_pepper(self, pepper_id: str) -> Secret | None:
        """Return the file's own pepper, if that is the one asked for."""
        content = self._content
        return content.pepper if content.pepper_id == pepper_id else None

    def after_fork_in_child(self) -> None:
        """Forget the parent's lock, which another of its threads may hold."""
        self._lock = threading.Lock()

    def _look(self) -> ConfigurationError | None:
        error = None
        try:
            if stamp_of(self.path) != self._stamp:
                self._load()
            self._complaint = ""
        except FileNotFoundError:
            self._content, self._stamp = KeyDocument(), None
            create = f"turnpike keys create --tenant <tenant> --file {self.path}"
            self._complain(logging.WARNING, f"There is no key file, so no issued key is valid. To create one: {create}")
        except (OSError, ConfigurationError) as failure:
            error = failure if isinstance(failure, ConfigurationError) else self._unusable(failure)
            self._complain(logging.ERROR, f"{error} {self._what_holds()}")
        self._look_at = self._clock.monotonic() + self._look_every_s
        return error

    def _what_holds(self) -> str:
        return "No issued key is valid." if self._stamp is None else "Keys are as they were when it was last read."

    def _load(self) -> None:
        snapshot = read_checked(self.path)
        self._content, self._stamp = self._decoded(snapshot.data), snapshot.stamp
        if snapshot.mode & stat.S_IROTH and not self._has_warned_of_readers:
            self._has_warned_of_readers = True
            _LOG.warning(
                "Every user can read the key file %s, which names your tenants. Take that right away: chmod o-r",
                self.path,
            )

    def _complain(self, level: int, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            _LOG.log(level, "%s", text)

    # ------------------------------------------------------------------------------------------------ managing

    def list(self) -> tuple[KeyRecord, ...]:
        """Return all records as they are in the file now, in the order in which they were created.

        Raises:
            ConfigurationError: if the file cannot be used.
        """
        try:
            return tuple(self._read().records.values())
        except OSError as error:
            raise self._unusable(error) from None

    def create(
        self,
        *,
        tenant: str,
        caller: str | None = None,
        scopes: Iterable[str] = (),
        rate_limit: str | int | None = None,
        expires_at: datetime | None = None,
        note: str | None = None,
        environment: Environment = "live",
    ) -> IssuedKey:
        """Issue a key and put its record into the file, which is made if it is not there. See ``issue`` for the arguments.

        Raises:
            ConfigurationError: if an argument is wrong, or the file cannot be used; no key is valid then.
        """
        with self._change() as content:
            return self._issue(
                content,
                tenant=tenant,
                caller=caller,
                scopes=scopes,
                rate_limit=rate_limit,
                expires_at=expires_at,
                note=note,
                environment=environment,
            )

    def revoke(self, key_id: str) -> KeyRecord:
        """Revoke a key for good, and return its record. One that is revoked already stays as it is.

        Raises:
            ConfigurationError: if there is no such key, or the file cannot be used.
        """
        with self._change() as content:
            record = self._known(content, key_id)
            if record.revoked_at is None:
                record = msgspec.structs.replace(record, revoked_at=self._now())
                content.records[key_id] = record
            return record

    def rotate(self, key_id: str, *, overlap_s: float = 86400, expires_at: datetime | None = None) -> IssuedKey:
        """Issue a key with the rights of another, which stays valid for ``overlap_s`` seconds more.

        Args:
            key_id: the key to replace.
            overlap_s: how long the old key stays valid, unless it expires sooner; 0 ends it at once.
            expires_at: expiry of the new key; by default it lives as long as the old one was meant to.

        Raises:
            ConfigurationError: if there is no such key, it is not active, it was rotated before, ``overlap_s`` is not a
                number of seconds, or the file cannot be used.
        """
        with self._change() as content:
            old, now = self._known(content, key_id), self._now()
            _refuse_to_rotate(old, self._clock.time())
            ends = _later(now, _overlap(overlap_s))
            if expires_at is None and old.expires_at is not None:
                expires_at = _later(now, old.expires_at - old.created_at)
            new = self._issue(
                content,
                tenant=old.tenant,
                caller=old.caller,
                scopes=old.scopes,
                rate_limit=old.rate_limit,
                expires_at=expires_at,
                note=old.note,
                environment=old.environment,
            )
            content.records[key_id] = msgspec.structs.replace(
                old,
                expires_at=ends if old.expires_at is None else min(ends, old.expires_at),
                replaced_by=new.record.key_id,
            )
            return new

    @contextmanager
    def _change(self) -> Iterator[KeyDocument]:
        """Yield what the file says, and write what has become of it; nobody else changes it meanwhile."""
        try:
            with exclusive(self.path):
                content = self._read()
                yield content
                replace_whole(self.path, content.to_bytes())
        except OSError as error:
            raise self._unusable(error) from None
        self._look_at = -math.inf

    def _read(self) -> KeyDocument:
        try:
            return self._decoded(read_checked(self.path).data)
        except FileNotFoundError:
            return KeyDocument()

    def _decoded(self, data: bytes) -> KeyDocument:
        try:
            return KeyDocument.from_bytes(data)
        except ValueError as error:
            raise self._unusable(error) from None

    def _issue(self, content: KeyDocument, **fields: Any) -> IssuedKey:
        issued = issue(**fields, pepper=self._pepper(content), clock=self._clock, random_bytes=self._random_bytes)
        if issued.record.key_id in content.records:
            raise ConfigurationError("The source of random bytes repeats itself, so no key was created.")
        content.records[issued.record.key_id] = issued.record
        return issued

    def _pepper(self, content: KeyDocument) -> Secret:
        if self.peppers:
            return self.peppers[0]
        if content.pepper is None:
            content.pepper = Secret(self._random_bytes(32).hex())
        return content.pepper

    def _known(self, content: KeyDocument, key_id: str) -> KeyRecord:
        record = content.records.get(key_id)
        if record is None:
            # Not repeated: it may be a key that was given in place of its id.
            raise ConfigurationError(
                f"The key file {self.path} has no key of that id. To see the ids: turnpike keys list --file {self.path}"
            )
        return record

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._clock.time()), UTC)

    def _unusable(self, error: Exception) -> ConfigurationError:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        return ConfigurationError(f"Cannot use the key file {self.path}: {reason}.")


def _refuse_to_rotate(record: KeyRecord, epoch_s: float) -> None:
    if record.replaced_by is not None:
        raise ConfigurationError(
            f"Key {record.key_id} was rotated before, to {record.replaced_by}: rotate that one, or create a key."
        )
    if (status := record.status(epoch_s)) != "active":
        raise ConfigurationError(f"Key {record.key_id} is {status}, so it cannot be rotated: create a key instead.")


def _overlap(seconds: float) -> timedelta:
    try:
        if seconds >= 0:
            return timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        pass
    raise ConfigurationError("overlap_s must be a number of seconds, 0 or more.")


def _later(moment: datetime, delta: timedelta) -> datetime:
    try:
        return moment + delta
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
