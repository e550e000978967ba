"""One request, read from any of the three wire formats into the same few facts.

Only what generation and billing need is kept; the format modules keep the raw body for the fields they echo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

IMAGE_TOKENS = 85
JSON_OBJECT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
}
_ENCODER = msgspec.json.Encoder(order="deterministic")


class BadRequest(Exception):  # noqa: N818 - named after the HTTP status it becomes
    """The request is refused before anything is generated: `status`, message, and OpenAI's `param` and `code`."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message: str = message
        self.status: int = status
        self.param: str | None = param
        self.code: str | None = code


class Segment(NamedTuple):
    """A stretch of the prompt: its text, tokens for what is not text, and a cache breakpoint (`5m`, `1h`) after it."""

    text: str
    extra_tokens: int = 0
    ttl: str | None = None


class Tool(NamedTuple):
    """A function the model may call, and the JSON schema of its arguments."""

    name: str
    schema: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Ask:
    """What one request asks for. `tool_choice` is `auto`, `none`, `required` or `name:<tool>`."""

    api: str
    model: str
    body: Mapping[str, Any]
    segments: list[Segment]
    seed: bytes
    last_user_text: str = ""
    after_tool_result: bool = False
    tools: list[Tool] = field(default_factory=list)
    tool_choice: str = "auto"
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = True
    json_schema: Mapping[str, Any] | None = None
    effort: str | None = None
    thinking_budget: int | None = None
    choices: int = 1


def seed_of(*parts: Any) -> bytes:
    """A stable hash of the model and the conversation, whatever the order of keys."""
    return blake2b(_ENCODER.encode(parts), digest_size=16).digest()


def as_json(value: Any) -> str:
    """`value` as compact JSON text with sorted keys."""
    return _ENCODER.encode(value).decode()


def required_list(body: Mapping[str, Any], name: str) -> list[Any]:
    """The list `body[name]`; raises BadRequest when it is missing, empty or no list."""
    value = body.get(name)
    if value is None:
        raise BadRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    if not isinstance(value, list):
        raise BadRequest(f"Invalid type for '{name}': expected an array.", param=name, code="invalid_type")
    if not value:
        raise BadRequest(f"Invalid '{name}': empty array.", param=name, code="empty_array")
    return value


def required_model(body: Mapping[str, Any]) -> str:
    """The model asked for; raises BadRequest when there is none."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter", param="model", code="missing_required_parameter")
    return model


def optional_count(body: Mapping[str, Any], *names: str) -> int | None:
    """The first of the named limits that is set; raises BadRequest when it is not a whole number from 1 up."""
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadRequest(
                f"Invalid '{name}': expected a whole number of at least 1.", param=name, code="integer_below_min_value"
            )
        return value
    return None


def flag(body: Mapping[str, Any], name: str) -> bool:
    """The truth of an optional boolean; raises BadRequest when it is something else."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"Invalid type for '{name}': expected a boolean.", param=name, code="invalid_type")
    return bool(value)


def object_at(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """`body[name]` when it is an object, else an empty one."""
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def flatten(content: Any) -> tuple[str, int]:
    """The text of a message's content, and the tokens of its images and files.

    Every image or file counts 85 tokens, OpenAI's figure for a low-detail image.
    """
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, Iterable) or isinstance(content, Mapping):
        return ("", 0) if content is None else (as_json(content), 0)
    texts: list[str] = []
    extra = 0
    for part in content:
        text, tokens = _flatten_part(part)
        texts.append(text)
        extra += tokens
    return "".join(texts), extra


def _flatten_part(part: Any) -> tuple[str, int]:
    if not isinstance(part, Mapping):
        return (part if isinstance(part, str) else as_json(part)), 0
    text = part.get("text")
    if isinstance(text, str):
        return text, 0
    if part.get("type") in {"image_url", "input_image", "image", "input_file", "file", "document", "input_audio"}:
        return "", IMAGE_TOKENS
    return as_json(part), 0
