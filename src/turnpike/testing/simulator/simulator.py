"""`Simulator`: runs the server, in a thread of its own or on the running loop, and gives access to its books."""

from __future__ import annotations

import asyncio
import resource
import signal
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Self

from turnpike.testing.simulator.behaviour import Behaviour
from turnpike.testing.simulator.bill_book import Bill, fingerprint
from turnpike.testing.simulator.control import PREFIX, control
from turnpike.testing.simulator.playback import Performance
from turnpike.testing.simulator.provider import Provider
from turnpike.testing.simulator.received import ReceivedRequest
from turnpike.testing.simulator.server import Connection

_BACKLOG = 2048


class _Traffic:
    """Counts connections and answers under way, and lets another thread wait until there are none."""

    def __init__(self) -> None:
        self.open: set[Connection] = set()
        self.connections = 0
        self._answering = 0
        self._changed = threading.Condition()

    def opened(self, connection: Connection) -> None:
        self.open.add(connection)
        self.connections += 1

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)

    def began(self) -> None:
        with self._changed:
            self._answering += 1

    def ended(self) -> None:
        with self._changed:
            self._answering -= 1
            if not self._answering:
                self._changed.notify_all()

    def wait_idle(self, also: Callable[[], bool], timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._answering == 0 and also(), timeout_s)


class Simulator:
    """A provider to test against: a context manager, plain (own thread) or async (on the running loop).

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        keys: API keys that are accepted; None accepts any that is not empty.
        kept_requests: how many received requests are remembered.
        clock: UTC seconds, for `created` and `date`.

    The same script and the same requests in the same order give the same answers, bills and ids; only `created` and
    `date` follow the clock.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        keys: Collection[str] | None = None,
        kept_requests: int = 1000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host, self._wanted_port, self._port = host, port, 0
        self._provider = Provider(keys=keys, kept_requests=kept_requests, clock=clock)
        self._traffic = _Traffic()
        self._server: asyncio.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def port(self) -> int:
        """The port it listens on. Raises RuntimeError when it is not running."""
        if not self._port:
            raise RuntimeError("the simulator is not running; use it as a context manager or call start() first")
        return self._port

    @property
    def url(self) -> str:
        """`http://host:port`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def openai_base_url(self) -> str:
        """The `base_url` for OpenAI clients."""
        return f"{self.url}/v1"

    @property
    def anthropic_base_url(self) -> str:
        """The `base_url` for Anthropic clients."""
        return self.url

    def script(
        self,
        *behaviours: Behaviour,
        model: str | None = None,
        api: str | None = None,
        key: str | None = None,
        path: str | None = None,
        when: Callable[[ReceivedRequest], bool] | None = None,
    ) -> None:
        """Queue behaviours, each for its `times` next requests, oldest first.

        With filters, only for requests to that model, wire format (`openai-chat`, `openai-responses`,
        `anthropic-messages`), API key, or path containing `path`, or for which `when` returns true. A request that
        is refused for its key or its contents uses up none.
        """
        wanted_key = None if key is None else fingerprint(key)

        def matches(request: ReceivedRequest) -> bool:
            return (
                (model is None or request.model == model)
                and (api is None or request.api == api)
                and (wanted_key is None or request.key == wanted_key)
                and (path is None or path in request.path)
                and (when is None or when(request))
            )

        self._provider.script(behaviours, matches)

    def default(self, behaviour: Behaviour) -> None:
        """Set what every request gets that nothing is scripted for; `times` is ignored."""
        self._provider.set_default(behaviour)

    def reset(self) -> None:
        """Forget scripts, the default, bills, requests and prompt caches; connections live on."""
        self._provider.reset()

    def bills(self, since: int = 0) -> list[Bill]:
        """The bill book from bill number `since`, in the order in which requests came."""
        return self._provider.bills.since(since)

    def requests(self, since: int = 0) -> list[ReceivedRequest]:
        """The received requests still remembered, from number `since`."""
        return [request for request in tuple(self._provider.requests) if request.sequence >= since]

    def scripts_left(self) -> int:
        """How many scripted behaviours have not been used up."""
        return self._provider.scripts_left()

    def stats(self) -> dict[str, Any]:
        """Requests and connections since the start, and CPU seconds and memory of the whole process."""
        use = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "requests": self._provider.request_count,
            "connections": self._traffic.connections,
            "open": len(self._traffic.open),
            "bills": len(self._provider.bills),
            "cpu_s": use.ru_utime + use.ru_stime,
            "rss_kb": use.ru_maxrss,
        }

    def wait_idle(self, timeout_s: float = 5.0, *, bills: int = 0) -> None:
        """Wait, from another thread, until no answer is under way and at least `bills` bills are in the book.

        Every bill is settled then. A client that left without reading an answer should say how many bills it caused,
        as its request may not have been read yet. Raises TimeoutError.
        """
        if not self._traffic.wait_idle(lambda: len(self._provider.bills) >= bills, timeout_s):
            raise TimeoutError(f"after {timeout_s} s the simulator is still answering, or has fewer than {bills} bills")

    def start(self) -> None:
        """Run the server in a thread of its own. Raises OSError when it cannot listen, RuntimeError when it runs."""
        if self._port:
            raise RuntimeError("the simulator is already running; stop() it before start()")
        started: list[BaseException] = []
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(ready, started)), name="turnpike-simulator", daemon=True
        )
        self._thread.start()
        ready.wait()
        if started:
            self._thread.join()
            raise started[0]

    def stop(self) -> None:
        """Stop a server that start() began; answers under way are cut off. Does nothing when none runs."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = self._stopping = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    async def _run(self, ready: threading.Event, failed: list[BaseException]) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._listen()
        except OSError as error:
            failed.append(error)
            return
        finally:
            ready.set()
        try:
            await self._stopping.wait()
        finally:
            await self._close()

    async def _listen(self) -> None:
        if self._port:
            raise RuntimeError("the simulator is already running; stop it first")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._answer, self._traffic), self._host, self._wanted_port, backlog=_BACKLOG
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._traffic.open):
            connection.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)
        self._server, self._port = None, 0

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Performance:
        if target.startswith(PREFIX):
            return control(self, method, target, body)
        return self._provider.answer(method, target, headers, body)


def serve(host: str, port: int, *, ready: Callable[[Simulator], None] | None = None) -> None:
    """Run a simulator in the foreground until SIGINT or SIGTERM; `ready` is called once it listens.

    Call it from the main thread. Raises OSError when it cannot listen.
    """
    asyncio.run(_serve(Simulator(host, port), ready))


async def _serve(simulator: Simulator, ready: Callable[[Simulator], None] | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    async with simulator:
        if ready is not None:
            ready(simulator)
        await stop.wait()
