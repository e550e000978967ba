"""API keys: from the key that a client sends to the principal that the operator named for it.

Keys are kept only as keyed digests and appear in no log, repr or exception. Looking up an unknown key costs the same as
looking up a known one and leaves nothing behind, so a flood of random keys cannot fill the memory.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from turnpike.boundary.asking import Question
from turnpike.context import LLMRequestContext
from turnpike.errors import SettingsError
from turnpike.gateway.effects import run_sync
from turnpike.settings import ApiKeySettings, RateLimit, parse_rate_limit

__all__ = ["KeyStore", "KeyStores", "Principal", "SettingsKeyStore", "is_key"]

MAX_KEY_LENGTH = 128
"""Longest key that is looked at, in characters."""

_KEY = re.compile(rf"(?! )[ -~]{{1,{MAX_KEY_LENGTH}}}(?<! )", re.ASCII)


def is_key(value: str) -> bool:
    """Return whether ``value`` can be a key at all: 1 to 128 printable ASCII characters without spaces around them."""
    return _KEY.fullmatch(value) is not None


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who sends a request, and what they may do.

    Attributes:
        tenant: the tenant that pays; becomes ``tenant_id`` of every call.
        key_id: public name of the key's record, unique in its store; requests are counted under it. Whoever is known by
            other means than a key is counted by tenant and caller.
        caller: the application or user within the tenant.
        scopes: names of what the holder may do.
        rate_limit: the holder's own limit; ``None`` means the service's.
        attribution: what else is known of the request, such as its session; tenant and caller above win over it.
    """

    tenant: str
    key_id: str = ""
    caller: str | None = None
    scopes: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    attribution: LLMRequestContext | None = None

    @cached_property
    def context(self) -> LLMRequestContext:
        """The attribution of every call that the request makes."""
        named = LLMRequestContext(tenant_id=self.tenant, caller_id=self.caller)
        return named if self.attribution is None else named.over(self.attribution)

    @cached_property
    def counted_as(self) -> str:
        """The name under which requests are counted, never shared by two principals."""
        # Lengths keep ("a", "b/c") and ("a/b", "c") apart; the prefixes keep both apart from every key's name.
        return f"key:{self.key_id}" if self.key_id else f"caller:{len(self.tenant)}:{self.tenant}/{self.caller or ''}"


class KeyStore(Protocol):
    """Where keys are looked up. Implementations compare digests in constant time and never store or log a key.

    A store that has to wait for something sets ``blocking = True``, and is then asked in a worker thread wherever an event
    loop runs, or offers ``async def find_async(self, raw_key)`` with the same result.
    """

    def find(self, raw_key: str) -> Principal | None:
        """Return the principal that ``raw_key`` (1 to 128 printable ASCII characters) stands for, or ``None``."""
        ...


class KeyStores:
    """Several stores as one: the first that knows a key answers for it."""

    def __init__(self, stores: Iterable[KeyStore]) -> None:
        self._questions: list[Question[str, Principal | None]] = [Question(store, "find") for store in stores]

    def find(self, raw_key: str) -> Principal | None:
        """Return the principal that ``raw_key`` stands for, or ``None``."""
        return run_sync(self._find(raw_key, may_wait=False))

    async def find_async(self, raw_key: str) -> Principal | None:
        """Do what ``find`` does without holding up the event loop."""
        return await self._find(raw_key, may_wait=True)

    async def _find(self, raw_key: str, *, may_wait: bool) -> Principal | None:
        for question in self._questions:
            if (principal := await question.ask(raw_key, may_wait=may_wait)) is not None:
                return principal
        return None


class SettingsKeyStore:
    """The keys under ``api_keys`` in the settings.

    Args:
        entries: ``Settings.api_keys``.
        environ: where ``key_env`` is looked up; by default the process's environment.

    Raises:
        SettingsError: naming the entry whose key is missing, malformed or given twice.
    """

    __slots__ = ("_pepper", "_records")

    def __init__(self, entries: Iterable[ApiKeySettings], environ: Mapping[str, str] | None = None) -> None:
        # Keys come from an operator and may be guessable, so their bare hashes could be reversed from a memory dump.
        self._pepper = secrets.token_bytes(32)
        self._records: dict[bytes, tuple[bytes, Principal]] = {}
        seen: dict[bytes, int] = {}
        names: Counter[str] = Counter()
        for index, entry in enumerate(entries):
            digest = self._digest(_raw_key(entry, index, os.environ if environ is None else environ))
            if digest in seen:
                raise SettingsError(
                    f"Settings 'api_keys[{seen[digest]}]' and 'api_keys[{index}]' hold the same key. "
                    "Give each caller its own."
                )
            seen[digest] = index
            who = f"{entry.tenant}/{entry.caller or ''}"
            names[who] += 1
            self._records[digest] = (digest, _principal(entry, index, f"{who}#{names[who]}"))

    def find(self, raw_key: str) -> Principal | None:
        """Return the principal that ``raw_key`` stands for, or ``None``."""
        digest = self._digest(raw_key)
        stored, principal = self._records.get(digest, (_NO_DIGEST, None))
        return principal if hmac.compare_digest(stored, digest) else None

    def _digest(self, raw_key: str) -> bytes:
        return hmac.digest(self._pepper, raw_key.encode("utf-8", "surrogatepass"), hashlib.sha256)


_NO_DIGEST = bytes(32)


def _principal(entry: ApiKeySettings, index: int, key_id: str) -> Principal:
    try:
        limit = None if entry.rate_limit is None else parse_rate_limit(entry.rate_limit)
    except ValueError as error:
        raise SettingsError(f"Setting 'api_keys[{index}].rate_limit': {error}.") from None
    # Named after its holder, not its place in the list: services that count in one Redis may list other keys.
    return Principal(tenant=entry.tenant, key_id=key_id, caller=entry.caller, scopes=entry.scopes, rate_limit=limit)


def _raw_key(entry: ApiKeySettings, index: int, environ: Mapping[str, str]) -> str:
    if entry.key is not None:
        where, key = f"Setting 'api_keys[{index}].key'", entry.key.reveal()
    elif entry.key_env is not None:
        where, key = f"The environment variable {entry.key_env}, which 'api_keys[{index}].key_env' names,", ""
        if (key := environ.get(entry.key_env, "")) == "":
            raise SettingsError(f"{where} is not set. Set it to the key of tenant '{entry.tenant}'.")
    else:
        raise SettingsError(f"Setting 'api_keys[{index}]' needs exactly one of key and key_env.")
    if not is_key(key):
        raise SettingsError(
            f"{where} must be 1 to {MAX_KEY_LENGTH} printable ASCII characters without spaces or line ends around them."
        )
    return key
