"""Reading a history: what its entries are, where its turns begin, and which messages belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from turnpike.errors import InvalidRequestError
from turnpike.gateway.options import Message

__all__ = ["Turn", "is_system", "read_history", "read_message", "turns_of", "without_orphans"]

Turn = tuple[Message, ...]
"""A user's message and all that answers it, up to the user's next one."""


def read_history(history: Any) -> list[Message]:
    """Return the messages of a history, oldest first.

    An entry is a message such as ``{"role": "user", "content": "Hello"}``, kept as it is, or plain text. Text is the
    user's at the beginning and after an answer, and the assistant's after the user's; so in a history of texts alone, the
    1st, 3rd, 5th ... are the user's.

    Raises:
        InvalidRequestError: naming the entry that is neither.
    """
    if isinstance(history, (str, bytes, Mapping)) or not isinstance(history, Sequence):
        raise InvalidRequestError(f"history must be a list of texts or messages; got {type(history).__name__}.")
    messages: list[Message] = []
    last_role = ""
    for index, entry in enumerate(history):
        if isinstance(entry, str):
            message: Message = {"role": "assistant" if last_role == "user" else "user", "content": entry}
        else:
            _check(f"history[{index}]", entry)
            message = entry
        messages.append(message)
        if not is_system(message):
            last_role = message.get("role", "")
    return messages


def read_message(message: Any) -> Message:
    """Return the newest message: the user's text, or a message of any role.

    Raises:
        InvalidRequestError: if it is neither, or is empty.
    """
    if isinstance(message, str):
        if not message:
            raise InvalidRequestError("message is empty: pass the text of the user's message.")
        return {"role": "user", "content": message}
    _check("message", message)
    checked: Message = message
    return checked


def _check(where: str, message: Any) -> None:
    if not isinstance(message, Mapping):
        raise InvalidRequestError(
            f"{where} must be text or a mapping with 'role' and 'content'; got {type(message).__name__}."
        )
    if isinstance(message.get("role"), str) and message["role"]:
        if "content" not in message and "tool_calls" not in message:
            raise InvalidRequestError(f"{where} has no 'content'.")
    # Items of the Responses API (function_call_output, reasoning, ...) have a type instead of a role.
    elif not isinstance(message.get("type"), str):
        raise InvalidRequestError(f"{where} has no 'role': write 'system', 'user', 'assistant' or 'tool'.")


def is_system(message: Message) -> bool:
    """Whether a message instructs the model, rather than being part of the conversation."""
    return message.get("role") in ("system", "developer")


# -------------------------------------------------------------------------------------------- calls and results


def _parts(message: Message) -> Sequence[Mapping[str, Any]]:
    content = message.get("content")
    if not isinstance(content, (list, tuple)):
        return ()
    return [part for part in content if isinstance(part, Mapping)]


def _call_ids(message: Message) -> Iterator[str]:
    """Yield the ids of the tool calls in a message, in the form of any of the three APIs."""
    calls = message.get("tool_calls")
    if isinstance(calls, (list, tuple)):
        yield from _texts(call.get("id") for call in calls if isinstance(call, Mapping))
    if parts := _parts(message):
        yield from _texts(part.get("id") for part in parts if part.get("type") == "tool_use")
    if str(message.get("type", "")).endswith("_call"):
        yield from _texts([message.get("call_id")])


def _texts(values: Iterable[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


def _result_ids(message: Message) -> list[Any]:
    """Return the ids of the calls that a message answers."""
    found = [part.get("tool_use_id") for part in _parts(message) if part.get("type") == "tool_result"]
    if message.get("role") == "tool":
        found.append(message.get("tool_call_id"))
    if "role" not in message and str(message.get("type", "")).endswith("_call_output"):
        found.append(message.get("call_id"))
    return found


def without_orphans(messages: Iterable[Message]) -> list[Message]:
    """Return the messages without tool results whose call is not before them: no provider takes such a conversation.

    A history that was cut at a fixed number of messages begins with them now and then.
    """
    called: set[str] = set()
    kept: list[Message] = []
    for message in messages:
        if all(isinstance(answered, str) and answered in called for answered in _result_ids(message)):
            kept.append(message)
        elif message.get("role") != "tool" and (rest := [part for part in _parts(message) if _is_known(part, called)]):
            kept.append({**message, "content": rest})
        called.update(_call_ids(message))
    return kept


def _is_known(part: Mapping[str, Any], called: set[str]) -> bool:
    if part.get("type") != "tool_result":
        return True
    answered = part.get("tool_use_id")
    return isinstance(answered, str) and answered in called


# ------------------------------------------------------------------------------------------------------- turns


def turns_of(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """Cut a conversation into turns. A tool call and its result are always in the same one.

    System messages at the beginning belong to the first turn; anything else before the user's first message is a turn of
    its own.
    """
    answered_at = _answered_at(messages)
    turns: list[list[Message]] = []
    open_until = -1
    has_words = True
    for index, message in enumerate(messages):
        if not turns or (has_words and index > open_until and _begins_turn(message)):
            turns.append([])
            has_words = False
        turns[-1].append(message)
        has_words = has_words or not is_system(message)
        open_until = max(open_until, answered_at.get(index, -1))
    return tuple(tuple(turn) for turn in turns)


def _begins_turn(message: Message) -> bool:
    return message.get("role") == "user" and not _result_ids(message)


def _answered_at(messages: Sequence[Message]) -> dict[int, int]:
    """Return, for each message with tool calls, where the last result of any of them stands."""
    called_at: dict[str, int] = {}
    answered_at: dict[int, int] = {}
    for index, message in enumerate(messages):
        for answered in _result_ids(message):
            if isinstance(answered, str) and answered in called_at:
                answered_at[called_at[answered]] = index
        called_at.update((call_id, index) for call_id in _call_ids(message))
    return answered_at
