"""Raw blocks to Markdown: medians over rounds, with the least and the greatest ratio beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from overhead.scenarios import Scenario
from overhead.subjects import SUBJECTS

Rows = list[dict[str, Any]]


def render(rows: Rows, scenarios: Iterable[Scenario]) -> str:
    """One table for each scenario and provider."""
    return "\n".join(
        line
        for provider, title in (("openai", "OpenAI, Chat Completions"), ("anthropic", "Anthropic, Messages"))
        for scenario in scenarios
        for line in _table(rows, provider, title, scenario)
    )


def _table(rows: Rows, provider: str, title: str, scenario: Scenario) -> Iterator[str]:
    names = [
        subject.name
        for subject in SUBJECTS.values()
        if subject.provider == provider and _of(rows, subject.name, scenario.name)
    ]
    if not names:
        return
    yield f"\n### {title}: {scenario.title}\n"
    per_chunk = " us a chunk |" if scenario.stream else ""
    head = f"| subject | CPU us a call | to its bare SDK | to the newest bare SDK |{per_chunk} calls/s |"
    yield head
    yield "|---" + "|--:" * (head.count("|") - 2) + "|"
    for name in names:
        yield _line(name, _of(rows, name, scenario.name), scenario)


def _of(rows: Rows, name: str, scenario: str) -> Rows:
    return [row for row in rows if row["subject"] == name and row["scenario"] == scenario and "cpu_us" in row]


def _line(name: str, rows: Rows, scenario: Scenario) -> str:
    cpu = median(row["cpu_us"] for row in rows)
    cells = [_label(name, rows), f"{cpu:,.0f}", _ratios(rows, "baseline_cpu_us"), _ratios(rows, "newest_cpu_us")]
    if scenario.stream:
        cells.append(f"{cpu / scenario.chunks:.1f}")
    cells.append(f"{median(row['calls_per_s'] for row in rows):,.0f}")
    return "| " + " | ".join(cells) + " |"


def _label(name: str, rows: Rows) -> str:
    subject, versions = SUBJECTS[name], rows[-1].get("versions", {})
    version = versions.get(subject.provider, "") if subject.is_bare else versions.get("litellm", "")
    return f"{subject.label} {version}".strip()


def _ratios(rows: Rows, against: str) -> str:
    ratios = [row["cpu_us"] / row[against] for row in rows if row.get(against)]
    if not ratios:
        return "1"
    return f"{median(ratios):.2f}x ({min(ratios):.2f}..{max(ratios):.2f})"


def evidence(rows: Rows) -> str:
    """What the subjects left behind, in proof that the work was done."""
    lines = [
        "\n### What was written down\n",
        "| subject | calls a process | spans | attributes a span | histogram values | ledger lines | max RSS MB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for subject in SUBJECTS.values():
        last = [row for row in rows if row["subject"] == subject.name and "calls" in row]
        if last and not subject.is_bare:
            row = max(last, key=lambda row: row["calls"])
            spans = row.get("spans", 0)
            lines.append(
                f"| {subject.provider}: {_label(subject.name, [row])} | {row['calls']} | {spans} | "
                f"{row.get('attributes', 0) / max(1, spans):.0f} | {row.get('metric_records', 0)} | "
                f"{row.get('lines', '-')} | {row['max_rss_mb']:.0f} |"
            )
    return "\n".join(lines)
