"""Why a model stopped, in one vocabulary for all wire formats.

``stop``            the model was done, or reached a stop sequence
``length``          the output limit or the context window was reached
``tool_calls``      the caller is asked to run one or more tools
``content_filter``  a filter of the provider withheld or cut the answer
``refusal``         the model declined, in its own words or by the provider's safety classifier
``pause``           the provider paused a long turn; sending the answer back continues it
``error``           the provider failed while answering
``cancelled``       the response was cancelled

**The rule for unknown values:** a reason that no table lists is kept verbatim, so a new one is visible rather than
guessed at. An empty string says nothing and counts as missing.

Two things are not in the providers' own reason and are read from the answer itself, for ``stop`` only: tool calls
make it ``tool_calls`` (OpenAI Chat says ``stop`` when one function was forced; Responses has no such status),
otherwise a refusal makes it ``refusal`` (OpenAI Chat and Responses end normally when the model refuses). The
provider's own word stays beside it.

Sources: OpenAI API reference, "The chat completion object", ``finish_reason``, and "The response object", ``status``
and ``incomplete_details.reason``; Anthropic API reference, "Messages", ``stop_reason``; DeepSeek
("insufficient_system_resource"), Mistral ("model_length") and OpenRouter ("error") API references; ``eos`` (Together)
and status ``complete`` were seen in recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ANTHROPIC_MESSAGES", "OPENAI_CHAT", "OPENAI_RESPONSES", "common_reason"]

OPENAI_CHAT: Mapping[str, str] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
    "insufficient_system_resource": "error",
}

OPENAI_RESPONSES: Mapping[str, str] = {
    "completed": "stop",
    "complete": "stop",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "failed": "error",
    "cancelled": "cancelled",
}

ANTHROPIC_MESSAGES: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "pause_turn": "pause",
    "compaction": "pause",
}


def common_reason(
    table: Mapping[str, str], provider_reason: str, *, has_tool_calls: bool = False, refused: bool = False
) -> str:
    """Return the common word for a provider's reason, by the rules in the module's docstring.

    Args:
        table: the format's table.
        provider_reason: the provider's word, not empty.
        has_tool_calls: whether the answer asks for tool calls.
        refused: whether the answer carries the model's own refusal.
    """
    reason = table.get(provider_reason, provider_reason)
    if reason == "stop" and has_tool_calls:
        return "tool_calls"
    if reason == "stop" and refused:
        return "refusal"
    return reason
