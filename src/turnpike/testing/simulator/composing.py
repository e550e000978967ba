"""Puts one answer together: choices, reasoning, and the usage that the request, the caches and the script make."""

from __future__ import annotations

from turnpike.testing.simulator import generation
from turnpike.testing.simulator.asking import Ask
from turnpike.testing.simulator.behaviour import Behaviour
from turnpike.testing.simulator.bill_book import Usage
from turnpike.testing.simulator.generation import Answer


def compose(ask: Ask, behaviour: Behaviour, given: Usage, response_id: str, created: int) -> Answer:
    """The answer to `ask`, whose input side is `given`."""
    thinking = generation.thinking_for(ask)
    reasoning = generation.tokens_of("".join(thinking)) if thinking else generation.reasoning_for(ask)
    if behaviour.reasoning_tokens is not None:
        reasoning = behaviour.reasoning_tokens
    limit = ask.max_output_tokens
    if limit is not None:
        reasoning = min(reasoning, limit)
        limit -= reasoning
    choices = [generation.choose(ask, behaviour, index, limit) for index in range(ask.choices)]
    counted = reasoning + sum(map(generation.output_tokens, choices))
    usage = _usage(given, behaviour, counted, reasoning)
    shown = None if behaviour.usage == "missing" else Usage() if behaviour.usage == "zero" else usage
    model = generation.served_model(ask.model, behaviour)
    return Answer(response_id, created, model, choices, thinking, usage, shown)


def _usage(given: Usage, behaviour: Behaviour, counted: int, reasoning: int) -> Usage:
    output = counted if behaviour.output_tokens is None else behaviour.output_tokens
    scripted = {
        "input": behaviour.input_tokens,
        "cache_read": behaviour.cache_read_tokens,
        "cache_write_5m": behaviour.cache_write_5m_tokens,
        "cache_write_1h": behaviour.cache_write_1h_tokens,
    }
    replaced = {name: value for name, value in scripted.items() if value is not None}
    return given._replace(**replaced, output=output, reasoning=min(reasoning, output))
