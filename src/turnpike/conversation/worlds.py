"""What preparing a conversation asks of the world, once for code that awaits and once for code that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Unpack

from turnpike.gateway.client import Gateway
from turnpike.gateway.options import CallOptions, Message, Prompt
from turnpike.gateway.result import CallResult
from turnpike.tokens import TokenCount, bound_messages, count_messages, is_loaded

__all__ = ["AsyncWorld", "SyncWorld"]

_LONGEST_TOKEN_BYTES = 256
"""More than any token of OpenAI's vocabularies has; their longest are runs of 128 blanks."""

_QUICK_BYTES = 16_384
"""So much is counted in a few milliseconds at the worst, which an event loop can bear."""


class _World:
    """What both kinds of callers have in common."""

    def __init__(self, gateway: Gateway, options: CallOptions, max_tokens: int) -> None:
        self._gateway = gateway
        self._options = options
        self._max_tokens = max_tokens

    def _with_own(self, options: CallOptions) -> CallOptions:
        own: CallOptions = {**self._options, **options}
        if "context" in self._options and "context" in options:
            own["context"] = options["context"].over(self._options["context"])
        return own

    def _bounds(self, parts: Sequence[Sequence[Message]]) -> tuple[list[TokenCount], int]:
        bounds = [bound_messages(part) for part in parts]
        return bounds, sum(bound.tokens for bound in bounds)

    def _count(self, parts: Sequence[Sequence[Message]], bounds: Sequence[TokenCount], model: str) -> list[TokenCount]:
        # What no count could bring below the limit is not worth the time that counting it takes.
        return [
            bound if bound.tokens > self._max_tokens * _LONGEST_TOKEN_BYTES else count_messages(part, model)
            for part, bound in zip(parts, bounds, strict=True)
        ]


class AsyncWorld(_World):
    """For callers on an event loop, which nothing here blocks for long."""

    async def ask(self, prompt: Prompt, **options: Unpack[CallOptions]) -> CallResult:
        """Make a call through the gateway."""
        return await self._gateway.call(prompt, **self._with_own(options))

    async def count(self, parts: Sequence[Sequence[Message]], model: str) -> list[TokenCount]:
        """Count the tokens of each part."""
        bounds, total = self._bounds(parts)
        if total <= _QUICK_BYTES and is_loaded(model):
            return self._count(parts, bounds, model)
        return await asyncio.to_thread(self._count, parts, bounds, model)


class SyncWorld(_World):
    """For callers that block. Every coroutine here runs to its end without suspending."""

    async def ask(self, prompt: Prompt, **options: Unpack[CallOptions]) -> CallResult:
        """Make a call through the gateway."""
        return self._gateway.call_sync(prompt, **self._with_own(options))

    async def count(self, parts: Sequence[Sequence[Message]], model: str) -> list[TokenCount]:
        """Count the tokens of each part."""
        bounds, _ = self._bounds(parts)
        return self._count(parts, bounds, model)
