"""Applications that know by themselves who sends a request: their word counts, and keys are for whom they do not know."""

from __future__ import annotations

from turnpike.testing.contract.bench import Bench
from turnpike.testing.contract.expectations import equal, same_problem, status, whose
from turnpike.testing.contract.people import BETA, WEB, session
from turnpike.testing.contract.registry import case


@case(identities=True, each={name: (name,) for name in ("call", "own_response", "nested")})
def known(bench: Bench, name: str) -> None:
    """A request that the application identifies needs no key, and is attributed to whom it names."""
    answer = bench.send(name, None, headers=session("alice")).json()
    equal((answer["tenant"], answer["caller"], answer["bound"]), ("acme", "alice", "acme/alice"), "who is bound")
    equal({whose(envelope) for envelope in bench.envelopes(1)}, {"acme/alice"}, "who the envelopes name")


@case(identities=True)
def known_and_with_a_key(bench: Bench) -> None:
    """The application's word stands above the key of another tenant."""
    answer = status(bench.send("call", BETA, headers=session("alice")), 200).json()
    equal(answer["text"], "acme/alice", "who was bound")


@case(identities=True)
def unknown_with_a_key(bench: Bench) -> None:
    """Whom the application does not know is admitted by key."""
    equal(status(bench.send("call", WEB), 200).json()["text"], WEB.name, "who was bound without a session")
    answer = status(bench.send("call", WEB, headers=session("nobody")), 200).json()
    equal(answer["text"], WEB.name, "who was bound with an unknown session")


@case(identities=True)
def unknown_without_a_key(bench: Bench) -> None:
    """Whom the application does not know, and who has no key, is refused."""
    for headers in ([], session("nobody")):
        same_problem(bench.send("call", None, headers=headers), bench.refusal())
    bench.nobody_was_asked()


@case(identities=True)
def with_scopes(bench: Bench) -> None:
    """The scopes of whom the application names count like those of a key."""
    equal(
        status(bench.send("scoped", None, headers=session("alice")), 200).json()["text"], "acme/alice", "who was bound"
    )
    status(bench.send("scoped", None, headers=session("bob")), 403)


@case(identities=True, settings={"rate_limit": "1/minute"})
def counted(bench: Bench) -> None:
    """Whom the application names is counted apart from everybody else."""
    status(bench.send("call", None, headers=session("alice")), 200)
    status(bench.send("call", None, headers=session("alice")), 429)
    status(bench.send("call", None, headers=session("bob")), 200)
    status(bench.send("call", WEB), 200)


@case(identities=True)
def on_open_routes(bench: Bench) -> None:
    """On open routes nobody is bound, whomever the application would name."""
    for name in ("open", "public"):
        answer = status(bench.send(name, None, headers=session("alice")), 200).json()
        equal(answer["bound"], "nobody", f"who is bound on {name}")


@case(identities=True, settings={"api_keys": []})
def without_any_keys(bench: Bench) -> None:
    """An application with identities of its own needs no keys at all."""
    equal(status(bench.send("call", None, headers=session("bob")), 200).json()["tenant"], "beta", "who was bound")
    same_problem(bench.send("call", None), bench.refusal())
