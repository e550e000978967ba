"""What the simulated model says: text, tool calls, reasoning and token counts, all a function of the request.

The tokenizer: a text is one token per four UTF-8 bytes, rounded up; a prompt is that for every message, system text
and tool definition, plus 4 for each of them and 3 for the answer's start; an image or a file is 85. No vendor's
tokenizer is meant: what matters is that the figures are stable, plausible and the same on the wire and on the bill.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

from turnpike.testing.simulator.arguments import instance_of
from turnpike.testing.simulator.asking import Ask, Segment, as_json
from turnpike.testing.simulator.behaviour import Behaviour, ToolCall
from turnpike.testing.simulator.bill_book import Usage

BYTES_PER_TOKEN = 4
SEGMENT_TOKENS = 4
ANSWER_START_TOKENS = 3
TOOL_CALL_TOKENS = 8
REASONING_STEP = 64
SNAPSHOTS = {
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-4": "gpt-4-0613",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5.1": "gpt-5.1-2025-11-13",
    "gpt-5.2": "gpt-5.2-2025-12-11",
    "gpt-5.4": "gpt-5.4-2026-03-05",
    "gpt-5.6": "gpt-5.6-sol",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o4-mini": "o4-mini-2025-04-16",
    "claude-3-5-haiku-latest": "claude-3-5-haiku-20241022",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-0": "claude-sonnet-4-20250514",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
}
_PROSE = (
    "the invoice total covers consulting hours travel and licences for October with net thirty payment terms "
    "and a late fee of two percent per month while line items were approved by finance on Tuesday and match "
    "purchase order exactly so review shipping dates before release notes reach every customer account team"
)
WORDS = tuple(_PROSE.split())
_MOST_UTF8_BYTES = 4
_REASONS = re.compile(r"^(?:o\d|gpt-5|gpt-6)")
_EFFORTS = {"none": 0, "minimal": 0, "low": 1, "medium": 2, "high": 4, "xhigh": 8}
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE62 = bytes(ord(_ALPHABET[i % len(_ALPHABET)]) for i in range(256))


@dataclass(slots=True)
class Choice:
    """One answer: text in the pieces in which it streams, or tool calls, and why it ended.

    `finish` is `stop`, `length`, `tool_calls`, `stop_sequence`, `content_filter`, `refusal` or a scripted word.
    """

    chunks: Sequence[str]
    tool_calls: list[tuple[str, str, str]]
    finish: str
    stop_sequence: str | None = None

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.chunks)


@dataclass(slots=True)
class Answer:
    """Everything a format module needs to write the response. `usage` is the truth; `shown` is what the wire says."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    thinking: Sequence[str]
    usage: Usage
    shown: Usage | None


