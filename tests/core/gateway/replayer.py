"""A server that answers with recorded bytes: whatever it is told next, in several writes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Recording:
    """One response: its status, its content type, its body, and whether it comes as a stream."""

    status: int
    content_type: str
    body: bytes
    streaming: bool


class Replayer:
    """Listens on the loopback in threads of its own and plays ``recording`` to every request."""

    def __init__(self) -> None:
        self.recording = Recording(500, "text/plain", b"nothing to replay", streaming=False)
        self.paths: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Base address, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        replayer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                replayer.paths.append(self.path)
                recording = replayer.recording
                self.send_response(recording.status)
                self.send_header("content-type", recording.content_type)
                if recording.streaming:
                    self._stream(recording.body)
                else:
                    self.send_header("content-length", str(len(recording.body)))
                    self.end_headers()
                    self.wfile.write(recording.body)

            def _stream(self, body: bytes) -> None:
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                # Odd sizes, so that events, lines and characters are cut anywhere; flushed, so that they arrive so.
                size = max(97, len(body) // 7)
                for start in range(0, len(body), size):
                    piece = body[start : start + size]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

        return Handler
