"""What a key file says, and its JSON.

``{"version": 1, "pepper": ..., "keys": [<KeyRecord>, ...]}``; the pepper is there where keys were issued without a
configured one. A document that is being served is never changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from turnpike.boundary.issued_keys import KeyRecord, pepper_id_of
from turnpike.secret import Secret
from turnpike.struct_types import prepared

__all__ = ["KeyDocument"]

_VERSION = 1


@prepared
class _Version(msgspec.Struct, frozen=True):
    version: int


@prepared
class _Layout(msgspec.Struct, frozen=True, kw_only=True):
    version: int = _VERSION
    pepper: Secret | None = None
    keys: tuple[KeyRecord, ...] = ()


@dataclass
class KeyDocument:
    """Records by their id, oldest first, and the file's own pepper, if it has one."""

    records: dict[str, KeyRecord] = field(default_factory=dict)
    pepper: Secret | None = None
    pepper_id: str = ""

    @classmethod
    def from_bytes(cls, data: bytes) -> KeyDocument:
        """Read a file's bytes.

        Raises:
            ValueError: saying which part is wrong; keys, digests and peppers are not repeated.
        """
        try:
            version = msgspec.json.decode(data, type=_Version).version
            if version != _VERSION:
                raise ValueError(f"its format has version {version}, and this Turnpike reads version {_VERSION}")
            layout = msgspec.json.decode(data, type=_Layout, dec_hook=_decode_secret)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"it is not a key file: {error}") from None
        records = {record.key_id: record for record in layout.keys}
        if len(records) != len(layout.keys):
            raise ValueError("it holds two keys of one id")
        return cls(records, layout.pepper, "" if layout.pepper is None else pepper_id_of(layout.pepper))

    def to_bytes(self) -> bytes:
        """Return the bytes of a file that says this, indented for people to read and compare."""
        layout = _Layout(pepper=self.pepper, keys=tuple(self.records.values()))
        return msgspec.json.format(msgspec.json.encode(layout, enc_hook=_encode_secret), indent=2) + b"\n"


def _decode_secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("Expected `str`")


def _encode_secret(value: Any) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError
