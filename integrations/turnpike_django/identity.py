"""``IDENTIFY``, made to work however the request is served: its author writes a function or a coroutine function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.http import HttpRequest

from turnpike.boundary.installation import Identify
from turnpike.boundary.keys import Principal

__all__ = ["Sender", "for_both_modes"]

Found = Principal | None


class Sender(NamedTuple):
    """What the middleware asks about: a request, and whether the answer may be awaited."""

    request: HttpRequest
    may_wait: bool


def for_both_modes(identify: Callable[[HttpRequest], Found | Awaitable[Found]]) -> Identify:
    """Return ``identify`` as a function of a ``Sender``.

    A plain function runs in the request's thread even under ASGI, because it will look at ``request.user``, which may
    ask the database.
    """
    asks_async: Any = identify if iscoroutinefunction(identify) else sync_to_async(identify)

    async def ask_async(request: HttpRequest) -> Found:
        return await _awaited(await asks_async(request))

    def ask_sync(request: HttpRequest) -> Found:
        found = identify(request)
        return async_to_sync(_awaited)(found) if inspect.isawaitable(found) else found

    def ask(sender: Sender) -> Found | Awaitable[Found]:
        return ask_async(sender.request) if sender.may_wait else ask_sync(sender.request)

    return ask


async def _awaited(found: Found | Awaitable[Found]) -> Found:
    return await found if inspect.isawaitable(found) else found
