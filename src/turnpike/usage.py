"""The usage vector: what one provider request consumed, in parts that add up.

Providers count differently: Anthropic leaves cached input out of ``input_tokens``, OpenAI keeps it in. Here the whole is
always the whole (``tokens_in`` contains every cache read and write) and the parts stand beside it. Nothing in this module
knows a price.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from turnpike.struct_types import prepared

__all__ = ["UsageVector"]


@prepared
class UsageVector(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False):
    """Token and tool counts of one request. Every count is a non-negative integer; 0 means none were reported.

    ``tokens_in`` is the provider's whole input and ``tokens_out`` its whole output; a part is never larger than its whole.
    ``None`` in a whole means that the provider did not say.
    """

    tokens_in: int | None = None
    """All input tokens, cache reads and writes included."""
    tokens_out: int | None = None
    """All output tokens, reasoning included."""
    cache_read: int = 0
    """Input tokens read from the provider's prompt cache."""
    cache_write_5m: int = 0
    """Input tokens written to the cache with the short (five minutes) lifetime."""
    cache_write_1h: int = 0
    """Input tokens written to the cache with the one-hour lifetime."""
    audio_in: int = 0
    """Input tokens that are audio."""
    cache_audio_read: int = 0
    """Audio input tokens read from the cache; part of both ``audio_in`` and ``cache_read``."""
    image_in: int = 0
    """Input tokens that are images, where the provider tells them apart."""
    audio_out: int = 0
    """Output tokens that are audio."""
    reasoning: int = 0
    """Output tokens spent on reasoning."""
    web_search_requests: int = 0
    """Web searches run by the provider."""
    file_search_requests: int = 0
    """File searches run by the provider."""
    code_interpreter_calls: int = 0
    """Code-interpreter calls run by the provider."""

    @property
    def uncached_in(self) -> int | None:
        """Input tokens charged at the plain input rate: the whole less cache reads and writes."""
        if self.tokens_in is None:
            return None
        return self.tokens_in - self.cache_read - self.cache_write_5m - self.cache_write_1h

    def problems(self) -> tuple[str, ...]:
        """Return what does not add up, one short code each; an empty tuple means that the vector is consistent."""
        found = [f"negative:{name}" for name in self.__struct_fields__ if (getattr(self, name) or 0) < 0]
        if self.tokens_in is not None:
            if (self.uncached_in or 0) < 0:
                found.append("cache_exceeds_input")
            if self.audio_in > self.tokens_in:
                found.append("audio_exceeds_input")
        if self.tokens_out is not None and max(self.reasoning, self.audio_out) > self.tokens_out:
            found.append("part_exceeds_output")
        return tuple(found)

    @classmethod
    def total(cls, vectors: Iterable[UsageVector]) -> UsageVector:
        """Add vectors up. A whole is ``None`` only if no vector knows it."""
        rows = list(vectors)
        sums: dict[str, int | None] = {}
        for name in cls.__struct_fields__:
            known = [value for row in rows if (value := getattr(row, name)) is not None]
            sums[name] = sum(known) if known or name not in _WHOLES else None
        return cls(**sums)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the wholes that are known and the parts that are not zero, by name."""
        return {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) or (value == 0 and name in _WHOLES)
        }


_WHOLES = ("tokens_in", "tokens_out")
