"""HTTP/1.1 connections: h11 reads requests, a `Performance` is played back, faults are done to the socket itself.

Responses are written as ready bytes, so that a body can be cut, delayed or reset at any byte. A connection must never
block the loop: waits are timers, a hang is no timer at all.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from turnpike.testing.simulator.playback import CLOSE, DONE, HANG, RESET, Performance, Write

try:
    import h11
except ImportError as _missing:
    raise ImportError(
        "turnpike.testing.simulator needs the package h11, which is not installed; run: pip install 'turnpike[testing]'"
    ) from _missing

MAX_BODY_BYTES = 64 * 1024 * 1024
_LINGER_0 = struct.pack("ii", 1, 0)
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BAD = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Answering = Callable[[str, str, dict[str, str], bytes], Performance]


class Connections(Protocol):
    """What a connection tells its server."""

    def opened(self, connection: Connection) -> None:
        """A client connected."""

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""

    def began(self) -> None:
        """A response began."""

    def ended(self) -> None:
        """A response ended, in whatever way."""


class Connection(asyncio.Protocol):
    """One client connection: requests in order, one response at a time."""

    def __init__(self, answering: Answering, connections: Connections) -> None:
        self._answering, self._connections = answering, connections
        self._h11 = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._performance: Performance | None = None
        self._position = self._sent = 0
        self._usage_sent = False
        self._keep_alive = True
        self._timer: asyncio.TimerHandle | None = None
        self._paused = self._stalled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._loop = asyncio.get_running_loop()
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or this side ended the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._performance is not None:
            self._finish(aborted=True)
        self._connections.closed(self)

    def eof_received(self) -> bool:
        """A client that ends its side has left: HTTP clients do not half-close."""
        if self._performance is not None:
            self._transport.abort()
        return False

    def abort(self) -> None:
        """Drop the connection because the server stops."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of one or more requests."""
        try:
            if data:
                self._h11.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError:
            self._transport.write(_BAD)
            self._transport.close()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client caught up."""
        self._paused = False
        if self._stalled:
            self._stalled = False
            self._play()

    def _advance(self) -> None:
        while self._performance is None and not self._transport.is_closing():
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    self._h11.send(h11.InformationalResponse(status_code=100, headers=[]))
                    self._transport.write(_CONTINUE)
                return
            if isinstance(event, h11.Request):
                self._request, self._body, self._size = event, [], 0
            elif isinstance(event, h11.Data):
                self._add(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._begin()
            else:
                self._transport.close()
                return

    def _add(self, data: bytes) -> None:
        self._body.append(bytes(data))
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            self._transport.write(_TOO_LARGE)
            self._transport.close()

    def _begin(self) -> None:
        request = self._request
        if request is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        self._keep_alive = request.http_version != b"1.0" and "close" not in headers.get("connection", "").lower()
        self._connections.began()
        method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
        self._performance = self._answering(method, target, headers, b"".join(self._body))
        self._position = self._sent = 0
        self._usage_sent = False
        self._play(wait=True)

    def _play(self, *, wait: bool = True) -> None:
        """Write what is due; a write with a wait is left to a timer, which calls again with `wait` off."""
        self._timer = None
        performance = self._performance
        if performance is None:
            return
        while self._position < len(performance.writes):
            if self._transport.is_closing():
                return
            if self._paused:
                self._stalled = True
                return
            write = performance.writes[self._position]
            if wait and write.wait_s > 0:
                self._timer = self._loop.call_later(write.wait_s, lambda: self._play(wait=False))
                return
            wait = True
            self._position += 1
            self._write(write, last=self._position == len(performance.writes))
        if self._performance is performance:
            self._end(performance.ending)

    def _write(self, write: Write, *, last: bool) -> None:
        self._sent = max(self._sent, write.output_tokens)
        self._usage_sent = self._usage_sent or write.carries_usage
        performance = self._performance
        if last and performance is not None and performance.ending != HANG:
            # The client may act on the last byte before this thread runs on, so the books are closed first.
            self._settle(aborted=False)
        if write.data:
            self._transport.write(write.data)

    def _settle(self, *, aborted: bool) -> None:
        performance = self._performance
        if performance is not None and performance.finish is not None:
            performance.finish(self._sent, self._usage_sent, aborted)
            performance.finish = None

    def _finish(self, *, aborted: bool) -> None:
        self._settle(aborted=aborted)
        self._performance = None
        self._connections.ended()

    def _end(self, ending: str) -> None:
        if ending == HANG:
            return
        self._finish(aborted=False)
        if ending == RESET:
            sock: socket.socket = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            self._transport.abort()
        elif ending == CLOSE or not self._keep_alive:
            self._transport.close()
        elif ending == DONE:
            self._next()

    def _next(self) -> None:
        trailing, _ = self._h11.trailing_data
        self._h11 = h11.Connection(h11.SERVER)
        self._request = None
        if trailing:
            self._h11.receive_data(trailing)
            self._loop.call_soon(self.data_received, b"")
