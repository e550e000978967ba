"""The options of a call: their names, their types, and the checks that come before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypedDict

from turnpike.context import LLMRequestContext
from turnpike.errors import InvalidRequestError

__all__ = ["GENERATION_OPTIONS", "CallOptions", "Message", "Prompt", "check_options", "to_messages"]

Message = Mapping[str, Any]
"""One message of a conversation, in the shape of OpenAI's Chat Completions: ``{"role": ..., "content": ...}``."""

Prompt = str | Sequence[Message]
"""A single user message, or a conversation."""


class CallOptions(TypedDict, total=False):
    """Keyword options of ``call``, ``call_sync``, ``stream`` and ``stream_sync``.

    The first group says what is asked for and on whose account, the second is handed to the provider, which must declare
    each option that it supports.
    """

    tier: str
    """Name of a model tier of the route's policy or of the settings."""
    model: str
    """A model id, instead of a tier."""
    provider: str
    """Name of a registered provider, where the tier or policy does not settle it."""
    route: str
    """Route name; inside a request it is the route's template unless given."""
    context: LLMRequestContext
    """Attribution, laid over the one bound to the request."""
    metadata: Mapping[str, Any]
    """Keys of your own for the ledger line; never sent to the provider."""
    max_output_tokens: int
    """Bound of the answer in tokens; the route's policy is the ceiling."""
    timeout: float
    """Deadline of this call in seconds, retries included."""

    temperature: float
    top_p: float
    stop: str | Sequence[str]
    """Sequences that end the answer."""
    seed: int
    system: str
    """System instruction, put before the conversation."""
    tools: Sequence[Mapping[str, Any]]
    """Tools in OpenAI's function form (translated for other APIs) or in the provider's own."""
    tool_choice: str | Mapping[str, Any]
    """``auto``, ``none``, ``required``, or the name of one tool; a mapping is sent as it is."""
    response_format: Mapping[str, Any]
    """``{"type": "json_object"}`` or ``{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}``."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    extra: Mapping[str, Any]
    """Top-level keys of the provider's request body that have no option here."""


GENERATION_OPTIONS = frozenset(
    (
        "temperature",
        "top_p",
        "stop",
        "seed",
        "system",
        "tools",
        "tool_choice",
        "response_format",
        "reasoning_effort",
        "extra",
    )
)
"""Options that reach a provider, and only one that declares them."""

_NAMES = frozenset(CallOptions.__annotations__)
_NUMBERS = ("temperature", "top_p", "timeout")
_TEXTS = ("tier", "model", "provider", "route", "system", "reasoning_effort")
_OWNED = frozenset(
    (
        "model",
        "messages",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
    )
)
"""Keys of a request body that extra may not set, because limits and books rest on them."""
_MAPPINGS = ("metadata", "response_format", "extra")


def to_messages(prompt: Any) -> list[Message]:
    """Return the conversation that ``prompt`` stands for.

    Raises:
        InvalidRequestError: if it is neither text nor a list of messages, or is empty.
    """
    if isinstance(prompt, str):
        if not prompt:
            raise InvalidRequestError("The prompt is empty: pass the text of the user's message.")
        return [{"role": "user", "content": prompt}]
    if prompt is None:
        raise InvalidRequestError("A prompt or messages must be provided.")
    if isinstance(prompt, (bytes, Mapping)) or not isinstance(prompt, Sequence):
        raise InvalidRequestError(
            "A prompt must be a str or a list of messages such as {'role': 'user', 'content': 'Hello'}; "
            f"got {type(prompt).__name__}."
        )
    if not prompt:
        raise InvalidRequestError("messages is empty: pass at least one message.")
    for index, message in enumerate(prompt):
        _check_message(index, message)
    return list(prompt)


def _check_message(index: int, message: Any) -> None:
    if not isinstance(message, Mapping):
        raise InvalidRequestError(
            f"messages[{index}] must be a mapping with 'role' and 'content'; got {type(message).__name__}."
        )
    role = message.get("role")
    if not isinstance(role, str) or not role:
        # Items of the Responses API (function_call_output, reasoning, ...) have a type instead of a role.
        if isinstance(message.get("type"), str):
            return
        raise InvalidRequestError(f"messages[{index}] has no 'role': write 'system', 'user', 'assistant' or 'tool'.")
    if "content" not in message and "tool_calls" not in message:
        raise InvalidRequestError(f"messages[{index}] has no 'content'.")


def check_options(options: Mapping[str, Any]) -> None:
    """Check names and types of ``options``.

    Raises:
        InvalidRequestError: naming the option and what it must be.
    """
    for name, value in options.items():
        if name not in _NAMES:
            close = get_close_matches(name, _NAMES, 1)
            hint = f" Did you mean '{close[0]}'?" if close else f" Options: {', '.join(sorted(_NAMES))}."
            raise InvalidRequestError(f"Unknown option '{name}'.{hint}")
        if value is not None:
            _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    if name in _NUMBERS:
        _require(isinstance(value, (int, float)) and not isinstance(value, bool), name, "a number", value)
        if name == "timeout" and not 0 < value < math.inf:
            raise InvalidRequestError(f"timeout must be a positive, finite number of seconds; got {value!r}.")
        if not math.isfinite(value):
            raise InvalidRequestError(f"{name} must be a finite number; got {value!r}.")
    elif name in _TEXTS:
        _require(isinstance(value, str) and bool(value), name, "a non-empty str", value)
    elif name in _MAPPINGS:
        _require(isinstance(value, Mapping), name, "a mapping", value)
        if name == "extra" and (owned := _OWNED & value.keys()):
            raise InvalidRequestError(
                f"extra cannot set {', '.join(sorted(owned))}: the gateway accounts for these; use the prompt, model=, "
                "stream() and max_output_tokens=."
            )
    elif name == "context":
        _require(isinstance(value, LLMRequestContext), name, "an LLMRequestContext", value)
    elif name in ("seed", "max_output_tokens"):
        _require(type(value) is int, name, "an int", value)
        if name == "max_output_tokens" and value < 1:
            raise InvalidRequestError(f"max_output_tokens must be at least 1; got {value}.")
    else:
        _check_sequence(name, value)


def _check_sequence(name: str, value: Any) -> None:
    if name == "tool_choice":
        _require(
            isinstance(value, (str, Mapping)), name, "'auto', 'none', 'required', a tool's name or a mapping", value
        )
    elif name == "stop":
        texts = [value] if isinstance(value, str) else value
        valid = isinstance(texts, Sequence) and all(isinstance(text, str) for text in texts)
        _require(valid, name, "a str or a list of str", value)
    elif name == "tools":
        valid = isinstance(value, Sequence) and all(isinstance(tool, Mapping) for tool in value)
        _require(valid, name, "a list of mappings", value)


def _require(valid: bool, name: str, what: str, value: Any) -> None:
    if not valid:
        # The value itself may be a prompt, so only its type is named.
        raise InvalidRequestError(f"{name} must be {what}; got {type(value).__name__}.")
