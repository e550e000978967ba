"""Every case of the published contract against every stack of this repository, one test for each cell; and the command."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnpike.testing.contract import Case, Harness, SaysNothing, Stack, cases, load_stacks
from turnpike.testing.contract.__main__ import main
from turnpike.testing.contract.bench import Bench
from turnpike.testing.contract.people import BETA, WEB

_FILES = sorted((Path(__file__).parent / "stacks").glob("*_stack.py"))
_WITHOUT_FRAMEWORK = ("asgi", "wsgi")


def _has_framework(path: Path) -> bool:
    framework = path.stem.removesuffix("_stack")
    return framework in _WITHOUT_FRAMEWORK or importlib.util.find_spec(framework) is not None


def _cells() -> list[object]:
    cells: list[object] = []
    for path in _FILES:
        if not _has_framework(path):
            framework = path.stem.removesuffix("_stack")
            reason = f"needs {framework}: install turnpike[{framework}]"
            cells.append(pytest.param(None, None, id=framework, marks=pytest.mark.skip(reason=reason)))
            continue
        for stack in load_stacks(str(path)):
            # Ordinary cases share an application as long as no other case comes in between.
            in_order = sorted(cases(), key=lambda made: not made.is_ordinary)
            cells += [pytest.param(stack, made, id=f"{stack.name}-{made.id}") for made in in_order]
    return cells


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


@pytest.mark.parametrize(("stack", "made"), _cells())
def test_the_stack_keeps_the_contract(harness: Harness, stack: Stack, made: Case) -> None:
    try:
        harness.check(made, stack)
    except SaysNothing as nothing:
        pytest.skip(f"n/a for {stack.name}: {nothing}")


def test_every_stack_refuses_with_the_same_bytes(harness: Harness) -> None:
    refusals: dict[str, list[tuple[int, bytes, dict[str, list[str]]]]] = {}
    ours = ("content-type", "cache-control", "content-length", "www-authenticate", "retry-after", "ratelimit")

    def collect(bench: Bench) -> None:
        sent = [
            bench.send("call", None),
            bench.send("call", None, headers=[*WEB.headers, *BETA.headers]),
            bench.send("stream", None),
            bench.send("preflight", None),
            bench.send("scoped", WEB),
            bench.send("call", WEB),
            bench.send("call", WEB),
        ]
        refusals[bench.stack.name] = [
            (response.status, response.body, {name: response.values(name) for name in ours})
            for response in sent
            if response.status != 200
        ]

    made = Case(
        "bytes", "same", "Every stack refuses with the same bytes", collect, settings={"rate_limit": "2/minute"}
    )
    for path in filter(_has_framework, _FILES):
        for stack in load_stacks(str(path)):
            harness.check(made, stack)
    assert [status for status, *_ in refusals["asgi"]] == [401, 401, 401, 401, 403, 429]
    assert {name: found for name, found in refusals.items() if found != refusals["asgi"]} == {}


# ----------------------------------------------------------------------------------------------------- the command


def test_the_command_prints_the_table_and_says_by_its_exit_code_whether_all_is_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.disable", lambda _level: None)
    files = [f"{_FILES[0].parent / name}:STACKS" for name in ("asgi_stack.py", "wsgi_stack.py")]
    assert main([*files, "--only", "websockets", "--only", "problems.unauthorized"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "asgi", "wsgi"]
    assert next(line for line in lines if line.startswith("problems")).split()[1:] == ["pass", "pass"]
    assert "18 cells (9 cases x 2 stacks): 10 pass, 0 FAIL, 8 n/a" in lines
    assert lines[-1] == "n/a  wsgi: 8 cases, WSGI has no WebSockets"
    assert main([*files, "--only", "websockets", "--by-subject"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split(maxsplit=1) == ["websockets", "8 pass  8 n/a"]


def test_the_command_lists_what_the_cases_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(cases())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_stack.py", "there is no file nowhere_stack.py"),
        ("turnpike.testing.contract:ROUTES", "has no stacks under the name ROUTES: write ROUTES ="),
        ("turnpike.testing.contract", "has no stacks under the name STACKS: write STACKS ="),
    ],
)
def test_a_name_that_leads_to_no_stacks_is_an_error_that_says_so(name: str, message: str) -> None:
    with pytest.raises((ImportError, ValueError), match=message):
        load_stacks(name)


def test_cases_have_names_of_their_own_and_say_something() -> None:
    assert len({made.id for made in cases()}) == len(cases())
    assert all(len(made.says) > 20 and not made.says.endswith(".") for made in cases())
