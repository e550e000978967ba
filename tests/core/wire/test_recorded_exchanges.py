"""The readers against recorded provider exchanges, compared with values taken from the recordings by plain ``json``.

The recordings are not part of this repository; where they are missing these tests are skipped.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from turnpike.gateway.wire import MalformedAnswerError, classify_error

from .streams import as_dict, read_body, read_stream

RECORDED = Path(__file__).parents[3].parent / "shared" / "data" / "recorded"
FORMATS = ("openai-chat", "openai-responses", "anthropic-messages")

pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="needs recordings: put the recorded exchanges into ../shared/data/recorded"
)


@pytest.fixture(scope="module")
def exchanges():
    found = []
    for path in sorted(RECORDED.rglob("*.json")):
        exchange = json.loads(path.read_text("utf-8"))
        if exchange["format"] in FORMATS:
            found.append((path.name, exchange))
    return found


def successful(exchanges, *, streaming):
    for name, exchange in exchanges:
        response = exchange["response"]
        if response["status"] == 200 and response["streaming"] is streaming:
            yield name, exchange["format"], response["text"] if streaming else response["json"]


def payloads_of(text):
    """Return the JSON of each data line; the recordings have one data line an event."""
    lines = [line[5:].strip() for line in text.replace("\r\n", "\n").split("\n") if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"], "[DONE]" in lines


def part_text(content):
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def expected_of_chat_body(body):
    choice = next((choice for choice in body.get("choices", []) if choice.get("index", 0) == 0), {"message": {}})
    message = choice["message"]
    calls = [call["function"]["arguments"] for call in message.get("tool_calls") or []]
    legacy = message.get("function_call")
    return {
        "text": part_text(message.get("content")) + (message.get("refusal") or ""),
        "usage": body.get("usage"),
        "provider_finish_reason": choice.get("finish_reason") or None,
        "arguments": calls + ([legacy["arguments"]] if legacy and legacy["name"] else []),
        "complete": True,
    }


def expected_of_chat_stream(text):
    chunks, done = payloads_of(text)
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == 0]
    deltas = [choice["delta"] for choice in choices]
    calls = {}
    for delta in deltas:
        for call in delta.get("tool_calls") or []:
            calls[call["index"]] = calls.get(call["index"], "") + call["function"].get("arguments", "")
    usages = [chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage") for chunk in chunks]
    return {
        "text": "".join(part_text(delta.get("content")) + (delta.get("refusal") or "") for delta in deltas),
        "usage": next((usage for usage in reversed(usages) if usage), None),
        "provider_finish_reason": next((c["finish_reason"] for c in reversed(choices) if c.get("finish_reason")), None),
        "arguments": list(calls.values()),
        "complete": done,
    }


def expected_of_response(body):
    messages = [item for item in body.get("output", []) if item["type"] == "message"]
    parts = [part for item in messages for part in item["content"]]
    pending = body["status"] in ("queued", "in_progress")
    reason = (body.get("incomplete_details") or {}).get("reason") or body["status"]
    return {
        "text": "".join(part.get("text") or part.get("refusal") or "" for part in parts),
        "usage": body["usage"],
        "provider_finish_reason": None if pending else reason,
        "arguments": [item["arguments"] for item in body["output"] if item["type"] == "function_call"],
        "complete": not pending,
    }


def expected_of_responses_stream(text):
    events, _ = payloads_of(text)
    last = events[-1]
    if last["type"] == "error":
        return {"text": "", "usage": None, "provider_finish_reason": None, "arguments": [], "complete": False}
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    expected = expected_of_response(last["response"])
    assert "".join(deltas) in ("", expected["text"])
    return expected


def expected_of_message(body):
    blocks = body.get("content", [])
    return {
        "text": "".join(block["text"] for block in blocks if block["type"] == "text"),
        "usage": body.get("usage"),
        "provider_finish_reason": body.get("stop_reason"),
        "arguments": [
            json.dumps(b["input"], separators=(",", ":"), ensure_ascii=False) for b in blocks if b["type"] == "tool_use"
        ],
        "complete": True,
    }


def expected_of_message_stream(text):
    events, _ = payloads_of(text)
    starts = [event["message"]["usage"] for event in events if event["type"] == "message_start"]
    ends = [event for event in events if event["type"] == "message_delta"]
    usage = dict(starts[0])
    for end in ends:
        usage |= {key: value for key, value in end["usage"].items() if value is not None}
    tools = {
        e["index"]: ""
        for e in events
        if e["type"] == "content_block_start" and e["content_block"]["type"] == "tool_use"
    }
    deltas = [(event["index"], event["delta"]) for event in events if event["type"] == "content_block_delta"]
    for index, delta in deltas:
        if index in tools:
            tools[index] += delta.get("partial_json", "")
    return {
        "text": "".join(delta["text"] for _, delta in deltas if delta["type"] == "text_delta"),
        "usage": usage,
        "provider_finish_reason": ends[-1]["delta"]["stop_reason"] if ends else None,
        "arguments": [arguments or "{}" for arguments in tools.values()],
        "complete": events[-1]["type"] == "message_stop",
    }


BODY = {
    "openai-chat": expected_of_chat_body,
    "openai-responses": expected_of_response,
    "anthropic-messages": expected_of_message,
}
STREAM = {
    "openai-chat": expected_of_chat_stream,
    "openai-responses": expected_of_responses_stream,
    "anthropic-messages": expected_of_message_stream,
}
COMMON = {
    "openai-chat": {
        "stop": "stop",
        "eos": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
    },
    "openai-responses": {"completed": "stop", "complete": "stop", "max_output_tokens": "length"},
    "anthropic-messages": {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "tool_use": "tool_calls",
        "pause_turn": "pause",
    },
}


def said(answer):
    return {
        "text": answer.text,
        "usage": answer.usage,
        "provider_finish_reason": answer.provider_finish_reason,
        "arguments": [call.arguments for call in answer.tool_calls],
        "complete": answer.complete,
    }


def assert_common_reason(name, wire_format, answer):
    if answer.provider_finish_reason is None:
        assert answer.finish_reason == ("error" if answer.error else None), name
    elif answer.finish_reason == "refusal":
        assert answer.text, name
    elif answer.finish_reason == "tool_calls":
        assert answer.tool_calls, name
    else:
        assert answer.finish_reason == COMMON[wire_format][answer.provider_finish_reason], name


def is_an_answer(body):
    return any(body.get(key) for key in ("choices", "output", "content", "usage", "error")) or "status" in body


def test_every_recorded_json_answer_is_read_as_it_says(exchanges, record_testsuite_property):
    checked = Counter()
    for name, wire_format, body in successful(exchanges, streaming=False):
        if not is_an_answer(body):
            with pytest.raises(MalformedAnswerError):
                read_body(wire_format, body)
            checked["no answer"] += 1
            continue
        answer = read_body(wire_format, body)
        assert said(answer) == BODY[wire_format](body), name
        assert_common_reason(name, wire_format, answer)
        assert (answer.error is not None) == bool(body.get("error")), name
        assert (answer.response_id, answer.response_model) == (body.get("id") or None, body.get("model") or None), name
        checked[wire_format] += 1
    record_testsuite_property("recorded_json_answers", dict(checked))
    assert set(checked) >= set(FORMATS), f"checked only {dict(checked)}"


def test_every_recorded_stream_is_read_as_it_says_however_it_is_split(exchanges, record_testsuite_property):
    checked = Counter()
    for name, wire_format, text in successful(exchanges, streaming=True):
        answer = read_stream(wire_format, text.encode())
        assert said(answer) == STREAM[wire_format](text), name
        assert answer.malformed_events == 0, name
        assert_common_reason(name, wire_format, answer)
        assert as_dict(read_stream(wire_format, text.encode(), size=61)) == as_dict(answer), name
        checked[wire_format] += 1
    record_testsuite_property("recorded_streams", dict(checked))
    assert set(checked) == set(FORMATS), f"checked only {dict(checked)}"


def test_every_recorded_web_search_is_counted(exchanges):
    for name, wire_format, body in successful(exchanges, streaming=False):
        if wire_format == "openai-responses" and "tool_usage" in body:
            reported = body["tool_usage"]["web_search"]["num_requests"]
            assert read_body(wire_format, body).tool_counts.get("web_search_requests", 0) == reported, name


def test_errors_inside_recorded_streams_are_found(exchanges):
    found = {
        (wire_format, error.category)
        for _, wire_format, text in successful(exchanges, streaming=True)
        if (error := read_stream(wire_format, text.encode()).error) is not None
    }
    assert found == {
        ("anthropic-messages", "transient_error"),
        ("openai-responses", "rate_limit"),
        ("openai-responses", "transient_error"),
        ("openai-chat", "invalid_request"),
    }


def test_every_recorded_error_body_has_the_category_of_its_status(exchanges, record_testsuite_property):
    categories = {400: "invalid_request", 401: "auth_error", 404: "invalid_request", 429: "rate_limit"}
    checked = 0
    for name, exchange in exchanges:
        status, body = exchange["response"]["status"], exchange["response"].get("json")
        if status != 200:
            error = classify_error(status, json.dumps(body).encode(), exchange["format"])
            assert error.category == categories[status], name
            reported = body["error"]
            assert error.code == (None if reported.get("code") is None else str(reported["code"])), name
            assert error.type == reported.get("type"), name
            checked += 1
    record_testsuite_property("recorded_errors", checked)
    assert checked > 0
