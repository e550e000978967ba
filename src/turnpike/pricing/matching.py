"""Judging whether a price list really names a model, or only matched a prefix of its name.

The price list matches loosely for some families (``claude-sonnet-4-55`` gets Sonnet 4's price). A match counts as
exact only for an id that the list spells out, plus a date, ``@version``, ``-v1:0`` or ``-latest``. Nothing here is
fuzzy and nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Any, Final

__all__ = ["dated", "is_named", "stripped"]

_VENDOR_PREFIXES: Final = ("azure/", "openai/", "anthropic/", "bedrock/", "vertex_ai/")
_VERSION: Final = re.compile(r"(?:[-@]20\d{6}|[-@]20\d{2}-\d{2}-\d{2}|[-@]latest|@default|-v\d+|:\d+)$")
_DATE: Final = re.compile(r"[-@](20\d{2})-?(\d{2})-?(\d{2})(?![\d])")
_REGION: Final = re.compile(r"^(?:[a-z]{2,6}|us-gov)\.(?=[a-z0-9-]+\.)")
_VENDOR: Final = re.compile(r"^[a-z0-9]+\.")


def stripped(model: str) -> str:
    """The model name without the routing prefix that litellm-style callers put before it."""
    for prefix in _VENDOR_PREFIXES:
        if model.startswith(prefix):
            return model[len(prefix) :]
    return model


def dated(model: str) -> date | None:
    """The date in a model name, None when it carries none."""
    found = _DATE.search(model)
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None


def is_named(model: str, listed_id: str, match: Any) -> bool:
    """Whether the entry ``listed_id`` with the clauses ``match`` names ``model`` and not just a prefix of it."""
    names, patterns = {listed_id.lower()}, []
    for clause in _clauses(match):
        kind, text = clause
        if kind == "regex":
            patterns.append(text)
        else:
            names.add(text.lower())
    if any(text.startswith("^") and text.endswith("$") and re.search(text, model) for text in patterns):
        return True
    return any(spelling in names for spelling in _spellings(model))


def _clauses(match: Any) -> Iterator[tuple[str, str]]:
    """The literal texts in a genai-prices match tree."""
    for kind in ("equals", "starts_with", "ends_with", "contains", "regex"):
        text = getattr(match, kind, None)
        if isinstance(text, str):
            yield kind, text
    for branch in (*(getattr(match, "or_", None) or ()), *(getattr(match, "and_", None) or ())):
        yield from _clauses(branch)


def _spellings(model: str) -> Iterator[str]:
    """The name itself, then without its version suffixes, each also without a Bedrock region and vendor."""
    if model.startswith("ft:"):
        # ft:<base model>:<organisation>:<name>:<id>
        model = ":".join(model.split(":")[:2])
    while True:
        yield model
        without_region = _REGION.sub("", model)
        yield without_region
        yield _VENDOR.sub("", without_region)
        shorter = _VERSION.sub("", model)
        if shorter == model:
            return
        model = shorter
