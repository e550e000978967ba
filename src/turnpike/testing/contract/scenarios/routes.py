"""What is said of routes: open by mark or by settings, closed but for a scope, preflights, and paths that do not exist."""

from __future__ import annotations

from typing import Any

from turnpike.envelope import UNATTRIBUTED
from turnpike.errors import UnadmittedError
from turnpike.testing.contract.bench import Bench, Lines
from turnpike.testing.contract.expectations import check, equal, one, same_problem, status
from turnpike.testing.contract.people import AUDITOR, BETA, WEB
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.stack import Stack

_VISITORS: dict[str, tuple[Lines]] = {
    "without a key": ([],),
    "with a wrong key": ([(b"X-API-Key", b"evil")],),
    "with two keys": ([(b"X-API-Key", WEB.key), (b"X-API-Key", BETA.key)],),
    "with a known key": (WEB.headers,),
}


@case(each=_VISITORS)
def open_by_mark(bench: Bench, headers: Lines) -> None:
    """A handler marked as exempt serves everybody, as nobody."""
    equal(status(bench.send("open", None, headers=headers), 200).json()["bound"], "nobody", "who is bound")


@case(each=_VISITORS)
def open_by_settings(bench: Bench, headers: Lines) -> None:
    """A route that the settings exempt serves everybody, as nobody."""
    equal(status(bench.send("public", None, headers=headers), 200).json()["bound"], "nobody", "who is bound")


def _exempt_template(stack: Stack) -> dict[str, Any]:
    return {"exempt": [stack.template("/call/{number}")]}


@case(settings=_exempt_template)
def open_by_template(bench: Bench) -> None:
    """The settings exempt a route by its template; what is called there is marked as nobody's."""
    equal(status(bench.send("call", None), 200).json()["text"], "nobody", "who was bound")
    envelope = one(bench.envelopes(1), "envelopes")
    equal((envelope.attributed, envelope.tenant_id), (False, UNATTRIBUTED), "attribution")
    equal(envelope.route, bench.stack.template("/call/{number}"), "route")
    equal(bench.send("public", None).status, 401, "status of a route that is not exempt here")


@case(settings={"exempt": ["/call/7", "call/7"]})
def not_open_by_path(bench: Bench) -> None:
    """A path in the settings is not a template, and exempts nothing."""
    same_problem(bench.send("call", None), bench.refusal())


@case()
def for_a_scope(bench: Bench) -> None:
    """A handler marked with a scope serves those who have it, refuses others with 403 and strangers with 401."""
    equal(status(bench.send("scoped", AUDITOR), 200).json()["text"], AUDITOR.name, "who was bound")
    for who in (WEB, BETA):
        same_problem(bench.send("scoped", who), bench.refusal(who.headers, name="scoped"))
    same_problem(bench.send("scoped", None), bench.refusal(name="scoped"))
    equal(len(bench.provider.requests), 1, "requests that reached the provider")


@case(settings={"rate_limit": "1/minute"})
def preflight(bench: Bench) -> None:
    """OPTIONS passes without a key and counts for nobody, whoever answers it."""
    lines = [(b"Origin", b"https://app.example"), (b"Access-Control-Request-Method", b"POST")]
    for who in (None, WEB, WEB):
        answer = bench.transport.request("OPTIONS", "/call/7", [*lines, *(who.headers if who is not None else [])])
        refused = answer.status in (401, 403, 429) or answer.status >= 500
        check(not refused, f"OPTIONS was refused with {answer.status} {answer.body[:200]!r}")
        equal(answer.values("RateLimit"), [], "header RateLimit")
    bench.nobody_was_asked()
    status(bench.send("call", WEB), 200)


@case(each={"without a key": (None,), "with a known key": (WEB,)})
def preflight_that_calls(bench: Bench, who: Any) -> None:
    """A handler of OPTIONS that makes a call is refused with 401: nobody has been admitted who could pay."""
    same_problem(bench.send("preflight", who), bench.problem_of(UnadmittedError()))
    bench.nobody_was_asked()


@case()
def not_there(bench: Bench) -> None:
    """A path that does not exist is the framework's own 404 to whoever has a key, and asks nobody."""
    answer = status(bench.transport.request("GET", "/nowhere/at/all", WEB.headers), 404)
    check("problem+json" not in (answer.header("Content-Type") or ""), "the framework's 404 was made a problem of ours")
    equal(bench.transport.request("GET", "/nowhere/at/all").status in (401, 404), True, "401 or 404 without a key")
    bench.nobody_was_asked()


@case()
def with_another_method(bench: Bench) -> None:
    """A method that a route does not have is the framework's own answer, and asks nobody."""
    answer = bench.transport.request("GET", "/call/7", WEB.headers)
    check(answer.status in (404, 405), f"status: expected 405 or 404, found {answer.status}")
    bench.nobody_was_asked()
