"""``gateway`` and ``context`` as importable names that mean whatever is installed, and bound, when they are used.

They keep nothing: an object that remembered the first gateway would go on using it after ``override_settings``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from turnpike.context import LLMRequestContext, current_context
from turnpike.gateway.client import Gateway
from turnpike_django.conf import installation

__all__ = ["context", "gateway"]


class _Proxy:
    """Stands for what ``find`` returns at the moment of use."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # Tools that look over a module's names ask for this where nothing can be found yet.
        try:
            return type(self._find())
        except Exception:  # noqa: BLE001
            return _Proxy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._find(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._find(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._find(), name)

    def __eq__(self, other: object) -> bool:
        return bool(self._find() == other)

    def __hash__(self) -> int:
        return hash(self._find())

    def __repr__(self) -> str:
        return f"<proxy of {self.__class__.__name__}>"


gateway: Gateway = cast("Gateway", _Proxy(lambda: installation().gateway))
"""The project's gateway: ``gateway.call_sync(...)`` in views, ``await gateway.call(...)`` in async views."""

context: LLMRequestContext = cast("LLMRequestContext", _Proxy(current_context))
"""Who is asking, wherever code of a request runs. Outside of one, using it raises ``UnattributedError``."""
