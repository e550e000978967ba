"""Exactly one known key in its header, or 401: the same bytes whatever was wrong, and nobody is asked on the way."""

from __future__ import annotations

from turnpike.testing.contract.bench import Bench
from turnpike.testing.contract.expectations import equal, same_problem, status
from turnpike.testing.contract.people import BETA, WEB
from turnpike.testing.contract.registry import case
from turnpike.testing.contract.service import ROUTES

_GUARDED = tuple(
    item.name for item in ROUTES if not item.exempt and item.name not in ("public", "preflight", "conversation")
)

_MALFORMED: dict[str, tuple[bytes, ...]] = {
    "unknown": (b"nobody-has-this-key",),
    "empty": (b"",),
    "spaces": (b"   ",),
    "of 129 characters": (b"k" * 129,),
    "of 70 kB": (b"k" * 70_000,),
    "not ASCII": (b"contract-key-of-acme-w\xe9b",),
    "UTF-8": ("contract-key-of-acme-wéb".encode(),),
    "not UTF-8": (b"\xff\xfe\xfd",),
    "with a control character": (WEB.key + b"\x01",),
    "with a tab inside": (b"contract-key\tof-acme-web",),
    "with DEL": (WEB.key + b"\x7f",),
    "with something behind": (WEB.key + b" x",),
    "in quotes": (b'"' + WEB.key + b'"',),
    "behind a scheme": (b"Bearer " + WEB.key,),
    "in other case": (WEB.key.upper(),),
    "shortened": (WEB.key[:-1],),
    "joined by a comma": (WEB.key + b"," + BETA.key,),
    "joined with itself": (WEB.key + b", " + WEB.key,),
    "sent twice": (WEB.key, WEB.key),
    "sent with another": (WEB.key, BETA.key),
    "sent with a wrong one": (WEB.key, b"nobody-has-this-key"),
    "sent behind a wrong one": (b"nobody-has-this-key", WEB.key),
    "sent with an empty one": (WEB.key, b""),
}


@case()
def without_a_key(bench: Bench) -> None:
    """Every guarded route refuses a request without a key, and nobody is asked."""
    refusal = bench.refusal()
    for name in _GUARDED:
        same_problem(bench.send(name, None), refusal)
    bench.nobody_was_asked()


@case(each={name: (values,) for name, values in _MALFORMED.items()})
def with_a_wrong_key(bench: Bench, values: tuple[bytes, ...]) -> None:
    """A key that is malformed, repeated or unknown is refused like one that is missing."""
    response = bench.send("call", None, headers=[(b"X-API-Key", value) for value in values])
    if bench.transport.is_in_process or response.status not in (400, 431):
        # Real servers refuse some of these lines themselves.
        same_problem(response, bench.refusal())
    bench.nobody_was_asked()


@case()
def with_two_spellings_of_the_header(bench: Bench) -> None:
    """Two key headers are two, however their names are spelt."""
    lines = [(b"x-api-key", WEB.key), (b"X-API-KEY", WEB.key)]
    same_problem(bench.send("call", None, headers=lines), bench.refusal())
    bench.nobody_was_asked()


@case()
def in_the_wrong_place(bench: Bench) -> None:
    """A key in the query, a cookie, the body or another header is no key."""
    key = WEB.key.decode()
    elsewhere = [(b"Cookie", b"X-API-Key=" + WEB.key), (b"Authorization", b"Bearer " + WEB.key)]
    same_problem(
        bench.send("call", None, headers=elsewhere, path=f"/call/7?X-API-Key={key}&api_key={key}", body=WEB.key),
        bench.refusal(),
    )
    bench.nobody_was_asked()


@case(each={name: (name.encode(),) for name in ("X-API-Key", "x-api-key", "X-API-KEY")})
def with_a_known_key(bench: Bench, header: bytes) -> None:
    """A known key is admitted, however the header's name is spelt and whatever spaces surround its value."""
    equal(status(bench.send("call", None, headers=[(header, WEB.key)]), 200).json()["text"], WEB.name, "who was bound")
    spaced = [(header, b" \t" + WEB.key + b" \t")]
    equal(status(bench.send("call", None, headers=spaced), 200).json()["text"], WEB.name, "who was bound")


@case(settings={"key_header": "Authorization"})
def as_a_bearer_token(bench: Bench) -> None:
    """The key is a bearer token where the settings say so, and the challenge asks for one."""
    answer = bench.send("call", None, headers=[(b"Authorization", b"Bearer " + WEB.key)])
    equal(status(answer, 200).json()["text"], WEB.name, "who was bound")
    refused = bench.send("call", WEB, headers=[(b"Authorization", b"Basic " + WEB.key)])
    same_problem(refused, bench.refusal())
    equal(refused.header("WWW-Authenticate"), 'Bearer realm="turnpike"', "the challenge")


@case(settings={"api_keys": []})
def without_any_keys(bench: Bench) -> None:
    """A service without keys refuses everything as misconfigured, and tells the client nothing of its set-up."""
    same_problem(bench.send("call"), bench.refusal(WEB.headers))
    bench.nobody_was_asked()
    status(bench.send("open", None), 200)
