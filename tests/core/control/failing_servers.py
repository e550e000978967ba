"""Servers that fail as networks and machines do: by silence, by delay, by losing replies."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Mute:
    """Accepts connections and bytes, and never answers.

    Attributes:
        url: where a Redis server would be.
    """

    def __init__(self) -> None:
        # The kernel accepts: nobody has to.
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listener.setblocking(False)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def connections(self) -> int:
        """How many connections came since this was asked last."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
                count += 1
        return count

    def end(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """The address of a server that does not even take a connection up: its queue is full, so packets are dropped."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


class Proxy:
    """Stands before a Redis server, and passes on as long as it is told to.

    Attributes:
        url: its own address.
        loses_replies: whether what the server answers is thrown away.
    """

    def __init__(self, port: int) -> None:
        self.loses_replies = False
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += (near, far)
                for pair in ((near, far, False), (far, near, True)):
                    thread = threading.Thread(target=self._pass_on, args=pair)
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (is_reply and self.loses_replies):
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()
