"""Who is asking is known wherever a request's work is done, and comes from the key alone."""

from __future__ import annotations

from turnpike.context import LLMRequestContext, bind
from turnpike.testing.contract.bench import ANSWER, Bench
from turnpike.testing.contract.expectations import check, equal, one, status, whose
from turnpike.testing.contract.people import BETA, WEB, Person
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.service import route
from turnpike.testing.contract.stack import Feature


def _all_of(bench: Bench, name: str, number: int, who: Person = WEB) -> None:
    """Check that as many calls were made on the route, all of them by ``who``, on the books and at the provider."""
    envelopes = bench.envelopes(number)
    template = bench.stack.template(route(name).path)
    equal([whose(envelope) for envelope in envelopes], [who.name] * number, "who the envelopes name")
    equal({envelope.route for envelope in envelopes}, {template}, "route templates of the envelopes")
    bound = [f"{request.context.tenant_id}/{request.context.caller_id}" for request in bench.provider.requests]
    equal(bound, [who.name] * number, "who was bound where the provider was called")
    equal({request.route for request in bench.provider.requests}, {template}, "routes bound at the provider")


@case(each={"acme": (WEB,), "beta": (BETA,)})
def in_the_handler(bench: Bench, who: Person) -> None:
    """The handler, its calls and their envelopes have the key's tenant and caller."""
    answer = status(bench.send("call", who), 200).json()
    expected = {"tenant": who.tenant, "caller": who.caller, "bound": who.name, "text": who.name, "number": 7}
    equal(answer, expected, "what the handler knows")
    _all_of(bench, "call", 1, who)


@case()
def with_the_template_of_the_route(bench: Bench) -> None:
    """Calls are recorded under the route's template, never under the path."""
    for number in (1, 22, 333):
        equal(status(bench.send("call", path=f"/call/{number}?q=1"), 200).json()["number"], number, "the parameter")
    _all_of(bench, "call", 3)


@case()
def in_a_response_of_the_handlers_own(bench: Bench) -> None:
    """A handler that makes its own response object is attributed like any other."""
    response = status(bench.send("own_response"), 201)
    equal(response.header("X-Contract"), "own", "the handler's own header")
    equal(response.json()["text"], WEB.name, "who was bound")
    _all_of(bench, "own_response", 1)


@case()
def below_the_handler(bench: Bench) -> None:
    """Functions below the handler, and the tasks or threads it starts and waits for, are attributed."""
    equal(status(bench.send("nested"), 200).json()["texts"], [WEB.name] * 2, "who was bound")
    _all_of(bench, "nested", 2)


@case()
def in_a_thread_pool(bench: Bench) -> None:
    """Work handed to threads with turnpike.propagate is attributed."""
    equal(status(bench.send("threads"), 200).json()["texts"], [WEB.name] * 4, "who was bound")
    _all_of(bench, "threads", 4)


@case(Feature.BACKGROUND)
def in_background_work(bench: Bench) -> None:
    """Work that the framework does after the response is attributed."""
    equal(status(bench.send("background"), 200).json()["text"], WEB.name, "who was bound")
    _all_of(bench, "background", 2)


@case(Feature.BACKGROUND)
def in_background_work_after_the_response(bench: Bench) -> None:
    """The response is complete before the framework's background work is done, and its identity still holds."""
    with bench.provider.hold() as held:
        held.release()
        with bench.stream("background") as streamed:
            streamed.rest()
            held.wait_for(1)
            held.open()
            streamed.result()
    _all_of(bench, "background", 2)


@case(each={name: (name,) for name in ("stream", "stream_late")})
def in_a_streamed_body(bench: Bench, name: str) -> None:
    """A stream is attributed, opened in the handler or in the body, and the identity holds at every step of it."""
    status(bench.send(name), 200)
    _all_of(bench, name, 1)
    [request] = bench.provider.requests
    steps = {binding.context.tenant_id if binding is not None else None for binding in request.steps}
    equal(steps, {WEB.tenant}, "tenants bound at the steps of the body")


