"""The vendors' prompt caches, made deterministic: what was sent once is read back ever after, and nothing expires.

OpenAI: a prompt of 1024 tokens or more is remembered in steps of 128 tokens; the longest remembered prefix of a later
prompt is reported as cached. GPT-5.6 and later also report what they wrote to the cache.
Anthropic: a prefix that ends at a `cache_control` breakpoint is written (for 5 minutes or an hour) the first time and
read the next; a prefix under 1024 tokens is not cached.
Neither is shared between API keys or between models.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from turnpike.testing.simulator.asking import Ask, Segment
from turnpike.testing.simulator.bill_book import Usage
from turnpike.testing.simulator.generation import BYTES_PER_TOKEN, prompt_tokens, segment_tokens

LEAST_TOKENS = 1024
STEP_TOKENS = 128
REMEMBERED = 65_536
_STEP_BYTES = STEP_TOKENS * BYTES_PER_TOKEN
_REPORTS_WRITES = re.compile(r"^gpt-(?:5\.[6-9]|[6-9])")


class PromptCache:
    """The prefixes seen so far, the oldest forgotten first once there are too many."""

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}

    def input_usage(self, ask: Ask, key: str) -> Usage:
        """The input side of the usage, read from and written to the cache on the way."""
        total = prompt_tokens(ask.segments)
        if total < LEAST_TOKENS:
            return Usage(input=total)
        scope = f"{key}\0{ask.model}\0".encode()
        if ask.api == "anthropic-messages":
            return self._breakpoints(ask.segments, scope, total)
        return self._steps(ask, scope, total)

    def clear(self) -> None:
        """Forget everything."""
        self._seen = {}

    def _remember(self, prefix: bytes) -> None:
        self._seen[prefix] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _steps(self, ask: Ask, scope: bytes, total: int) -> Usage:
        text = "\0".join(segment.text for segment in ask.segments).encode()
        running, cached, known = blake2b(scope, digest_size=16), 0, True
        reusable = (total - 1) // STEP_TOKENS * STEP_TOKENS
        for end in range(_STEP_BYTES, min(len(text), reusable * BYTES_PER_TOKEN) + 1, _STEP_BYTES):
            running.update(text[end - _STEP_BYTES : end])
            tokens = end // BYTES_PER_TOKEN
            if tokens < LEAST_TOKENS:
                continue
            prefix = running.digest()
            known = known and prefix in self._seen
            cached = tokens if known else cached
            self._remember(prefix)
        written = reusable - cached if _REPORTS_WRITES.match(ask.model) else 0
        return Usage(input=total - cached - written, cache_read=cached, cache_write_5m=written)

    def _breakpoints(self, segments: list[Segment], scope: bytes, total: int) -> Usage:
        running, tokens, read = blake2b(scope, digest_size=16), 0, 0
        marks: list[tuple[int, str, bytes]] = []
        for segment in segments:
            running.update(segment.text.encode())
            tokens += segment_tokens(segment)
            if segment.ttl is not None and tokens >= LEAST_TOKENS:
                prefix = running.digest()
                marks.append((tokens, segment.ttl, prefix))
                read = tokens if prefix in self._seen else read
        written = {"5m": 0, "1h": 0}
        done = read
        for end, ttl, prefix in marks:
            self._remember(prefix)
            written[ttl] += max(end - done, 0)
            done = max(done, end)
        return Usage(input=total - done, cache_read=read, cache_write_5m=written["5m"], cache_write_1h=written["1h"])
