"""Issued keys: made here, kept anywhere as keyed digests, and found again by their public id.

A record holds HMAC-SHA256(pepper, key), never the key. A fast digest is right for keys of 192 random bits: a slow one
protects secrets that can be guessed, and gives everybody who sends wrong keys a way to burn processor time. No record
store is asked before the checksum holds, an unknown id takes the same path as a known one, and nothing is kept of it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, Protocol

import msgspec

from turnpike.boundary.asking import Question
from turnpike.boundary.key_format import Environment, make_key, parse_key
from turnpike.boundary.keys import Principal
from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.errors import ConfigurationError
from turnpike.secret import Secret
from turnpike.settings import parse_rate_limit

__all__ = ["IssuedKey", "IssuedKeyStore", "KeyRecord", "KeyRecords", "digest_of", "issue", "pepper_id_of"]

_LOG = logging.getLogger(__name__)
_DIGEST_BYTES = hashlib.sha256().digest_size
_NO_DIGEST = bytes(_DIGEST_BYTES)
_LISTS = (tuple, list, frozenset, set)
_MAX_TEXT = 200
_MAX_COMPLAINTS = 1000


def pepper_id_of(pepper: Secret) -> str:
    """Return the public name of ``pepper``, eight hexadecimal digits, by which a record says what it was digested under."""
    return hashlib.sha256(b"turnpike pepper id" + _bytes(pepper.reveal())).hexdigest()[:8]


def digest_of(key: str, pepper: Secret) -> bytes:
    """Return HMAC-SHA256(pepper, key), 32 bytes."""
    return hmac.digest(_bytes(pepper.reveal()), _bytes(key), "sha256")


def _bytes(text: str) -> bytes:
    # What an environment variable holds need not be UTF-8, and the exception of a failed encoding would hold the pepper.
    return text.encode("utf-8", "surrogatepass")


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key. Safe to show but for the digest, which its ``repr`` leaves out.

    Attributes:
        key_id: the nine characters that name the key; requests are counted under them.
        digest: HMAC-SHA256 of the whole key, 32 bytes.
        pepper_id: ``pepper_id_of`` the pepper used.
        tenant: the tenant that pays.
        caller: the application or user within the tenant.
        scopes: names of what the holder may do.
        rate_limit: the holder's own limit, such as ``60/minute``; ``None`` means the service's.
        environment: ``live`` or ``test``.
        created_at: when it was issued; times are aware.
        expires_at: from when on it is refused; ``None`` means never.
        revoked_at: when it was revoked. A key with any such time is refused, whatever the clocks say.
        replaced_by: id of the key that it was rotated to.
        note: the operator's own words.

    Raises:
        ValueError: if the digest is not 32 bytes, or a time is no ``datetime`` with a time zone.
    """

    key_id: str
    digest: bytes
    pepper_id: str
    tenant: str
    caller: str | None = None
    scopes: tuple[str, ...] = ()
    rate_limit: str | None = None
    environment: Environment = "live"
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced_by: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.digest, bytes) or len(self.digest) != _DIGEST_BYTES:
            raise ValueError(f"KeyRecord.digest must be {_DIGEST_BYTES} bytes")
        if not _is_aware(self.created_at):
            raise _not_aware("created_at")
        if self.expires_at is not None and not _is_aware(self.expires_at):
            raise _not_aware("expires_at")
        if self.revoked_at is not None and not _is_aware(self.revoked_at):
            raise _not_aware("revoked_at")

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "digest")
        return f"KeyRecord({', '.join(shown)})"

    def status(self, epoch_s: float) -> Literal["active", "expired", "revoked"]:
        """Return what the key is at ``epoch_s`` (seconds since the Unix epoch)."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at.timestamp() <= epoch_s:
            return "expired"
        return "active"


def _is_aware(value: object) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is not None


def _not_aware(name: str) -> ValueError:
    return ValueError(f"KeyRecord.{name} must be a datetime with a time zone, such as datetime.UTC")


class KeyRecords(Protocol):
    """Where records lie: a file, a table, a cache in front of one.

    Records that have to be waited for come with ``blocking = True``, and are then asked for in a worker thread wherever an
    event loop runs, or with ``async def get_async(self, key_id)``. Records that bring peppers of their own offer
    ``find_pepper(pepper_id) -> Secret | None``.
    """

    def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of ``key_id`` (nine ASCII letters and digits), or ``None``. Keep nothing of an unknown id."""
        ...


