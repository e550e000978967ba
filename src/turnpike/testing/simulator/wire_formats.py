"""The wire formats that the simulator speaks, by the path that selects them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from turnpike.testing.simulator import anthropic_messages, openai_chat, openai_responses
from turnpike.testing.simulator.asking import Ask
from turnpike.testing.simulator.events import Event
from turnpike.testing.simulator.generation import Answer


class WireFormat(Protocol):
    """What a format module offers."""

    API: str

    def read(self, body: Mapping[str, Any]) -> Ask:
        """The facts of a request. Raises BadRequest."""

    def write(self, ask: Ask, answer: Answer) -> bytes:
        """The body of a JSON response."""

    def write_events(self, ask: Ask, answer: Answer) -> Iterator[Event]:
        """The events of a stream."""

    def error_event(self, error: Mapping[str, Any], kind: str, ask: Ask, answer: Answer, position: int) -> Event:
        """Event number `position` of a stream that fails."""

    def new_id(self, seed: bytes, sequence: int) -> str:
        """A response id."""


BY_PATH: dict[str, WireFormat] = {
    "/chat/completions": openai_chat,
    "/responses": openai_responses,
    "/messages": anthropic_messages,
}
BY_API: dict[str, WireFormat] = {wire_format.API: wire_format for wire_format in BY_PATH.values()}


def api_of(path: str) -> str | None:
    """The format that a path without its query selects; None when there is none."""
    return next((wire_format.API for end, wire_format in BY_PATH.items() if path.endswith(end)), None)
