"""Immutable, hashable mappings for values that must not change once they are on record.

An envelope is handed to user code, caches and threads at once; a plain ``dict`` in it could be edited behind the
ledger's back and cannot be hashed. ``FrozenDict`` is a real ``dict`` to every JSON encoder, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")

__all__ = ["FrozenDict", "freeze"]


class FrozenDict(dict[K, V]):
    """A ``dict`` that refuses every change and can be hashed when its values can."""

    __slots__ = ()

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("this mapping belongs to a record and cannot be changed; copy it with dict(...) first")

    if not TYPE_CHECKING:  # to a type checker the methods are those of dict; a change is wrong, not ill-typed
        __setitem__ = __delitem__ = __ior__ = _refuse
        clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return f"FrozenDict({super().__repr__()})"

    def __reduce__(self) -> tuple[type[FrozenDict[K, V]], tuple[dict[K, V]]]:
        return type(self), (dict(self),)

    def __copy__(self) -> FrozenDict[K, V]:
        return self

    def __deepcopy__(self, _memo: object) -> FrozenDict[K, V]:
        return self


EMPTY: FrozenDict[Any, Any] = FrozenDict()
_SCALARS = frozenset((str, int, float, bool, type(None)))


def freeze(value: Any) -> Any:
    """Return ``value`` with every mapping in it a ``FrozenDict`` and every list or set a tuple.

    Scalars come back as they are. Sets are sorted by ``repr`` so that two equal sets freeze to equal tuples.
    """
    kind = type(value)
    # Most values are scalars in plain dicts; asking the abstract base class about each would cost ten times as much.
    if kind in _SCALARS or kind is FrozenDict:
        return value
    if kind is dict or isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()}) if value else EMPTY
    if isinstance(value, (list, tuple)):
        return tuple([freeze(item) for item in value])
    if isinstance(value, (set, frozenset)):
        return tuple(sorted((freeze(item) for item in value), key=repr))
    return value