@dataclass(frozen=True)
class IssuedKey:
    """A new key and its record. Show ``key.reveal()`` to its holder once, keep the record, and let go of the key."""

    key: Secret
    record: KeyRecord


def issue(
    *,
    tenant: str,
    pepper: Secret,
    caller: str | None = None,
    scopes: Iterable[str] = (),
    rate_limit: str | int | None = None,
    expires_at: datetime | None = None,
    note: str | None = None,
    environment: Environment = "live",
    clock: Clock = SYSTEM_CLOCK,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> IssuedKey:
    """Make a key and the record to keep of it.

    Args:
        tenant: the tenant that pays.
        pepper: the current pepper.
        caller: the application or user within the tenant.
        scopes: names of what the holder may do.
        rate_limit: the holder's own limit: ``60/minute``, or a plain number of requests per minute.
        expires_at: from when on the key is refused; must have a time zone.
        note: the operator's own words.
        environment: ``live`` or ``test``.
        clock: source of the record's ``created_at``, in whole seconds.
        random_bytes: source of id and secret.

    Raises:
        ConfigurationError: naming what cannot be in a record.
    """
    _check_texts(tenant=tenant, caller=caller, note=note)
    if environment not in ("live", "test"):
        raise ConfigurationError("A key's environment must be 'live' or 'test'.")
    _check_pepper(pepper)
    key_id, key = make_key(environment, random_bytes)
    record = KeyRecord(
        key_id=key_id,
        digest=digest_of(key.reveal(), pepper),
        pepper_id=pepper_id_of(pepper),
        tenant=tenant,
        caller=caller,
        scopes=_checked_scopes(scopes),
        rate_limit=_checked_limit(rate_limit),
        environment=environment,
        created_at=datetime.fromtimestamp(int(clock.time()), UTC),
        expires_at=_checked_expiry(expires_at, clock),
        note=note,
    )
    return IssuedKey(key, record)


class IssuedKeyStore:
    """A ``KeyStore`` over the records of issued keys.

    A known key is refused, and the log says once why, if its record cannot be used: it was digested under a pepper that is
    not at hand, or holds a rate limit that means nothing.

    Args:
        records: where the records lie.
        peppers: the secrets that the records were digested under. Put a new one in front, and take an old one away once no
            key depends on it.
        clock: tells whether a key has expired.

    Raises:
        ConfigurationError: if there is no pepper, or an empty one.
    """

    def __init__(self, records: KeyRecords, peppers: Sequence[Secret] = (), *, clock: Clock = SYSTEM_CLOCK) -> None:
        for pepper in peppers:
            _check_pepper(pepper)
        self._own_pepper: Callable[[str], Secret | None] = getattr(records, "find_pepper", _no_pepper)
        if not peppers and self._own_pepper is _no_pepper:
            raise ConfigurationError(
                "Issued keys need a pepper: set TURNPIKE_KEY_PEPPERS (or key_peppers in the settings) to a long random "
                "text, such as the output of: openssl rand -hex 32"
            )
        self._peppers = {pepper_id_of(pepper): pepper for pepper in peppers}
        self._dummy_pepper = peppers[0] if peppers else Secret(secrets.token_hex(32))
        self._get = records.get
        self._question: Question[str, KeyRecord | None] = Question(records, "get")
        self._clock = clock
        self._complaints: set[tuple[str, str]] = set()

    def find(self, raw_key: str) -> Principal | None:
        """Return the principal that ``raw_key`` stands for, or ``None``."""
        key_id = parse_key(raw_key)
        return None if key_id is None else self._judge(raw_key, self._get(key_id))

    async def find_async(self, raw_key: str) -> Principal | None:
        """Do what ``find`` does without holding up the event loop; text that is no key costs no wait and no thread."""
        key_id = parse_key(raw_key)
        return None if key_id is None else self._judge(raw_key, await self._question.ask(key_id, may_wait=True))

    def _judge(self, raw_key: str, record: KeyRecord | None) -> Principal | None:
        """Compare first, whatever there is to compare with, and only then look at what the record says."""
        pepper = None if record is None else self._pepper_of(record)
        stored = _NO_DIGEST if record is None or pepper is None else record.digest
        is_same = hmac.compare_digest(stored, digest_of(raw_key, pepper or self._dummy_pepper))
        if record is None or pepper is None or not is_same:
            return None
        if record.status(self._clock.time()) != "active":
            return None
        return self._principal(record)

    def _pepper_of(self, record: KeyRecord) -> Secret | None:
        pepper = self._peppers.get(record.pepper_id) or self._own_pepper(record.pepper_id)
        if pepper is None:
            self._complain(
                "pepper " + record.pepper_id,
                f"keys digested under pepper {record.pepper_id} are refused, {record.key_id} among them: add that pepper to "
                "TURNPIKE_KEY_PEPPERS (key_peppers in the settings), or issue these keys anew",
            )
        return pepper

    def _principal(self, record: KeyRecord) -> Principal | None:
        try:
            _check_names(record.tenant, record.caller, record.scopes)
            limit = None if record.rate_limit is None else _read_limit(str(record.rate_limit))
        except ValueError as error:
            self._complain(record.key_id, f"key {record.key_id} is refused, because its record is wrong: {error}")
            return None
        return Principal(
            tenant=record.tenant,
            key_id=record.key_id,
            caller=record.caller,
            scopes=tuple(record.scopes),
            rate_limit=limit,
        )

    def _complain(self, about: str, text: str) -> None:
        # Once for each: whoever holds the key can repeat the request, and a line for each would fill the log.
        complaint = (about, text)
        if complaint not in self._complaints and len(self._complaints) < _MAX_COMPLAINTS:
            self._complaints.add(complaint)
            _LOG.error("%s", text)


def _no_pepper(_: str) -> Secret | None:
    return None


_read_limit = lru_cache(maxsize=256)(parse_rate_limit)


def _check_pepper(pepper: Secret) -> None:
    if not pepper:
        raise ConfigurationError("A pepper must not be empty: write a long random text, or leave it out.")


def _check_names(tenant: object, caller: object, scopes: object) -> None:
    """Refuse what a store of another make may put into a record, and what would become an unattributed call or a 500."""
    if not isinstance(tenant, str) or not tenant:
        raise ValueError("its tenant must be text and not empty")
    if caller is not None and not isinstance(caller, str):
        raise ValueError("its caller must be text or None")
    if not isinstance(scopes, _LISTS):
        raise ValueError("its scopes must be a tuple of texts")


def _check_texts(**texts: str | None) -> None:
    for name, text in texts.items():
        if text is None and name != "tenant":
            continue
        if not isinstance(text, str) or not text.strip() or text != text.strip() or not text.isprintable():
            raise ConfigurationError(
                f"A key's {name} must be printable text on one line, not empty and without spaces around it."
            )
        if len(text) > _MAX_TEXT:
            raise ConfigurationError(f"A key's {name} must have at most {_MAX_TEXT} characters.")


def _checked_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    if isinstance(scopes, str):
        raise ConfigurationError("A key's scopes must be a list of names, not one text: write ('chat',).")
    names = tuple(dict.fromkeys(scopes))
    for name in names:
        _check_texts(scope=name)
        if " " in name:
            raise ConfigurationError("A key's scope is one name without spaces; name several one by one.")
    return names


def _checked_limit(rate_limit: str | int | None) -> str | None:
    if rate_limit is None:
        return None
    try:
        parse_rate_limit(rate_limit)
    except ValueError as error:
        raise ConfigurationError(f"A key's rate_limit is wrong: {error}.") from None
    return str(rate_limit).strip()


def _checked_expiry(expires_at: datetime | None, clock: Clock) -> datetime | None:
    if expires_at is None:
        return None
    if expires_at.utcoffset() is None:
        raise ConfigurationError("A key's expires_at must have a time zone, such as datetime.UTC.")
    if expires_at.timestamp() <= clock.time():
        raise ConfigurationError("A key's expires_at must be in the future.")
    try:
        return expires_at.astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
