"""A value that satisfies a JSON schema, built deterministically: required properties, filled by type.

It covers what tool definitions and structured outputs use (types, enum, const, default, formats, bounds, $ref,
anyOf/oneOf/allOf). It is no validator, and a schema it does not understand gets a null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MAX_DEPTH = 12
_FORMATS = {
    "date": "2026-11-21",
    "time": "09:30:00Z",
    "date-time": "2026-11-21T09:30:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "6f1b4c7e-9a55-4f2f-8d3c-9a109b1c6a52",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
    "duration": "PT1H",
}
_SAMPLES = ("Paris", "alpha", "blue", "invoice", "October", "Ada", "north", "summary")


def instance_of(schema: Mapping[str, Any], seed: bytes) -> Any:
    """A value for `schema`; the same seed gives the same value."""
    return _Filler(schema, seed).fill(schema, 0)


class _Filler:
    def __init__(self, root: Mapping[str, Any], seed: bytes) -> None:
        self._root, self._seed, self._drawn = root, seed, 0
        self._by_type: dict[str, Callable[[Mapping[str, Any], int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda schema, depth: self._draw() % 2 == 0,
            "null": lambda schema, depth: None,
        }

    def _draw(self) -> int:
        self._drawn += 1
        return self._seed[self._drawn % len(self._seed)]

    def fill(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return None
        schema = self._resolved(schema)
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        options = schema.get("enum") or schema.get("examples")
        if isinstance(options, list) and options:
            return options[self._draw() % len(options)]
        for name in ("anyOf", "oneOf"):
            if schema.get(name):
                return self.fill(schema[name][0], depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        build = self._by_type.get(kind) if isinstance(kind, str) else None
        return build(schema, depth) if build else None

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(MAX_DEPTH):
            pointer = schema.get("$ref")
            if not isinstance(pointer, str) or not pointer.startswith("#"):
                break
            target: Any = self._root
            for step in pointer.split("/")[1:]:
                target = target.get(step, {}) if isinstance(target, Mapping) else {}
            schema = target if isinstance(target, Mapping) else {}
        parts = schema.get("allOf")
        if not parts:
            return schema
        merged: dict[str, Any] = {name: value for name, value in schema.items() if name != "allOf"}
        for part in parts:
            merged.update(self._resolved(part) if isinstance(part, Mapping) else {})
        return merged

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        return {name: self.fill(properties.get(name, {}), depth + 1) for name in schema.get("required") or ()}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        count = max(int(schema.get("minItems", 1)), 0)
        return [self.fill(schema.get("items", {}), depth + 1) for _ in range(count)]

    def _string(self, schema: Mapping[str, Any], depth: int) -> str:
        value = _FORMATS.get(schema.get("format", "")) or _SAMPLES[self._draw() % len(_SAMPLES)]
        value = value.ljust(int(schema.get("minLength", 0)), "x")
        return value[: int(schema["maxLength"])] if "maxLength" in schema else value

    def _integer(self, schema: Mapping[str, Any], depth: int) -> int:
        return int(self._number(schema, depth))

    def _number(self, schema: Mapping[str, Any], depth: int) -> float:
        least = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        most = schema.get("maximum", schema.get("exclusiveMaximum", least + 101) - 1)
        value: float = min(least + self._draw() % 10, most) if most >= least else least
        return value
