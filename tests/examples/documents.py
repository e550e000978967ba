"""Runs the examples of README.md and docs/: what a page shows is what happens.

The blocks of a page are run from top to bottom, as a reader would type them into one session:

- ``python``: run, with ``await`` at top level; the blocks of a page share their names.
- ``text`` directly below a ``python`` block: exactly what that block printed.
- ``json``: must be JSON; ``toml``: must be read by ``Settings.from_toml``; ``http``: header lines, for a hidden block
  to compare.
- ``sh``: ``turnpike`` commands and their options must exist, extras in ``turnpike[...]`` too, and exported
  ``TURNPIKE_*`` variables must be read by ``Settings.from_env``. Nothing else in it is run.

A comment ``<!--- invisible-code-block: python ... -->`` is run as well and shown to nobody: it scripts the provider
simulator before an example, or checks what came of it. It sees the page's names and those of ``Session``, but adds
none, so no example can come to rest on what the reader does not see.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from sybil import Document, Example, Region
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, FencedCodeBlockLexer

from turnpike import Gateway, Settings
from turnpike.testing.simulator import Simulator

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCED = FencedCodeBlockLexer(language=r"[^\n]*", mapping={"language": "language", "source": "source"})
_HIDDEN = DirectiveInHTMLCommentLexer(directive="invisible-code-block", arguments="[a-z]+")
_MODULE = "documented"


class Session:
    """One reader at work on one page.

    Attributes:
        simulator: the provider that every example reaches.
        ledger: the ledger's path.
        shown: what the last block that is not Python says: text, headers, JSON data or ``Settings``.
        printed: what the last Python block printed.
    """

    def __init__(self, simulator: Simulator, ledger: Path, folder: Path) -> None:
        self.simulator = simulator
        self.ledger = ledger
        self.shown: Any = None
        self.printed = ""
        self.blocks = 0
        self._folder = folder
        self._module = ModuleType(_MODULE)
        self._runner = asyncio.Runner()
        self._gateways: set[Gateway] = set()
        self._readers: dict[str, Callable[[Example], None]] = {
            "python": self._visible,
            "text": self._text,
            "http": self._http,
            "json": self._json,
            "toml": self._toml,
            "sh": self._sh,
        }

    def read(self, page: Path) -> None:
        """Run every block of ``page``."""
        sys.modules[_MODULE] = self._module
        try:
            for example in Document.parse(str(page), self._regions).examples():
                self.blocks += 1
                example.evaluate()
        finally:
            self._close()
            del sys.modules[_MODULE]

    def _close(self) -> None:
        for gateway in self._gateways:
            self._runner.run(gateway.aclose())
        self._runner.close()

    @property
    def names(self) -> dict[str, Any]:
        """The names that the page's Python blocks have defined."""
        return self._module.__dict__

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the ledger."""
        return [json.loads(line) for line in self.ledger.read_text("utf-8").splitlines()]

    def _regions(self, document: Document) -> Iterator[Region]:
        for region in _FENCED(document):
            language = region.lexemes["language"].strip()
            region.parsed, region.evaluator = region.lexemes["source"], self._readers.get(language, _refuse(language))
            yield region
        for region in _HIDDEN(document):
            region.parsed, region.evaluator = region.lexemes["source"], self._hidden
            yield region

    # ------------------------------------------------------------------------------------------------ languages

    def _visible(self, example: Example) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            self._run(example, self.names)
        # A page may use one name for several gateways, one after the other.
        self._gateways.update(value for value in self.names.values() if isinstance(value, Gateway))
        self.printed, self.shown = output.getvalue(), None

    def _hidden(self, example: Example) -> None:
        own = {name: getattr(self, name) for name in ("simulator", "ledger", "lines", "shown", "printed")}
        self._run(example, {**self.names, **own})

    def _run(self, example: Example, names: dict[str, Any]) -> None:
        # Padded, so that a traceback names the page's own line.
        source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
        code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        result = eval(code, names)
        if inspect.iscoroutine(result):
            self._runner.run(result)

    def _text(self, example: Example) -> None:
        self.shown = str(example.parsed)
        where = f"{Path(example.path).name}:{example.line}"
        assert self.printed.rstrip() == self.shown.rstrip(), f"{where} is not what the example prints:\n{self.printed}"

    def _http(self, example: Example) -> None:
        self.shown = dict(line.split(": ", 1) for line in str(example.parsed).splitlines())

    def _json(self, example: Example) -> None:
        self.shown = json.loads(example.parsed)

    def _toml(self, example: Example) -> None:
        path = self._folder / "turnpike.toml"
        path.write_text(example.parsed, "utf-8")
        self.shown = Settings.from_toml(path)

    def _sh(self, example: Example) -> None:
        self.shown = str(example.parsed)
        exported: dict[str, str] = {}
        for line in self.shown.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            _check_extras(line)
            if words[:1] == ["turnpike"]:
                _check_command(words[1:])
            elif words[:1] == ["export"]:
                exported.update((name, value) for name, _, value in (word.partition("=") for word in words[1:]))
        exported.pop("TURNPIKE_CONFIG", None)
        if exported:
            self.shown = Settings.from_env(exported)


def _refuse(language: str) -> Callable[[Example], None]:
    def refuse(_: Example) -> None:
        raise AssertionError(f"nobody checks blocks in {language or 'no language'!r}")

    return refuse


def _check_command(words: list[str]) -> None:
    """Check that a ``turnpike`` command exists and takes these options, without running it."""
    from turnpike.cli.commands import turnpike

    group = turnpike.make_context("turnpike", list(words), resilient_parsing=True)
    command = turnpike.get_command(group, words[0])
    assert command is not None, f"there is no command: turnpike {words[0]}"
    command.make_context(words[0], words[1:], parent=group).close()


def _check_extras(line: str) -> None:
    known = set(metadata.metadata("turnpike").get_all("Provides-Extra") or ())
    for extras in re.findall(r"turnpike\[([\w,]+)\]", line):
        assert set(extras.split(",")) <= known, f"unknown extra in: {line}"
