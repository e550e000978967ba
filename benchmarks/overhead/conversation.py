"""The conversation that every subject sends, of any length, in the shapes of both SDKs."""

from __future__ import annotations

from functools import cache
from typing import Any

OPENAI_MODEL = "gpt-4o-mini"
ANTHROPIC_MODEL = "claude-haiku-4-5"
MAX_OUTPUT_TOKENS = 500

SYSTEM = (
    "You answer questions about invoices for an accounts-payable team. Quote the line that an answer rests on, keep to "
    "the currency of the invoice, and say so when a figure is not on it. Amounts are net unless they are said to be "
    "gross; dates are those of the invoice, not of the payment. Never guess a cost centre. "
) * 2
_QUESTION = (
    "Here is invoice number {number}. It lists consulting hours, travel days and licences for October, approved by "
    "finance on Tuesday, with payment terms of thirty days net and a late fee of two percent a month. They ask for "
    "the total by cost centre, with the hours of each consultant and the travel days listed one by one. "
) * 2
_ANSWER = "Invoice {number} totals 5,200 dollars over three line items; travel is the largest one at 2,310 dollars. "


@cache
def chat(messages: int) -> list[dict[str, Any]]:
    """A conversation of so many messages in OpenAI's shape: a system message, then turns that end with the user's."""
    turns = [
        {"role": "user", "content": _QUESTION.format(number=4471 + at)}
        if (messages - 1 - at) % 2 == 1
        else {"role": "assistant", "content": _ANSWER.format(number=4471 + at)}
        for at in range(messages - 1)
    ]
    if messages % 2 == 1:
        raise ValueError("a conversation with a system message that begins and ends with the user has an even length")
    return [{"role": "system", "content": SYSTEM}, *turns]


@cache
def turns(messages: int) -> list[dict[str, Any]]:
    """The same conversation without its system message, as Anthropic's SDK takes it."""
    return chat(messages)[1:]


@cache
def folded(messages: int) -> list[dict[str, Any]]:
    """The same text with the system message put before the first turn's."""
    first, *others = turns(messages)
    return [{**first, "content": f"{SYSTEM}\n\n{first['content']}"}, *others]
