"""Clocks that stand still, and Redis servers to fail in every way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .redis_process import RedisProcess


class Clock:
    """Both of a gateway's clocks, moved by hand.

    Attributes:
        ms: the time in milliseconds; whole eighths of a second are exact as seconds too.
    """

    def __init__(self, ms: int = 1_000_000) -> None:
        self.ms = ms

    def monotonic(self) -> float:
        return self.ms / 1000

    def time(self) -> float:
        return self.ms / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    yield server
    server.end()


@pytest.fixture
def redis(shared_redis: RedisProcess) -> RedisProcess:
    """An empty server, to be left as it is."""
    shared_redis.admin.flushall()
    return shared_redis


@pytest.fixture
def frail_redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server of the test's own, to be stopped and spoilt."""
    server = RedisProcess(tmp_path)
    yield server
    server.resume()
    server.end()
