"""The request's scope: streams end with their request, and only with theirs."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from turnpike.boundary.admission import Admission
from turnpike.boundary.scope import RequestScope
from turnpike.context import LLMRequestContext, current_binding, detached

pytestmark = pytest.mark.anyio

ADMISSION = Admission(None, LLMRequestContext(tenant_id="acme"), "/chat/{id}", {})


class FakeStream:
    def __init__(self, error: Exception | None = None) -> None:
        self.reasons: list[str] = []
        self.error = error

    def finish(self, reason: str, /) -> None:
        self.reasons.append(reason)
        if self.error is not None:
            raise self.error


def open_stream() -> FakeStream:
    """Open a stream as the gateway does: it belongs to the scope that is bound, if any."""
    stream, binding = FakeStream(), current_binding()
    if binding is not None and binding.streams is not None:
        binding.streams.add(stream)
    return stream


async def test_identity_route_and_streams_are_bound_from_the_admission_to_the_end() -> None:
    scope = RequestScope()
    assert scope.begin(ADMISSION) == LLMRequestContext(tenant_id="acme")
    binding = current_binding()
    assert binding is not None
    assert (binding.context, binding.route, binding.streams) == (ADMISSION.context, "/chat/{id}", scope)
    assert scope.admission is ADMISSION
    scope.finish("abandoned")
    assert current_binding() is None


async def test_a_scope_may_end_in_another_task_than_it_began_in() -> None:
    scope = RequestScope()

    async def begin() -> FakeStream:
        scope.begin(ADMISSION)
        return open_stream()

    stream = await asyncio.create_task(begin())
    scope.finish("abandoned")
    assert stream.reasons == ["abandoned"]
    assert current_binding() is None


async def test_every_stream_of_the_request_is_finished_once() -> None:
    scope = RequestScope()
    scope.begin(ADMISSION)
    streams = [open_stream(), open_stream()]
    scope.finish("client_disconnected")
    scope.finish("abandoned")
    assert [stream.reasons for stream in streams] == [["client_disconnected"], ["client_disconnected"]]


async def test_a_stream_that_cannot_be_finished_does_not_keep_the_others_open(caplog: pytest.LogCaptureFixture) -> None:
    scope, broken, sound = RequestScope(), FakeStream(ValueError("sk-canary")), FakeStream()
    scope.add(broken)
    scope.add(sound)
    scope.finish("abandoned")
    assert sound.reasons == ["abandoned"]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "A stream could not be finished at the request's end: ValueError"
    ]


async def test_a_stream_that_has_ended_can_be_let_go() -> None:
    scope, stream = RequestScope(), FakeStream()
    scope.add(stream)
    scope.discard(stream)
    scope.discard(stream)
    scope.finish("abandoned")
    assert stream.reasons == []


async def test_streams_of_tasks_that_are_done_belong_to_the_request() -> None:
    scope = RequestScope()

    async def body() -> FakeStream:
        return open_stream()

    scope.begin(ADMISSION)
    stream = await asyncio.create_task(body())
    scope.finish("client_disconnected")
    assert stream.reasons == ["client_disconnected"]


async def test_streams_of_a_task_that_outlives_the_request_are_its_own() -> None:
    scope, opened, go_on = RequestScope(), asyncio.Event(), asyncio.Event()
    streams: list[FakeStream] = []

    async def outlive() -> None:
        streams.append(open_stream())
        opened.set()
        await go_on.wait()
        streams.append(open_stream())

    scope.begin(ADMISSION)
    task = asyncio.create_task(outlive())
    await opened.wait()
    scope.finish("abandoned")
    go_on.set()
    await task
    scope.finish("abandoned")
    assert [stream.reasons for stream in streams] == [[], []]


async def test_a_detached_stream_keeps_the_identity_and_not_the_end() -> None:
    scope = RequestScope()
    context = scope.begin(ADMISSION)
    with detached():
        stream, binding = open_stream(), current_binding()
    scope.finish("abandoned")
    assert binding is not None
    assert binding.context == context
    assert stream.reasons == []


async def test_streams_of_sync_handlers_belong_to_the_request() -> None:
    scope = RequestScope()
    scope.begin(ADMISSION)
    stream = await asyncio.to_thread(open_stream)
    scope.finish("abandoned")
    assert stream.reasons == ["abandoned"]


def test_without_an_event_loop_every_stream_belongs_to_the_request() -> None:
    scope = RequestScope()
    scope.begin(ADMISSION)
    stream = open_stream()
    scope.finish("abandoned")
    assert stream.reasons == ["abandoned"]


def test_streams_may_be_opened_in_many_threads_while_the_request_ends() -> None:
    scope, start = RequestScope(), threading.Barrier(5)
    streams = [[FakeStream() for _ in range(200)] for _ in range(4)]

    def add(mine: list[FakeStream]) -> None:
        start.wait()
        for stream in mine:
            scope.add(stream)

    threads = [threading.Thread(target=add, args=(mine,)) for mine in streams]
    for thread in threads:
        thread.start()
    start.wait()
    scope.finish("abandoned")
    for thread in threads:
        thread.join()
    scope.finish("abandoned")
    assert all(len(stream.reasons) <= 1 for mine in streams for stream in mine)
