"""Interleaved requests of many tenants on every stack: nobody is billed for another. In full: `interleaving.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from .interleaving import SERVERS, STACKS, run
from .serving import is_installed


@pytest.mark.parametrize("stack", STACKS)
def test_every_call_is_on_the_ledger_under_the_name_it_was_made_for(stack: str, tmp_path: Path) -> None:
    framework = stack.split("-", maxsplit=1)[0]
    if framework not in ("asgi", "wsgi"):
        pytest.importorskip(framework, reason=f"needs {framework}: install turnpike[{framework}]")
    if not is_installed(SERVERS[stack]):
        pytest.skip(f"needs {SERVERS[stack].module}: install the dependency group 'servers'")
    outcome = run(stack, requests=2_000, tenants=100, folder=tmp_path)
    assert outcome.is_clean, f"{outcome}\n" + "\n".join(outcome.wrong_answers[:10])
