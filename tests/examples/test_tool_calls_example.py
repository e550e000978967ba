"""The example of a job without a framework: it binds an identity itself, and runs a tool that the model asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("openai", reason="needs openai: install turnpike[openai]")

from turnpike.testing.simulator import Behaviour, Simulator, ToolCall

from .loaded import load_example


def run(*questions: str) -> None:
    load_example("tool_calls.py").main(questions)


def test_the_tool_runs_and_the_model_is_told_what_it_found(
    desk: Path, simulator: Simulator, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator.script(
        Behaviour(tool_calls=(ToolCall("order_status", {"order_id": "A-1001"}),)),
        Behaviour(text="It arrives on Friday."),
    )
    run("Where is A-1001?")
    assert capsys.readouterr().out == "It arrives on Friday.\n"
    _asked, told = simulator.requests()
    assert told.body["messages"][-1]["content"] == "shipped, arrives on Friday"
    lines = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    assert [line["finish_reason"] for line in lines] == ["tool_calls", "stop"]
    assert {(line["tenant_id"], line["caller_id"], line["route"]) for line in lines} == {
        ("globex", "order-desk", "jobs/order-status")
    }
    assert sum(line["cost_nano_usd"] for line in lines) == sum(bill.cost_nano_usd or 0 for bill in simulator.bills())


def test_each_question_is_answered(desk: Path, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    simulator.script(Behaviour(text="One."), Behaviour(text="Two."))
    run("First?", "Second?")
    assert capsys.readouterr().out == "One.\nTwo.\n"


@pytest.mark.parametrize("arguments", ["{}", "not json", '"A-1001"', '{"order_id": ["x"]}'])
def test_whatever_the_model_writes_as_arguments_the_tool_answers(
    desk: Path, simulator: Simulator, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    simulator.script(Behaviour(tool_calls=(ToolCall("order_status", arguments),)), Behaviour(text="Sorry."))
    run("Where is it?")
    assert capsys.readouterr().out == "Sorry.\n"
