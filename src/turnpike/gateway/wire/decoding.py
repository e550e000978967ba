"""Typed JSON decoding that bends before it breaks.

The fast way is one typed decode of the few fields a reader needs. What it refuses is tried again more slowly: a field
of an unexpected type is dropped and the rest kept, and JSON that is slightly broken (invalid UTF-8, half a surrogate
pair, ``NaN``, a raw control character) is repaired. A paid answer is not lost over a detail. Nothing here raises,
logs or returns the text it could not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import UnionType
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin

import msgspec

__all__ = ["UNREADABLE", "LenientDecoder", "decode_untyped"]

T = TypeVar("T", bound=msgspec.Struct)

UNREADABLE: Final = (ValueError, RecursionError)
"""What a decode may raise; ``msgspec.DecodeError`` and ``UnicodeDecodeError`` are ``ValueError``."""

_MISSING: Final = object()
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def decode_untyped(data: bytes) -> Any:
    """Return the JSON value in ``data`` as plain objects, repaired where needed, or ``None`` if it is not JSON."""
    for decode in (msgspec.json.decode, _repair):
        try:
            return decode(data)
        except UNREADABLE:
            continue
    return None


def _repair(data: bytes) -> Any:
    value = json.loads(data.decode("utf-8", "replace"), strict=False, parse_constant=lambda _: None)
    return msgspec.json.decode(_LONE_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))


class LenientDecoder(Generic[T]):
    """Decodes JSON into one struct type, every field of which must have a default.

    ``decode`` is the fast way and raises one of ``UNREADABLE``; ``salvage`` is what to try then.
    """

    __slots__ = ("_kind", "decode")

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self.decode: Callable[[bytes], T] = msgspec.json.Decoder(kind).decode

    def read(self, data: bytes) -> T | None:
        """Return the decoded struct, by whichever way works, or ``None`` if ``data`` is not a JSON object."""
        try:
            return self.decode(data)
        except UNREADABLE:
            return self.salvage(data)

    def salvage(self, data: bytes) -> T | None:
        """Return what of ``data`` fits the struct, or ``None`` if ``data`` is not a JSON object."""
        value = decode_untyped(data)
        return _fit_struct(self._kind, value) if isinstance(value, dict) else None


def _fit_struct(kind: type[T], value: dict[str, Any]) -> T:
    fields = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name in value:
            fitted = _fit(field.type, value[field.encode_name])
            if fitted is not _MISSING:
                fields[field.name] = fitted
    return kind(**fields)


def _fit(kind: Any, value: Any) -> Any:
    """Return ``value`` as ``kind``, or as much of it as fits, or ``_MISSING``."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        pass
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _fit_struct(kind, value)
    if isinstance(value, list) and get_origin(kind) is list:
        fitted = (_fit(get_args(kind)[0], item) for item in value)
        return [item for item in fitted if item is not _MISSING]
    if get_origin(kind) in (Union, UnionType):
        fits = (_fit(alternative, value) for alternative in get_args(kind))
        return next((fit for fit in fits if fit is not _MISSING), _MISSING)
    return _MISSING
