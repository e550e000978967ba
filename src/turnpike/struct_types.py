"""Struct types that are ready before the first thread uses them.

msgspec prepares a type the first time it decodes one, and two threads that are first at once can crash the process: with
msgspec 0.22 and a switch interval of a microsecond, six threads do within a hundred tries. Making a decoder prepares the
type and all it is made of, and a module is imported by one thread.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["prepared"]

StructT = TypeVar("StructT", bound=msgspec.Struct)


def prepared(kind: type[StructT]) -> type[StructT]:
    """Return ``kind``, a struct type that ``msgspec.convert`` will be asked for, as ready as it gets: a class decorator."""
    msgspec.json.Decoder(kind)
    return kind
