"""The reference tables of docs/ list what the code has: no key, field, option, note or error more or less."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from turnpike import Settings, errors
from turnpike.boundary.problem import render
from turnpike.context import LLMRequestContext
from turnpike.envelope import AttemptRecord, CostQuality, CostSource, EnvelopeStatus, LLMRequestEnvelope
from turnpike.errors import ProviderError, TurnpikeError
from turnpike.gateway.options import CallOptions
from turnpike.pricing import NOTES
from turnpike.settings import ApiKeySettings, LimitSettings, PolicySettings, ProviderSettings, TierSettings
from turnpike.testing.simulator import Behaviour
from turnpike.usage import UsageVector

from .documents import ROOT

SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "Top level": Settings,
    "Providers": ProviderSettings,
    "Tiers": TierSettings,
    "Policies": PolicySettings,
    "Limits": LimitSettings,
    "API keys": ApiKeySettings,
}


def rows(page: str, heading: str) -> list[dict[str, str]]:
    """Return the rows of the first table below ``heading``, each by its column's title."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, f"{page} has no heading '{heading}'"
    table = [line for line in section[1].splitlines() if line.startswith("|")]
    titles, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    return [dict(zip(titles, cells, strict=True)) for cells in body]


def names(page: str, heading: str) -> list[str]:
    """Return the names in code quotes in the first column."""
    return [name for row in rows(page, heading) for name in re.findall(r"`(\w+)`", next(iter(row.values())))]


def has_each_once(listed: list[str], wanted: Any) -> None:
    assert sorted(listed) == sorted(wanted)


@pytest.mark.parametrize("heading", SECTIONS)
def test_settings_lists_every_key_with_its_default(heading: str) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(SECTIONS[heading])}
    listed = {row["key"].strip("`"): row for row in rows("settings.md", heading)}
    assert list(listed) == list(fields)
    for name, row in listed.items():
        assert row["default"] == _default(fields[name]), name
        assert row["type"]
        assert row["meaning"]
        if heading == "Top level":
            assert row["variable"] == f"`TURNPIKE_{name.upper()}`"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT or field.default == ():
        return "empty"
    if field.default is msgspec.NODEFAULT:
        return "required"
    return "none" if field.default is None else f"`{msgspec.json.encode(field.default).decode()}`"


def test_the_toml_example_of_settings_uses_every_key() -> None:
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    [example] = re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for section in SECTIONS.values():
        for field in section.__struct_fields__:
            assert re.search(rf"\b{field}\b", example), f"the example does not use {field}"


def test_calling_lists_every_option() -> None:
    assert names("calling.md", "Options")[: len(CallOptions.__annotations__)]
    listed = [row["option"].strip("`") for row in rows("calling.md", "Options")]
    assert listed == list(CallOptions.__annotations__)


def test_identity_lists_every_field_of_the_context() -> None:
    has_each_once([row["field"].strip("`") for row in rows("identity.md", "Fields")], LLMRequestContext.__annotations__)


def test_costs_lists_every_note_with_its_quality() -> None:
    listed = {row["note"].strip("`"): row["quality"].strip("`") for row in rows("costs.md", "Notes")}
    assert listed == {note: quality.value for note, (quality, _) in NOTES.items()}


def test_costs_lists_every_quality_and_source() -> None:
    has_each_once(names("costs.md", "Quality"), [quality.value for quality in CostQuality])
    has_each_once(names("costs.md", "Source"), [source.value for source in CostSource])


def test_the_ledger_page_lists_every_field_of_the_envelope() -> None:
    listed = [name for heading in _ENVELOPE_TABLES for name in names("ledger-and-telemetry.md", heading)]
    has_each_once(listed, LLMRequestEnvelope.__dataclass_fields__)


_ENVELOPE_TABLES = ("Who and where", "Which model", "What it cost", "How it went", "Not filled yet")


def test_the_ledger_page_lists_every_field_of_an_attempt_and_of_the_usage() -> None:
    has_each_once(names("ledger-and-telemetry.md", "Attempts"), AttemptRecord.__dataclass_fields__)
    has_each_once(names("ledger-and-telemetry.md", "Usage"), UsageVector.__struct_fields__)


def test_the_ledger_page_lists_every_status() -> None:
    has_each_once(names("ledger-and-telemetry.md", "Status"), [status.value for status in EnvelopeStatus])


def test_testing_lists_every_field_of_a_behaviour() -> None:
    has_each_once(names("testing.md", "Behaviours"), Behaviour.__dataclass_fields__)


def _error_classes() -> dict[str, type[TurnpikeError]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, TurnpikeError) and kind.__module__ == errors.__name__
    }


def test_errors_lists_every_error_with_its_status_problem_and_category() -> None:
    listed = {row["exception"].strip("`"): row for row in rows("errors.md", "Exceptions")}
    classes = _error_classes()
    assert sorted(listed) == sorted(classes)
    for name, row in listed.items():
        kind = classes[name]
        assert row["status"] == str(kind.http_status), name
        assert row["problem"].strip("`") == kind.problem, name
        assert row["category"].strip("`") == (kind.category if issubclass(kind, ProviderError) else ""), name
        assert row["raised when"]


def test_a_problem_type_is_its_base_and_its_name() -> None:
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    error = errors.ProviderTimeoutError("openai", "no answer")
    assert render(error).type in text
