"""Small provider answers after the vendors' documentation, and ways to read them."""

import json

from turnpike.gateway.wire import reader_for


def sse(*payloads, named=False):
    """Encode payloads as an event stream; a str is sent as it is."""
    lines = []
    for payload in payloads:
        if named and isinstance(payload, dict):
            lines.append(f"event: {payload['type']}\n")
        lines.append(f"data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n")
    return "".join(lines).encode()


def read_stream(wire_format, stream, size=None):
    """Return the answer read from a stream in pieces of ``size`` bytes, and the text that came out on the way."""
    reader = reader_for(wire_format)
    texts = []
    for start in range(0, len(stream), size or len(stream) or 1):
        texts += reader.feed(stream[start : start + (size or len(stream))])
    texts += reader.finish()
    assert "".join(texts) == reader.answer.text
    return reader.answer


def read_body(wire_format, body):
    """Return the answer read from a JSON body, given as an object or as bytes."""
    reader = reader_for(wire_format)
    reader.read_json(body if isinstance(body, bytes) else json.dumps(body).encode())
    return reader.answer


def as_dict(answer):
    """Return everything an answer says, for comparison."""
    names = [name for name in type(answer).__slots__ if not name.startswith("_")]
    return {name: getattr(answer, name) for name in names} | {"text": answer.text, "tool_calls": answer.tool_calls}


def chat_chunk(delta=None, finish_reason=None, *, index=0, **extra):
    """Build one chunk of OpenAI Chat."""
    choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
    return {**head, "choices": [choice], **extra}


CHAT_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 3,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 4},
}
CHAT_STREAM = sse(
    chat_chunk({"role": "assistant", "content": "", "refusal": None}, service_tier="default", usage=None),
    chat_chunk({"content": "Hél"}, usage=None),
    chat_chunk({"content": "lo 😀"}, usage=None),
    chat_chunk({}, "stop", usage=None),
    {**chat_chunk(), "choices": [], "usage": CHAT_USAGE, "service_tier": "default", "system_fingerprint": "fp_1"},
    "[DONE]",
)

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5-mini-2025-08-07",
    "service_tier": "default",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": []},
        {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"id": "ws_2", "type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "u"}},
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "Hél", "annotations": []},
                {"type": "output_text", "text": "lo 😀", "annotations": []},
            ],
        },
    ],
    "usage": {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13, "input_tokens_details": {"cached_tokens": 4}},
    "tool_usage": {"web_search": {"num_requests": 1}},
}
RESPONSE_STARTED = {
    **RESPONSE,
    "status": "in_progress",
    "output": [],
    "usage": None,
    "service_tier": "auto",
    "tool_usage": None,
}


def text_delta(text):
    """Build one text delta of OpenAI Responses."""
    return {
        "type": "response.output_text.delta",
        "delta": text,
        "item_id": "msg_1",
        "output_index": 3,
        "content_index": 0,
    }


RESPONSES_STREAM = sse(
    {"type": "response.created", "response": RESPONSE_STARTED},
    {"type": "response.output_item.added", "output_index": 0, "item": {"id": "rs_1", "type": "reasoning"}},
    {"type": "response.output_item.done", "output_index": 0, "item": {"id": "rs_1", "type": "reasoning"}},
    {"type": "response.output_item.done", "output_index": 1, "item": RESPONSE["output"][1]},
    text_delta("Hél"),
    text_delta("lo 😀"),
    {"type": "response.completed", "response": RESPONSE},
    named=True,
)

START_USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 4,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 1,
    "service_tier": "standard",
}
MESSAGE_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "model": "claude-sonnet-4-5-20250929",
        "content": [],
        "usage": START_USAGE,
    },
}


def block_start(index, **block):
    """Build the start of an Anthropic content block."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def block_delta(index, kind, **delta):
    """Build one delta of an Anthropic content block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}


ANTHROPIC_STREAM = sse(
    MESSAGE_START,
    block_start(0, type="thinking", thinking="", signature=""),
    block_delta(0, "thinking_delta", thinking="hidden"),
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    block_start(1, type="text", text=""),
    block_delta(1, "text_delta", text="Hél"),
    {"type": "content_block_stop", "index": 1},
    block_start(2, type="server_tool_use", id="srv_1", name="web_search", input={}),
    block_delta(2, "input_json_delta", partial_json='{"query": "q"}'),
    block_start(3, type="text", text=""),
    block_delta(3, "text_delta", text="lo 😀"),
    block_start(4, type="tool_use", id="toolu_1", name="weather", input={}),
    block_delta(4, "input_json_delta", partial_json=""),
    block_delta(4, "input_json_delta", partial_json='{"city": '),
    block_delta(4, "input_json_delta", partial_json='"Paris"}'),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"input_tokens": 30, "cache_read_input_tokens": None, "output_tokens": 20},
    },
    {"type": "message_stop"},
    named=True,
)

STREAMS = {"openai-chat": CHAT_STREAM, "openai-responses": RESPONSES_STREAM, "anthropic-messages": ANTHROPIC_STREAM}
