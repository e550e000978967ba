"""Reading a provider's usage object into a ``UsageVector``.

OpenAI's ``prompt_tokens`` include cached and audio tokens, Anthropic and Bedrock leave cache reads and writes out, so
there they are added. Reasoning is part of ``tokens_out`` everywhere. Nothing is clamped: a usage whose parts do not
fit keeps its totals only. Nothing here raises, whatever the provider sent, and nothing here knows a price. Source of
the rules: the providers' API references and the extractors of genai-prices 0.2.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec

from turnpike.struct_types import prepared
from turnpike.usage import UsageVector

__all__ = ["APIS", "read_usage"]

_Count = Annotated[int, msgspec.Meta(ge=0)] | None
_ToolCounts = Mapping[str, int] | None
_Tools = tuple[int, int, int]
_Read = tuple[UsageVector | None, tuple[str, ...]]

_NO_TOOLS: Final = (0, 0, 0)
_WEB, _FILE, _CODE = range(3)
_TOOL_SLOTS: Final = {
    "web_search_requests": _WEB,
    "web_search_call": _WEB,
    "web_search_preview_requests": _WEB,
    "web_search_preview_call": _WEB,
    "file_search_requests": _FILE,
    "file_search_call": _FILE,
    "code_interpreter_calls": _CODE,
    "code_interpreter_call": _CODE,
    "code_execution_requests": _CODE,
}
_FREE_TOOLS: Final = frozenset(
    {
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "function_call",
        "local_shell_call",
        "mcp_approval_request",
        "mcp_call",
        "mcp_list_tools",
        "tool_search_requests",
        "web_fetch_requests",
    }
)


class _CachedDetails(msgspec.Struct, gc=False):
    audio_tokens: _Count = None


class _InDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None
    audio_tokens: _Count = None
    image_tokens: _Count = None
    cached_tokens_details: _CachedDetails | None = None


class _OutDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count = None
    audio_tokens: _Count = None
    thinking_tokens: _Count = None


_NO_IN_DETAILS: Final = _InDetails()
_NO_OUT_DETAILS: Final = _OutDetails()


@prepared
class _Chat(msgspec.Struct, gc=False):
    tokens_in: _Count = msgspec.field(name="prompt_tokens", default=None)
    tokens_out: _Count = msgspec.field(name="completion_tokens", default=None)
    in_details: _InDetails | None = msgspec.field(name="prompt_tokens_details", default=None)
    out_details: _OutDetails | None = msgspec.field(name="completion_tokens_details", default=None)
    total_tokens: Any = None
    cached_tokens: _Count = None
    """Where Moonshot puts its cache reads."""
    prompt_cache_hit_tokens: _Count = None
    """Where DeepSeek puts them besides."""


@prepared
class _Responses(msgspec.Struct, gc=False):
    tokens_in: _Count = msgspec.field(name="input_tokens", default=None)
    tokens_out: _Count = msgspec.field(name="output_tokens", default=None)
    in_details: _InDetails | None = msgspec.field(name="input_tokens_details", default=None)
    out_details: _OutDetails | None = msgspec.field(name="output_tokens_details", default=None)
    total_tokens: Any = None
    cached_tokens: _Count = None
    prompt_cache_hit_tokens: _Count = None


class _Split(msgspec.Struct, gc=False):
    short: _Count = msgspec.field(name="ephemeral_5m_input_tokens", default=None)
    long: _Count = msgspec.field(name="ephemeral_1h_input_tokens", default=None)


@prepared
class _Anthropic(msgspec.Struct, gc=False):
    fresh: _Count = msgspec.field(name="input_tokens", default=None)
    tokens_out: _Count = msgspec.field(name="output_tokens", default=None)
    read: _Count = msgspec.field(name="cache_read_input_tokens", default=None)
    written: _Count = msgspec.field(name="cache_creation_input_tokens", default=None)
    split: _Split | None = msgspec.field(name="cache_creation", default=None)
    out_details: _OutDetails | None = msgspec.field(name="output_tokens_details", default=None)
    tools: Any = msgspec.field(name="server_tool_use", default=None)


class _CacheDetail(msgspec.Struct, gc=False):
    ttl: str | None = None
    tokens: _Count = msgspec.field(name="inputTokens", default=None)


@prepared
class _Converse(msgspec.Struct, gc=False):
    fresh: _Count = msgspec.field(name="inputTokens", default=None)
    tokens_out: _Count = msgspec.field(name="outputTokens", default=None)
    read: _Count = msgspec.field(name="cacheReadInputTokens", default=None)
    written: _Count = msgspec.field(name="cacheWriteInputTokens", default=None)
    details: list[_CacheDetail] | None = msgspec.field(name="cacheDetails", default=None)


def read_usage(usage: object, api: str, tool_counts: _ToolCounts = None) -> _Read:
    """Read a provider's usage object. Never raises.

    For an Anthropic answer with ``usage.iterations`` the tokens are the top-level ones, as the provider states them,
    although compaction and advisor tokens are billed on top: the price sums the iterations, the vector does not.

    Args:
        usage: The decoded usage object, or None.
        api: One of ``APIS``.
        tool_counts: Server-side tool calls seen in the answer, by ``UsageVector`` field or by the provider's item type
            (``web_search_call``, ``web_search_preview_call``, ...). Counts in an Anthropic usage itself win.

    Returns:
        The vector and the notes (see ``turnpike.pricing.NOTES``). The vector is None without usage (``no_usage``),
        for an unknown api, and when a total is malformed. When only the parts are malformed or do not fit, the vector
        holds the totals alone and the note is ``malformed_usage`` or ``inconsistent_usage``.
    """
    if not usage:
        return None, ("no_usage",)
    reader = _READERS.get(api)
    if reader is None:
        return None, ("unknown_api",)
    try:
        return reader(usage, tool_counts)
    except msgspec.ValidationError:
        pass
    try:
        return reader(_with_whole_floats(usage), tool_counts)
    except msgspec.ValidationError:
        return _totals_only(usage, _TOTALS[api])


def _read_chat(usage: object, tool_counts: _ToolCounts) -> _Read:
    return _inclusive(msgspec.convert(usage, _Chat), tool_counts)


def _read_responses(usage: object, tool_counts: _ToolCounts) -> _Read:
    return _inclusive(msgspec.convert(usage, _Responses), tool_counts)


def _read_embeddings(usage: object, _tool_counts: _ToolCounts) -> _Read:
    tokens_in = msgspec.convert(usage, _Chat).tokens_in
    if tokens_in is None:
        return None, ("no_usage",)
    # An embedding has no output by nature, so this zero is known and not a missing count.
    return UsageVector(tokens_in, 0), ()


def _inclusive(usage: _Chat | _Responses, tool_counts: _ToolCounts) -> _Read:
    """Read a format whose input count includes what was cached."""
    tokens_in, tokens_out = usage.tokens_in, usage.tokens_out
    if tokens_in is None and tokens_out is None:
        return None, ("no_usage",)
    tools, notes = _count_tools(tool_counts) if tool_counts else (_NO_TOOLS, ())
    details = usage.in_details or _NO_IN_DETAILS
    out_details = usage.out_details or _NO_OUT_DETAILS
    reasoning = out_details.reasoning_tokens or 0
    if reasoning and usage.total_tokens == (tokens_in or 0) + (tokens_out or 0) + reasoning:
        # xAI's chat format counts reasoning beside completion_tokens; only the total gives it away.
        tokens_out = (tokens_out or 0) + reasoning
    vector = UsageVector(
        tokens_in,
        tokens_out,
        details.cached_tokens or usage.cached_tokens or usage.prompt_cache_hit_tokens or 0,
        details.cache_write_tokens or 0,
        0,
        details.audio_tokens or 0,
        (details.cached_tokens_details.audio_tokens or 0) if details.cached_tokens_details else 0,
        details.image_tokens or 0,
        out_details.audio_tokens or 0,
        reasoning,
        *tools,
    )
    if type(usage.total_tokens) is int and usage.total_tokens > (tokens_in or 0) + (tokens_out or 0):
        # Gemini's OpenAI-compatible endpoint leaves its thinking tokens out of everything but the total.
        notes += ("tokens_unaccounted",)
    return _checked(vector, notes)


def _read_anthropic(usage: object, tool_counts: _ToolCounts) -> _Read:
    read = msgspec.convert(usage, _Anthropic)
    split = (read.split.short, read.split.long) if read.split else (None, None)
    reasoning = (read.out_details.thinking_tokens or 0) if read.out_details else 0
    return _exclusive(read, split, reasoning, read.tools or tool_counts)


def _read_converse(usage: object, tool_counts: _ToolCounts) -> _Read:
    read = msgspec.convert(usage, _Converse)
    tokens = {detail.ttl: detail.tokens for detail in read.details or ()}
    return _exclusive(read, (tokens.get("5m"), tokens.get("1h")), 0, tool_counts)


def _exclusive(
    usage: _Anthropic | _Converse,
    split: tuple[int | None, int | None],
    reasoning: int,
    tool_counts: Any,
) -> _Read:
    """Read a format whose input count leaves cache reads and writes out."""
    tokens_out = usage.tokens_out
    if usage.fresh is None:
        return (None, ("no_usage",)) if tokens_out is None else _checked(UsageVector(None, tokens_out), ())
    read = usage.read or 0
    long = split[1] or 0
    known = (split[0] or 0) + long
    written = known if usage.written is None else usage.written
    tokens_in = usage.fresh + read + written
    if known > written:
        return UsageVector(tokens_in, tokens_out), ("inconsistent_usage",)
    tools, notes = _count_tools(tool_counts) if tool_counts else (_NO_TOOLS, ())
    if known < written and split != (None, None):
        notes += ("cache_split_incomplete",)
    # Without a split all writes have the ordinary five-minute lifetime (Anthropic's default).
    vector = UsageVector(tokens_in, tokens_out, read, written - long, long, 0, 0, 0, 0, reasoning, *tools)
    return _checked(vector, notes)


def _count_tools(counts: Any) -> tuple[_Tools, tuple[str, ...]]:
    """Counts of the tools that the vector names, and a note for each other tool that was used."""
    found = [0, 0, 0]
    notes: tuple[str, ...] = ()
    if not isinstance(counts, Mapping):
        raise msgspec.ValidationError("tool counts must be an object")
    for name, number in counts.items():
        if not number:
            continue
        slot = _TOOL_SLOTS.get(name)
        if slot is not None:
            if type(number) is not int or number < 0:
                raise msgspec.ValidationError(f"{name} must be a non-negative whole number")
            found[slot] += number
        elif name not in _FREE_TOOLS:
            # The name came over the wire; only plain letters of it go into a note that is logged.
            notes += (f"tool_fee_unknown:{re.sub(r'[^a-z0-9_]', '_', str(name).lower())[:40]}",)
    return (found[_WEB], found[_FILE], found[_CODE]), notes


def _checked(vector: UsageVector, notes: tuple[str, ...]) -> _Read:
    """Drop parts that do not fit into their totals, and say what is missing."""
    tokens_in, tokens_out = vector.tokens_in, vector.tokens_out
    if vector.reasoning > (tokens_out or 0) or not _input_fits(vector, tokens_in or 0):
        return UsageVector(tokens_in, tokens_out), ("inconsistent_usage",)
    if tokens_out is None:
        notes += ("output_tokens_missing",)
    if tokens_in is None:
        notes += ("input_tokens_missing",)
    return vector, notes


def _input_fits(vector: UsageVector, total: int) -> bool:
    """Cache classes and modalities are two cuts through the same input, so each is checked by itself."""
    read = vector.cache_read
    if read + vector.cache_write_5m + vector.cache_write_1h > total:
        return False
    audio = vector.audio_in
    if not (audio or vector.image_in or vector.audio_out or vector.cache_audio_read):
        return True
    return (
        audio + vector.image_in <= total
        and vector.cache_audio_read <= min(audio, read)
        and vector.audio_out <= (vector.tokens_out or 0)
    )


def _with_whole_floats(usage: Any) -> Any:
    """The same usage with ``12.0`` written as ``12``, as some servers should have."""
    if not isinstance(usage, Mapping):
        return usage
    return {
        name: {inner: _whole(count) for inner, count in value.items()} if isinstance(value, Mapping) else _whole(value)
        for name, value in usage.items()
    }


def _whole(count: Any) -> Any:
    return int(count) if isinstance(count, float) and count.is_integer() else count


def _totals_only(usage: Any, keys: tuple[tuple[str, ...], str]) -> _Read:
    """What is left of a usage whose parts cannot be read."""
    try:
        tokens_in = [msgspec.convert(usage.get(key), _Count) for key in keys[0]]
        tokens_out = msgspec.convert(usage.get(keys[1]), _Count)
    except (msgspec.ValidationError, AttributeError):
        return None, ("malformed_usage",)
    whole = None if tokens_in[0] is None else sum(count or 0 for count in tokens_in)
    return UsageVector(whole, tokens_out), ("malformed_usage",)


_READERS: Final[dict[str, Callable[[object, _ToolCounts], _Read]]] = {
    "openai-chat": _read_chat,
    "openai-responses": _read_responses,
    "openai-embeddings": _read_embeddings,
    "anthropic-messages": _read_anthropic,
    "bedrock-converse": _read_converse,
}
_TOTALS: Final = {
    "openai-chat": (("prompt_tokens",), "completion_tokens"),
    "openai-responses": (("input_tokens",), "output_tokens"),
    "openai-embeddings": (("prompt_tokens",), "completion_tokens"),
    "anthropic-messages": (
        ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        "output_tokens",
    ),
    "bedrock-converse": (("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"), "outputTokens"),
}
APIS: Final = frozenset(_READERS)
"""The wire formats whose usage is understood."""
