"""The key store over the table: what the gate asks when a request comes with an issued key."""

from __future__ import annotations

import threading

from turnpike.boundary.issued_keys import IssuedKeyStore, KeyRecord
from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.fork import reset_in_child
from turnpike_django.keys.peppers import key_peppers

__all__ = ["DatabaseKeyStore"]

_MAX_KEPT = 10_000


class DatabaseKeyStore(IssuedKeyStore):
    """Keys of ``turnpike_django.keys``, one query by primary key for each request.

    Used by itself where that app is installed and ``TURNPIKE`` names no other ``KEY_STORE``.

    Args:
        cache_s: seconds for which a key that was found is not asked for again. A revoked key stays valid for as long, so
            the default is 0: none at all.
        clock: tells whether a key has expired.
    """

    def __init__(self, *, cache_s: float = 0.0, clock: Clock = SYSTEM_CLOCK) -> None:
        records = _Records()
        super().__init__(_Kept(records, cache_s, clock) if cache_s > 0 else records, key_peppers(), clock=clock)


class _Records:
    """``KeyRecords`` over ``APIKey``."""

    def get(self, key_id: str) -> KeyRecord | None:
        from turnpike_django.keys.models import APIKey

        key = APIKey.objects.filter(pk=key_id).first()
        return None if key is None else key.to_record()

    async def get_async(self, key_id: str) -> KeyRecord | None:
        from turnpike_django.keys.models import APIKey

        key = await APIKey.objects.filter(pk=key_id).afirst()
        return None if key is None else key.to_record()


class _Kept:
    """Records that are kept for a moment. Only found ones: made-up ids must not fill the memory."""

    def __init__(self, records: _Records, cache_s: float, clock: Clock) -> None:
        self._records = records
        self._cache_s = cache_s
        self._clock = clock
        self._kept: dict[str, tuple[float, KeyRecord]] = {}
        self._lock = threading.Lock()
        reset_in_child(self)

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def get(self, key_id: str) -> KeyRecord | None:
        return self._look(key_id) or self._keep(key_id, self._records.get(key_id))

    async def get_async(self, key_id: str) -> KeyRecord | None:
        return self._look(key_id) or self._keep(key_id, await self._records.get_async(key_id))

    def _look(self, key_id: str) -> KeyRecord | None:
        until_s, record = self._kept.get(key_id, (0.0, None))
        return record if record is not None and self._clock.monotonic() < until_s else None

    def _keep(self, key_id: str, record: KeyRecord | None) -> KeyRecord | None:
        if record is not None:
            with self._lock:
                self._kept.pop(key_id, None)
                self._kept[key_id] = (self._clock.monotonic() + self._cache_s, record)
                if len(self._kept) > _MAX_KEPT:
                    del self._kept[next(iter(self._kept))]
        return record
