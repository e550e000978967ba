"""Who gets a connection, and when one is opened, without a server and without time."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from turnpike.control.connections import Connections, OpenedLateError
from turnpike.control.outage import Outage

from .conftest import Clock


class Counted(Connections):
    """Connections that are opened when a test says so.

    Attributes:
        started: how many were to be opened so far.
        left_s: what is left of the timeout of one second.
    """

    def __init__(self, size: int = 10) -> None:
        super().__init__(None, Outage("The server", Clock(), 1.0), 1.0, size)  # type: ignore[arg-type]
        self.started = 0
        self.left_s = 1.0

    async def ask(self, connection: Any, deadline_s: float, *command: Any) -> Any:
        raise NotImplementedError

    async def drop(self, connection: Any) -> None:
        self._dropped()

    async def close(self, *, wait: bool = True) -> None:
        self._take_all_idle()

    def _is_open(self, connection: Any) -> bool:
        return connection != "ended"

    def _new_waiter(self) -> Any:
        return Future()

    async def _arrival(self, waiter: Any) -> Any:
        return await asyncio.wrap_future(waiter)

    def _left_s(self, began_s: float) -> float:
        return self.left_s

    def _start_opening(self) -> None:
        self.started += 1


async def borrowers(connections: Connections, number: int) -> list[asyncio.Task[tuple[Any, float]]]:
    tasks = [asyncio.create_task(connections.borrow()) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


def test_a_few_are_opened_at_a_time_until_there_is_one_for_each_who_waits() -> None:
    async def main() -> None:
        connections = Counted()
        tasks = await borrowers(connections, 6)
        assert connections.started == 4
        for number, started in enumerate((5, 6, 6, 6, 6, 6)):
            connections._opened(number)
            assert connections.started == started
        assert [task[0] for task in await asyncio.gather(*tasks)] == list(range(6))

    asyncio.run(main())


def test_no_more_are_opened_than_there_may_be_and_who_waited_longest_gets_what_is_given_back() -> None:
    async def main() -> None:
        connections = Counted(size=1)
        first, second, third = await borrowers(connections, 3)
        assert connections.started == 1
        connections._opened("one")
        assert (await first)[0] == "one"
        connections.give_back("one")
        assert await second == ("one", 1.0)
        await connections.drop("one")
        assert connections.started == 2
        connections._opened("two")
        assert (await third)[0] == "two"

    asyncio.run(main())


def test_who_waits_hears_of_a_failure_once_no_connection_is_left_to_wait_for() -> None:
    async def main() -> None:
        connections = Counted()
        tasks = await borrowers(connections, 2)
        connections._not_opened(ConnectionRefusedError())
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        connections._not_opened(ConnectionRefusedError())
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionRefusedError] * 2
        connections._line_up()
        assert connections.started == 3

    asyncio.run(main())


def test_a_connection_for_someone_who_has_gone_is_for_the_next() -> None:
    connections = Counted()
    gone, waits = connections._line_up(), connections._line_up()
    connections._opened("one")
    connections._leave(gone)
    assert waits.result() == ("one", True)
    connections._leave(waits)
    assert connections._take_idle() == "one"


def test_someone_who_has_gone_is_not_waited_for() -> None:
    connections = Counted()
    gone, waits = connections._line_up(), connections._line_up()
    connections._leave(gone)
    connections._opened("one")
    assert waits.result() == ("one", True)


def test_a_connection_that_was_opened_late_is_kept_for_others() -> None:
    async def main() -> None:
        connections = Counted()
        [task] = await borrowers(connections, 1)
        connections.left_s = 0.2
        connections._opened("late")
        with pytest.raises(OpenedLateError):
            await task
        assert await connections.borrow() == ("late", 1.0)

    asyncio.run(main())


def test_a_connection_that_was_opened_in_time_leaves_the_rest_of_the_time() -> None:
    async def main() -> None:
        connections = Counted()
        [task] = await borrowers(connections, 1)
        connections.left_s = 0.3
        connections._opened("new")
        assert await task == ("new", 0.3)

    asyncio.run(main())


def test_idle_connections_that_have_ended_are_passed_over() -> None:
    async def main() -> None:
        connections = Counted()
        tasks = await borrowers(connections, 2)
        for name in ("open", "ended"):
            connections._opened(name)
        await asyncio.gather(*tasks)
        connections.give_back("open")
        connections.give_back("ended")
        assert (await connections.borrow())[0] == "open"

    asyncio.run(main())


def test_where_no_further_thread_can_be_started_that_is_an_error_for_who_waits() -> None:
    class OutOfThreads(Counted):
        def _start_opening(self) -> None:
            raise RuntimeError("can't start new thread")

    waiter = OutOfThreads()._line_up()
    with pytest.raises(RuntimeError):
        waiter.result(0)
