"""README.md and docs/ as their readers use them: every example runs, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs fastapi: install turnpike[fastapi]")
pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")
pytest.importorskip("anthropic", reason="needs anthropic: install turnpike[anthropic]")
pytest.importorskip("aiohttp", reason="needs aiohttp: install turnpike[aiohttp]")
pytest.importorskip("sybil", reason="needs sybil: install the dependency group 'tests'")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from turnpike.testing.simulator import Simulator

from .documents import INDEX, PAGES, ROOT, Session


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_example_of_the_page_does_what_the_page_says(
    page: Path, desk: Path, simulator: Simulator, ledger: Path
) -> None:
    session = Session(simulator, ledger, desk)
    session.read(page)
    assert session.blocks or page == INDEX
    assert simulator.scripts_left() == 0, "the page prepares an answer that nothing asks for"
    for value in session.names.values():
        if isinstance(value, FastAPI):
            _refuses_whoever_has_no_key(value)


def _refuses_whoever_has_no_key(app: FastAPI) -> None:
    exempt = app.state.turnpike.gateway.settings.exempt
    with TestClient(app) as client:
        for path, operations in app.openapi()["paths"].items():
            for method, operation in operations.items():
                if operation.get("security") and path not in exempt:
                    response = client.request(method, re.sub(r"\{\w+\}", "x", path))
                    assert response.status_code == 401, f"{method} {path} answers without a key"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    text = _prose(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in _anchors(found), f"{target} has no such heading"


def test_the_index_lists_every_page() -> None:
    index = INDEX.read_text("utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w.-]+\.md)\)", index)) >= pages


def _prose(page: Path) -> str:
    """The page without its code blocks and comments."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
