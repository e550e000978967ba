"""Many requests of many tenants, interleaved on connections that are used again and again, and who was billed for each.

Run in full, for one stack or for all that are installed::

    python tests/servers/interleaving.py --requests 100000
    python tests/servers/interleaving.py --requests 100000 --stack flask-sync

Each connection takes its next request from any tenant, and the kinds of request are mixed: plain calls, streams opened in
the handler and in the body, calls at each step of a body, work after the response, threads, and open routes in between,
where nobody may be bound. Three things are compared with what was sent: what each response says of its tenant, the ledger's
lines by tenant, caller and route, and the number of those that name nobody.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from turnpike.testing.contract import Feature, Stack

try:
    from .contract_stacks import stack_called
    from .serving import ASGI_SERVERS, WSGI_SERVERS, Server, ledger_of, serving
except ImportError:  # run as a script
    from contract_stacks import stack_called  # type: ignore[import-not-found,no-redef]
    from serving import ASGI_SERVERS, WSGI_SERVERS, Server, ledger_of, serving  # type: ignore[import-not-found,no-redef]

SERVERS: dict[str, Server] = {
    **dict.fromkeys(
        (
            "asgi",
            "fastapi-async",
            "fastapi-sync",
            "litestar-async",
            "litestar-sync",
            "django-asgi-async",
            "django-asgi-sync",
        ),
        ASGI_SERVERS[0],
    ),
    **dict.fromkeys(("wsgi", "flask-sync", "flask-async", "django-wsgi-sync", "django-wsgi-async"), WSGI_SERVERS[1]),
}
"""The server on which each stack is run: uvicorn, and gunicorn with threads."""
STACKS = ("fastapi-async", "flask-sync", "django-wsgi-sync", "django-asgi-async", "litestar-async", "asgi", "wsgi")
CONNECTIONS = 16

Books = Counter[tuple[str, str, str]]
"""Calls by tenant, caller and route."""


@dataclass(frozen=True)
class Kind:
    """One kind of request: where it goes, how many calls it makes, and what its answer has to say of its tenant."""

    method: str
    path: str
    route: str
    calls: int
    is_right: Callable[[bytes, str, str], bool]


def _named(body: bytes, tenant: str, caller: str) -> bool:
    said = json.loads(body)
    return bool(said["tenant"] == tenant and said["bound"] == f"{tenant}/{caller}")


def _nobody(body: bytes, _tenant: str, _caller: str) -> bool:
    return bool(json.loads(body)["bound"] == "nobody")


def _whole_stream(body: bytes, _tenant: str, _caller: str) -> bool:
    return b'"finish_reason":"stop"' in body


def _named_at_each_step(body: bytes, tenant: str, caller: str) -> bool:
    return body.count(f" {tenant}/{caller}\n".encode()) == 3


KINDS = {
    Kind("POST", "/call/7", "/call/{number}", 1, _named): 8,
    Kind("POST", "/stream", "/stream", 1, _whole_stream): 4,
    Kind("POST", "/stream/late", "/stream/late", 1, _whole_stream): 2,
    Kind("POST", "/stream/steps", "/stream/steps", 3, _named_at_each_step): 2,
    Kind("POST", "/background", "/background", 2, _named): 4,
    Kind("POST", "/threads", "/threads", 4, _named): 1,
    Kind("GET", "/open", "/open", 0, _nobody): 3,
}
"""The kinds, with their weights in the mix."""


@dataclass
class Outcome:
    """What came of a run."""

    stack: str
    server: str
    requests: int = 0
    wrong_answers: list[str] = field(default_factory=list)
    sent: Books = field(default_factory=Counter)
    written: Books = field(default_factory=Counter)
    unattributed: int = 0
    seconds: float = 0.0

    @property
    def misattributed(self) -> int:
        """Calls on the ledger under another name than the one they were made for."""
        return sum((self.written - self.sent).values())

    @property
    def missing(self) -> int:
        """Calls that were made and are not on the ledger under their name."""
        return sum((self.sent - self.written).values())

    @property
    def is_clean(self) -> bool:
        return not (self.wrong_answers or self.misattributed or self.missing or self.unattributed)

    def __str__(self) -> str:
        return (
            f"{self.stack:<15} {self.server:<17} {self.requests:>7} requests {sum(self.sent.values()):>7} calls: "
            f"{self.misattributed} misattributed, {self.unattributed} unattributed, {self.missing} missing, "
            f"{len(self.wrong_answers)} wrong answers  ({self.seconds:.0f} s)"
        )


def run(stack: str, requests: int, tenants: int, folder: Path, *, seed: int = 1) -> Outcome:
    """Send ``requests`` requests of ``tenants`` tenants to ``stack`` and compare the books."""
    server = SERVERS[stack]
    outcome = Outcome(stack, server.name, requests)
    begun = time.monotonic()
    described = stack_called(stack)
    with serving(server, stack, folder, TURNPIKE_TEST_TENANTS=str(tenants)) as running:
        asyncio.run(_send_all(outcome, running.port, random.Random(seed), tenants, described))
        running.stop()  # background work has ended when the server has
    with ledger_of(folder).open("rb") as lines:
        for entry in map(json.loads, lines):
            outcome.unattributed += not entry["attributed"]
            outcome.written[entry["tenant_id"], entry.get("caller_id", ""), entry["route"]] += 1
    outcome.seconds = time.monotonic() - begun
    return outcome


async def _send_all(outcome: Outcome, port: int, rng: random.Random, tenants: int, stack: Stack) -> None:
    kinds, weights = list(KINDS), list(KINDS.values())
    if stack.why_not(Feature.BACKGROUND):  # the framework has no work after the response, and the route makes one call
        kinds = [replace(kind, calls=1) if kind.path == "/background" else kind for kind in kinds]
    plan = [(rng.choices(kinds, weights)[0], rng.randrange(tenants)) for _ in range(outcome.requests)]
    for kind, tenant in plan:
        if kind.calls:
            outcome.sent[f"tenant-{tenant}", f"caller-{tenant}", stack.template(kind.route)] += kind.calls
    waiting = iter(plan)

    async def use_a_connection() -> None:
        connection = Connection(port)
        for kind, tenant in waiting:
            status, body = await connection.ask(kind.method, kind.path, f"k-{tenant}" if kind.calls else None)
            names = f"tenant-{tenant}", f"caller-{tenant}"
            if status != 200 or not kind.is_right(body, *names):
                outcome.wrong_answers.append(f"{kind.path} of {names[0]}: {status} {body[:200]!r}")
        connection.close()

    await asyncio.gather(*(use_a_connection() for _ in range(CONNECTIONS)))


class Connection:
    """A keep-alive connection with as little between it and the wire as possible; it is opened anew when it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, key: str | None) -> tuple[int, bytes]:
        """Send a request and return status and body."""
        head = f"{method} {path} HTTP/1.1\r\nHost: service\r\nContent-Length: 0\r\n"
        request = (head + (f"X-API-Key: {key}\r\n" if key else "") + "\r\n").encode()
        if self._streams is not None:
            try:
                return await self._exchange(*self._streams, request)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.close()  # the server ended the connection before the request reached it
        self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return await self._exchange(*self._streams, request)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[int, bytes]:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        if "transfer-encoding: chunked" in head:
            body = await _chunked(reader)
        elif (at := head.find("content-length:")) >= 0:
            body = await reader.readexactly(int(head[at + 15 : head.index("\r\n", at)]))
        else:
            body = await reader.read()
        if "connection: close" in head:
            self.close()
        return status, body

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def main() -> None:
    """Run what the command line asks for; the exit code is 1 if anything was wrong."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--stack", action="append", choices=sorted(SERVERS), help="by default the seven of the table")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=100)
    arguments = parser.parse_args()
    clean = True
    for stack in arguments.stack or STACKS:
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(stack, arguments.requests, arguments.tenants, Path(folder))
        print(outcome, flush=True)  # noqa: T201
        for wrong in outcome.wrong_answers[:5]:
            print(f"    {wrong}")  # noqa: T201
        clean = clean and outcome.is_clean
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
