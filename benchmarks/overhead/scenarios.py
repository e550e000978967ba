"""What is asked of every subject: how many calls, of which kind, how many at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Scenario:
    """One line of questions, put to every subject alike."""

    name: str
    title: str
    calls: int
    warm_up: int
    stream: bool = False
    sync: bool = False
    in_flight: int = 1
    messages: int = 4
    chunks: int = 200
    delay_ms: int = 0
    """The server's answer begins after this time; without it, calls in flight would not overlap."""
    gap_ms: int = 0
    """Time between the chunks of a stream; 0 sends it in one go, as much as fits into the socket."""

    def server_options(self) -> str:
        """What to tell the simulator."""
        return f"chunks={self.chunks},delay_ms={self.delay_ms},gap_ms={self.gap_ms}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_CALL_1 = Scenario("call-1", "one call at a time, 4 messages", 120, 15)
_CALL_64 = Scenario("call-64", "64 calls in flight, 4 messages", 256, 64, in_flight=64, delay_ms=50)
_STREAM = Scenario("stream-200", "one stream at a time, 200 chunks sent at once", 14, 2, stream=True)

FULL = (
    _CALL_1,
    Scenario("call-1-20", "one call at a time, 20 messages", 80, 8, messages=20),
    Scenario("call-1-100", "one call at a time, 100 messages", 40, 4, messages=100),
    _CALL_64,
    Scenario("call-256", "256 calls in flight, 4 messages", 512, 256, in_flight=256, delay_ms=50),
    _STREAM,
    Scenario(
        "stream-paced",
        "16 streams in flight, 200 chunks, each sent by itself",
        16,
        16,
        stream=True,
        in_flight=16,
        gap_ms=5,
    ),
    Scenario("sync-1", "one blocking call at a time, 4 messages", 120, 15, sync=True),
    Scenario(
        "sync-stream-200", "one blocking stream at a time, 200 chunks sent at once", 14, 2, stream=True, sync=True
    ),
)
QUICK = (_CALL_1, _CALL_64, _STREAM)
