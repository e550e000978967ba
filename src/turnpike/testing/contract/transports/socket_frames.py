"""As much of RFC 6455 as a client of the contract service needs: a handshake and unfragmented text messages."""

from __future__ import annotations

import base64
import os
import socket
import struct
from http.client import HTTPResponse
from typing import Self

from turnpike.testing.contract.transports.interface import Headers, Response, text_of

__all__ = ["SocketWebSocket"]

_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class SocketWebSocket:
    """A WebSocket over an open TCP connection."""

    def __init__(self, peer: socket.socket, path: str, host: bytes, headers: Headers) -> None:
        self._peer = peer
        lines = [
            f"GET {path} HTTP/1.1".encode("ascii"),
            b"Host: " + host,
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)),
            *(name + b": " + value for name, value in headers),
        ]
        peer.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        self._response = HTTPResponse(peer, method="GET")
        self._response.begin()
        self.headers: tuple[tuple[str, str], ...] = text_of(self._response.getheaders())
        self.denial: Response | None = None
        if self._response.status != 101:
            self.denial = Response(self._response.status, self.headers, self._response.read())

    def ask(self, text: str) -> str:
        """Send a message and return the next one that comes."""
        self._send(_TEXT, text.encode())
        while True:
            kind, payload = self._receive()
            if kind == _TEXT:
                return payload.decode()
            assert kind != _CLOSE, "the server has closed the WebSocket"
            if kind == _PING:
                self._send(_PONG, payload)

    def leave(self) -> None:
        """Say goodbye, and hang up."""
        if self._peer.fileno() >= 0:
            if self.denial is None:
                self._send(_CLOSE, struct.pack("!H", 1000))
            self._response.close()
            self._peer.close()

    def _send(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._peer.sendall(bytes([0x80 | kind]) + length + mask + masked)

    def _receive(self) -> tuple[int, bytes]:
        head = self._read(2)
        size = head[1] & 0x7F
        if size == 126:
            size = struct.unpack("!H", self._read(2))[0]
        assert size < 127, "a message of the contract service is short"
        return head[0] & 0x0F, self._read(size)

    def _read(self, size: int) -> bytes:
        data = self._response.fp.read(size)
        assert len(data) == size, "the server has hung up"
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
