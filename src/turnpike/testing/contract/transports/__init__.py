"""Ways to reach an application: in this process over ASGI or WSGI, and over a socket. The cases see one interface."""

from turnpike.testing.contract.transports.asgi import ASGITransport
from turnpike.testing.contract.transports.interface import (
    Connection,
    Headers,
    Response,
    Streamed,
    Transport,
    WebSocket,
)
from turnpike.testing.contract.transports.sockets import SocketTransport
from turnpike.testing.contract.transports.wsgi import WSGITransport

__all__ = [
    "ASGITransport",
    "Connection",
    "Headers",
    "Response",
    "SocketTransport",
    "Streamed",
    "Transport",
    "WSGITransport",
    "WebSocket",
]
