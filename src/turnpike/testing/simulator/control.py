"""The simulator's own endpoints, for tests that reach it only over HTTP.

`GET /__bills?since=N`, `GET /__requests?since=N`, `GET /__stats__`, `POST /__reset`, `POST /__script` with a behaviour,
`{"behaviours": [...], "model": ..., "api": ..., "key": ..., "path": ...}` or `{"default": {...}}`, and
`GET /__set__/key=value,key=value`, which makes those options the default. They are never counted, billed or recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import msgspec

from turnpike.testing.simulator.behaviour import Behaviour
from turnpike.testing.simulator.heads import plain_head
from turnpike.testing.simulator.playback import Performance, Write

if TYPE_CHECKING:
    from turnpike.testing.simulator.simulator import Simulator

PREFIX = "/__"
_FILTERS = ("model", "api", "key", "path")


def control(simulator: Simulator, method: str, target: str, body: bytes) -> Performance:
    """Answer a control request."""
    path, _, query = target.partition("?")
    try:
        status, answer = _dispatch(simulator, method, path, query, body)
    except ValueError as complaint:
        status, answer = 400, {"error": str(complaint)}
    raw = msgspec.json.encode(answer)
    return Performance([Write(0.0, plain_head(status, len(raw)) + raw)])


def _dispatch(simulator: Simulator, method: str, path: str, query: str, body: bytes) -> tuple[int, Any]:
    if path.startswith("/__set__/"):
        behaviour = Behaviour.from_options(unquote(path.removeprefix("/__set__/")))
        simulator.default(behaviour)
        return 200, msgspec.to_builtins(behaviour)
    if method == "GET":
        reader = _READERS.get(path)
        return (
            (404, {"error": f"no control endpoint GET {path}"}) if reader is None else (200, reader(simulator, query))
        )
    if method == "POST" and path == "/__reset":
        simulator.reset()
        return 200, {}
    if method == "POST" and path == "/__script":
        _script(simulator, body)
        return 200, {}
    return 404, {"error": f"no control endpoint {method} {path}"}


def _since(query: str) -> int:
    value = parse_qs(query).get("since", ["0"])[0]
    if not value.isdecimal():
        raise ValueError(f"since is {value!r}; write a whole number from 0 up.")
    return int(value)


_READERS: dict[str, Callable[[Simulator, str], Any]] = {
    "/__bills": lambda simulator, query: [bill.as_dict() for bill in simulator.bills(_since(query))],
    "/__requests": lambda simulator, query: [request.as_dict() for request in simulator.requests(_since(query))],
    "/__stats__": lambda simulator, query: simulator.stats(),
    "/__stats": lambda simulator, query: simulator.stats(),
}


def _script(simulator: Simulator, body: bytes) -> None:
    try:
        given = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as broken:
        raise ValueError(f"the body is no behaviour ({broken}); write a JSON object of Behaviour's fields.") from None
    if "default" in given:
        simulator.default(_behaviour(given["default"]))
    if "behaviours" in given:
        unknown = set(given) - {"behaviours", "default", *_FILTERS}
        if unknown:
            raise ValueError(
                f"/__script has no field {', '.join(sorted(unknown))}; beside behaviours write {_FILTERS}."
            )
        filters = {name: given[name] for name in _FILTERS if name in given}
        simulator.script(*(_behaviour(item) for item in given["behaviours"]), **filters)
    elif "default" not in given:
        simulator.script(_behaviour(given))


def _behaviour(value: Any) -> Behaviour:
    if isinstance(value, Mapping):
        return Behaviour.from_mapping(value)
    raise ValueError(f"a behaviour is {value!r}; write a JSON object.")
