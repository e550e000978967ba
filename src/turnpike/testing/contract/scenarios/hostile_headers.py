"""Header lines that no client sends by accident.

Each is 401, or 400 where the server itself refuses it. None is ever 500, and none ever makes one tenant another.
"""

from __future__ import annotations

from turnpike.testing.contract.bench import Bench, Lines
from turnpike.testing.contract.expectations import check, equal, status
from turnpike.testing.contract.people import BETA, WEB
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.transports import Response

_KEY = b"X-API-Key"

HOSTILE: dict[str, Lines] = {
    "two keys, the good one first": [(_KEY, WEB.key), (_KEY, b"evil")],
    "two keys, the good one last": [(_KEY, b"evil"), (_KEY, WEB.key)],
    "the keys of two tenants": [(_KEY, WEB.key), (_KEY, BETA.key)],
    "two keys in one line": [(_KEY, WEB.key + b"," + BETA.key)],
    "underscores in the name": [(b"X_API_Key", WEB.key)],
    "a space behind the name": [(b"X-API-Key ", WEB.key)],
    "a control character in the name": [(b"X-API-Key\x0b", WEB.key)],
    "a bare LF and a second key": [(_KEY, WEB.key + b"\nX-API-Key: " + BETA.key)],
    "a bare LF and a tenant": [(_KEY, b"evil\nX-Tenant-Id: acme")],
    "a bare CR": [(_KEY, WEB.key + b"\rX-Tenant-Id: beta")],
    "a folded line": [(_KEY, b"evil\r\n " + WEB.key)],
    "NUL": [(_KEY, WEB.key + b"\x00")],
    "not ASCII": [(_KEY, WEB.key + b"\xc3\xa9")],
    "not UTF-8": [(_KEY, b"\xff\xfe" + WEB.key)],
    "70 kB": [(_KEY, WEB.key + b"k" * 70_000)],
}
"""Fifteen sets of lines, by what is wrong with them."""


def _answer(bench: Bench, lines: Lines) -> Response | None:
    """Return the response; ``None`` where the server has hung up instead, which real ones may."""
    try:
        return bench.send("call", None, headers=lines)
    except OSError:
        if bench.transport.is_in_process:
            raise
        return None


@case(each={name: (lines,) for name, lines in HOSTILE.items()})
def refused(bench: Bench, lines: Lines) -> None:
    """A hostile header line is refused, and does no harm to the next request."""
    response = _answer(bench, lines)
    if response is not None:
        check(
            response.status in (400, 401, 431), f"status: expected 401, found {response.status} {response.body[:200]!r}"
        )
    equal(len(bench.provider.requests), 0, "requests that reached the provider")
    equal(status(bench.send("call", WEB), 200).json()["text"], WEB.name, "who is bound in the next request")