@case()
def in_calls_of_a_streamed_body(bench: Bench) -> None:
    """Calls made at each step of a streamed body are attributed."""
    equal(status(bench.send("stream_steps"), 200).body.decode(), f"{WEB.name} {WEB.name}\n" * 3, "who was bound")
    _all_of(bench, "stream_steps", 3)


def _outlives(bench: Bench, name: str) -> None:
    with bench.provider.hold() as held:
        status(bench.send(name), 200)
        held.wait_for(1)
        equal(len(bench.books.envelopes), 0, "envelopes while the work goes on")
        held.open()
        [envelope] = bench.envelopes(1)
    equal(whose(envelope), WEB.name, "whose the envelope is")
    equal(envelope.finish_reason, "stop", "finish reason")
    equal(envelope.tokens_out, len(ANSWER.split()), "output tokens")
    _all_of(bench, name, 1)


@case()
def in_a_thread_that_outlives_the_request(bench: Bench) -> None:
    """A detached thread that goes on after the response keeps its identity and its stream."""
    _outlives(bench, "thread_outlives")


@case(Feature.TASKS)
def in_a_task_that_outlives_the_request(bench: Bench) -> None:
    """A task that goes on after the response keeps its identity and its stream."""
    _outlives(bench, "task_outlives")


_CLAIMS = [
    (b"X-Tenant-Id", b"beta"),
    (b"X-Tenant", b"beta"),
    (b"X-Caller-Id", b"api"),
    (b"X-Forwarded-User", b"beta"),
    (b"Remote-User", b"beta"),
    (b"Baggage", b"tenant_id=beta,tenant=beta"),
    (b"X-Contract-Session", b"bob"),
    (b"Cookie", b"tenant_id=beta; session=bob"),
    (b"Content-Type", b"application/json"),
]


@case(each={"plain": ("call",), "streamed": ("stream",)})
def never_from_what_a_client_claims(bench: Bench, name: str) -> None:
    """No header, cookie, query or body makes one tenant another."""
    path = route(name).path.replace("{number}", "7") + "?tenant_id=beta&tenant=beta&caller_id=api"
    body = b'{"tenant_id": "beta", "tenant": "beta", "context": {"tenant_id": "beta"}}'
    status(bench.send(name, headers=_CLAIMS, path=path, body=body), 200)
    _all_of(bench, name, 1)


@case()
def never_from_claims_alone(bench: Bench) -> None:
    """Claims without a key are refused."""
    equal(bench.send("call", None, headers=_CLAIMS).status, 401, "status")
    bench.nobody_was_asked()


@case(needs_process=True)
def never_from_around_the_server(bench: Bench) -> None:
    """What is bound where the server was started says nothing of who sends a request."""
    stale = bind(LLMRequestContext(tenant_id="stale", caller_id="stale"))
    with bench.connection(around=stale) as connection:
        equal(connection.whoever(), "stale/stale", "who is bound around the server")
        equal(status(connection.send("open", None), 200).json()["bound"], "nobody", "who is bound on an open route")
        equal(status(connection.send("call", WEB), 200).json()["bound"], WEB.name, "who is bound on a guarded route")
        equal(status(connection.send("stream", WEB), 200).is_complete, True, "whether the stream is complete")
    check({whose(envelope) for envelope in bench.envelopes(2)} == {WEB.name}, "a call was attributed to a stale tenant")


@case()
def on_the_envelope_with_its_cost(bench: Bench) -> None:
    """An envelope says that it is attributed, and to whom, and what it cost them."""
    status(bench.send("call"), 200)
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.attributed, envelope.tenant_id, envelope.caller_id), (True, WEB.tenant, WEB.caller), "attribution")
    check(envelope.cost_nano_usd is not None and envelope.cost_nano_usd > 0, "the envelope has no cost")
