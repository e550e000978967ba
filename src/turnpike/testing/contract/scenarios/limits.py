"""Requests are counted once each, by key, tenant and class of routes, and every answer says what is left."""

from __future__ import annotations

from turnpike.testing.contract.bench import Bench, BrokenQuota
from turnpike.testing.contract.expectations import check, equal, same_problem, status
from turnpike.testing.contract.people import AUDITOR, BATCH, BETA, WEB
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.stack import Stack
from turnpike.testing.contract.transports import Response

_FIELDS = ("RateLimit-Policy", "RateLimit")
_ANSWERING = ("call", "own_response", "nested", "stream", "stream_late", "tight", "unread")


def _announces(response: Response, expected: dict[str, str]) -> None:
    for name in _FIELDS:
        equal(response.values(name), [expected[name]], f"header {name}")


@case(each={name: (name,) for name in _ANSWERING})
def announced(bench: Bench, name: str) -> None:
    """Every answer says what is left of the quota, whichever way the handler made it, and counts as one request."""
    for _ in range(2):
        response = bench.send(name)
        check(response.status in (200, 201), f"status: expected success, found {response.status} {response.body!r}")
        _announces(response, dict(bench.admission(name).headers))


@case()
def announced_at_the_head_of_a_stream(bench: Bench) -> None:
    """A streamed answer announces the quota before its body has been produced."""
    with bench.provider.hold() as held:
        held.release()
        with bench.stream("stream") as streamed:
            for name in _FIELDS:
                expected = bench.admission("stream").headers[name] if name == _FIELDS[0] else None
                values = [value for key, value in streamed.headers if key == name.lower()]
                equal(len(values), 1, f"header lines {name}")
                check(expected is None or values == [expected], f"header {name}: {values}")
            held.open()
            streamed.rest()


@case(settings={"rate_limit": "2/minute"}, each={name: (name,) for name in ("call", "stream", "own_response")})
def exceeded(bench: Bench, name: str) -> None:
    """Beyond its limit a key is refused with 429 until the window has passed, and nobody is asked meanwhile."""
    for _ in range(2):
        bench.admission(name)
        check(bench.send(name).status < 300, "a request within the limit was refused")
    refusal = bench.refusal(WEB.headers, name=name)
    for _ in range(2):
        response = bench.send(name)
        same_problem(response, refusal)
        retry_after = response.header("Retry-After")
        check(retry_after is not None and int(retry_after) >= 1, f"Retry-After is {retry_after!r}, not at least 1")
        equal(response.json()["violated-policies"], ["default"], "violated-policies")
    equal(len(bench.provider.requests), 2, "requests that reached the provider")
    status(bench.send("call", BATCH), 200)
    bench.clock.advance(61)
    check(bench.send(name).status < 300, "a request in the next window was refused")


@case(settings={"tenant_rate_limit": "2/minute"})
def of_a_tenant(bench: Bench) -> None:
    """The tenant's limit counts the requests of all of its keys, and of no other tenant."""
    for who in (WEB, BATCH):
        bench.admission("call", who)
        status(bench.send("call", who), 200)
    response = bench.send("call", AUDITOR)
    same_problem(response, bench.refusal(AUDITOR.headers))
    equal(response.json()["violated-policies"], ["tenant"], "violated-policies")
    status(bench.send("call", BETA), 200)


@case()
def of_a_handler(bench: Bench) -> None:
    """A handler marked with a further limit is counted against it, and no other handler is."""
    for _ in range(2):
        bench.admission("tight")
        status(bench.send("tight"), 200)
    response = bench.send("tight")
    same_problem(response, bench.refusal(WEB.headers, name="tight"))
    equal(response.json()["violated-policies"], ["tight"], "violated-policies")
    status(bench.send("call"), 200)
    status(bench.send("tight", BETA), 200)


def _by_template(stack: Stack) -> dict[str, object]:
    limit = {"rate": "2/minute", "routes": [stack.template("/call/{number}")]}
    return {"limits": {"tight": "2/minute", "chat": limit}}


@case(settings=_by_template)
def of_a_template(bench: Bench) -> None:
    """A limit that the settings put on a route's template counts all of its paths together."""
    for number in (7, 8):
        bench.admission("call")
        status(bench.send("call", path=f"/call/{number}"), 200)
    response = bench.send("call", path="/call/9")
    same_problem(response, bench.refusal(WEB.headers))
    equal(response.json()["violated-policies"], ["chat"], "violated-policies")
    check(bench.send("own_response").status < 300, "a request to another route was refused")


@case(settings={"rate_limit": "1/minute"})
def not_spent_by_strangers(bench: Bench) -> None:
    """Requests that are refused for their key, and those to open routes, count for nobody and announce nothing."""
    strangers = [(None, b"evil"), (None, WEB.key + b"x")]
    for _, key in strangers:
        refused = bench.send("call", None, headers=[(b"X-API-Key", key)])
        equal(status(refused, 401).values("RateLimit"), [], "header RateLimit of a refusal for the key")
    for name in ("open", "public"):
        equal(status(bench.send(name, WEB), 200).values("RateLimit"), [], "header RateLimit of an open route")
    status(bench.send("call"), 200)
    status(bench.send("call"), 429)


@case(settings={"rate_limit": "5/minute"})
def under_concurrency(bench: Bench) -> None:
    """Of requests that come at once, exactly as many are admitted as the limit allows."""
    with bench.provider.hold() as held:
        sent = [bench.start("call") for _ in range(20)]
        held.wait_for(min(5, bench.transport.parallel))
        held.open()
        answers = sorted(future.result(10).status for future in sent)
    equal(answers, [200] * 5 + [429] * 15, "statuses of 20 requests at once")


@case(settings={"on_quota_failure": "open"}, quota=BrokenQuota)
def uncounted_where_that_is_allowed(bench: Bench) -> None:
    """While requests cannot be counted they pass, if the settings say so, and no quota is announced."""
    response = status(bench.send("call"), 200)
    equal(response.json()["text"], WEB.name, "who was bound")
    equal(response.values("RateLimit"), [], "header RateLimit")


@case(settings={"on_quota_failure": "closed"}, quota=BrokenQuota)
def refused_while_uncounted(bench: Bench) -> None:
    """While requests cannot be counted they are refused with 503, if the settings say so."""
    same_problem(bench.send("call"), bench.refusal(WEB.headers))
    bench.nobody_was_asked()