def tokens_of(text: str) -> int:
    """Tokens of a text: its UTF-8 bytes over four, rounded up."""
    size = len(text) if text.isascii() else len(text.encode())
    return (size + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN


def prompt_tokens(segments: list[Segment]) -> int:
    """Tokens of a whole prompt."""
    return ANSWER_START_TOKENS + sum(segment_tokens(segment) for segment in segments)


def segment_tokens(segment: Segment) -> int:
    """Tokens of one stretch of the prompt, its overhead included."""
    return SEGMENT_TOKENS + segment.extra_tokens + tokens_of(segment.text)


def identifier(seed: bytes, salt: str, length: int, *, hexadecimal: bool = False) -> str:
    """An identifier like the vendors': base 62 or hexadecimal, the same for the same seed and salt."""
    digest = blake2b(salt.encode(), key=seed, digest_size=32).digest()
    if hexadecimal:
        return digest.hex()[:length]
    return digest.translate(_BASE62)[:length].decode()


@lru_cache(maxsize=1024)
def words(seed: bytes, count: int) -> tuple[str, ...]:
    """`count` words of deterministic prose, each but the first with its leading space."""
    chosen = random.Random(seed).choices(WORDS, k=count)  # noqa: S311 - repeatable prose, no secret
    chosen[0] = chosen[0].capitalize()
    chosen[-1] += "."
    return (chosen[0], *[" " + word for word in chosen[1:]])


def split(text: str, count: int) -> list[str]:
    """`text` in `count` pieces of nearly equal length; fewer when it has fewer characters."""
    count = max(1, min(count, len(text)))
    size, rest = divmod(len(text), count)
    edges = [i * size + min(i, rest) for i in range(count + 1)]
    return [text[a:b] for a, b in pairwise(edges)]


def bounded(chunks: Sequence[str], limit: int | None) -> tuple[Sequence[str], bool]:
    """The chunks that fit into `limit` tokens, the last one cut, and whether anything was left out."""
    if limit is None:
        return chunks, False
    room = limit * BYTES_PER_TOKEN
    if sum(map(len, chunks)) * _MOST_UTF8_BYTES <= room:
        return chunks, False
    kept: list[str] = []
    for chunk in chunks:
        raw = chunk.encode()
        if len(raw) > room:
            cut = raw[:room].decode(errors="ignore")
            return [*kept, cut] if cut else kept, True
        kept.append(chunk)
        room -= len(raw)
    return kept, False


def served_model(asked: str, behaviour: Behaviour) -> str:
    """The model named in the response: a dated snapshot for a known alias."""
    name = behaviour.model or asked
    return SNAPSHOTS.get(name, name)


def reasoning_for(ask: Ask) -> int:
    """Reasoning tokens that an OpenAI reasoning model spends before it answers."""
    if ask.api == "anthropic-messages" or not _REASONS.match(ask.model):
        return 0
    steps = 1 + ask.seed[0] % 3
    return REASONING_STEP * steps * _EFFORTS.get(ask.effort or "medium", 2) // 2


def thinking_for(ask: Ask) -> Sequence[str]:
    """The pieces of an Anthropic thinking block, within its budget and leaving one token for the answer."""
    if ask.thinking_budget is None:
        return []
    limit = min(ask.thinking_budget, (ask.max_output_tokens or ask.thinking_budget + 1) - 1)
    return bounded(words(ask.seed[::-1], 10 + ask.seed[1] % 20), limit)[0] if limit > 0 else []


def choose(ask: Ask, behaviour: Behaviour, index: int, limit: int | None) -> Choice:
    """Answer number `index`: a tool call when one is asked for and fits, else text within `limit` tokens."""
    seed = ask.seed if index == 0 else blake2b(ask.seed + index.to_bytes(2, "big"), digest_size=16).digest()
    calls = [] if limit == 0 else _tool_calls(ask, behaviour, seed)
    if calls and (limit is None or sum(map(tool_call_tokens, calls)) <= limit):
        text = [] if behaviour.text is None else _scripted(behaviour.text, behaviour.chunks)
        choice = Choice(text, calls, "tool_calls")
    else:
        choice = _text_choice(ask, behaviour, seed, limit)
    if behaviour.finish_reason:
        choice.finish = behaviour.finish_reason
    return choice


def output_tokens(choice: Choice) -> int:
    """Tokens of one answer, reasoning not included."""
    return sum(map(tool_call_tokens, choice.tool_calls)) + (tokens_of(choice.text) if choice.chunks else 0)


def tool_call_tokens(call: tuple[str, str, str]) -> int:
    """Tokens of one tool call: its name and arguments, and 8 for the rest of it."""
    return TOOL_CALL_TOKENS + tokens_of(call[1] + call[2])


def _text_choice(ask: Ask, behaviour: Behaviour, seed: bytes, limit: int | None) -> Choice:
    chunks: Sequence[str]
    if behaviour.text is not None:
        chunks = _scripted(behaviour.text, behaviour.chunks)
    elif ask.json_schema is not None:
        text = as_json(instance_of(ask.json_schema, seed))
        chunks = split(text, behaviour.chunks or len(text) // BYTES_PER_TOKEN)
    else:
        chunks = words(seed, behaviour.chunks or 20 + seed[2] % 40)
    chunks, stopped = _until_stop(chunks, ask.stop)
    chunks, cut = bounded(chunks, limit)
    if cut:
        return Choice(chunks, [], "length")
    return Choice(chunks, [], "stop_sequence" if stopped else "stop", stopped)


def _scripted(text: str, count: int | None) -> list[str]:
    if not text:
        return []
    return split(text, count) if count else re.findall(r"\s*\S+|\s+$", text)


def _until_stop(chunks: Sequence[str], stops: tuple[str, ...]) -> tuple[Sequence[str], str | None]:
    if not stops:
        return chunks, None
    text = "".join(chunks)
    found = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return chunks, None
    end, stop = min(found)
    kept: list[str] = []
    for chunk in chunks:
        kept.append(chunk[:end])
        end -= len(chunk)
        if end <= 0:
            break
    return [chunk for chunk in kept if chunk], stop


def _tool_calls(ask: Ask, behaviour: Behaviour, seed: bytes) -> list[tuple[str, str, str]]:
    if behaviour.tool_calls:
        wanted = list(behaviour.tool_calls)
    elif behaviour.text is not None:
        return []
    else:
        wanted = _asked_for(ask, seed)
    prefix = "toolu_01" if ask.api == "anthropic-messages" else "call_"
    length = 22 if prefix == "toolu_01" else 24
    return [
        (
            prefix + identifier(seed, f"tool {number}", length),
            call.name,
            call.arguments if isinstance(call.arguments, str) else as_json(call.arguments),
        )
        for number, call in enumerate(wanted)
    ]


def _asked_for(ask: Ask, seed: bytes) -> list[ToolCall]:
    if not ask.tools or ask.after_tool_result or ask.tool_choice == "none":
        return []
    if ask.tool_choice.startswith("name:"):
        named = [tool for tool in ask.tools if tool.name == ask.tool_choice[5:]]
    else:
        named = [tool for tool in ask.tools if tool.name in ask.last_user_text]
        if not named and ask.tool_choice == "required":
            named = ask.tools
    return [ToolCall(tool.name, instance_of(tool.schema, seed)) for tool in named[:1]]
