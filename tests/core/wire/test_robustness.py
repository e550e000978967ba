"""What no format may get wrong: bytes split anywhere, broken JSON, the other kind of body, nothing leaking."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.gateway.wire import MalformedAnswerError, ToolCall, WireAnswer, WireError, reader_for
from turnpike.gateway.wire.sse import MAX_EVENT_BYTES

from .streams import CHAT_STREAM, STREAMS, as_dict, chat_chunk, read_body, read_stream, sse

every_format = pytest.mark.parametrize("wire_format", STREAMS)
BODIES = {
    "openai-chat": {
        "id": "1",
        "model": "m",
        "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
    },
    "openai-responses": {
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
        "status": "completed",
    },
    "anthropic-messages": {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"},
}
TEXT_EVENTS = {
    "openai-chat": '{"choices":[{"index":0,"delta":{"content":"%s"}}]}',
    "openai-responses": '{"type":"response.output_text.delta","delta":"%s"}',
    "anthropic-messages": '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}',
}


@given(
    wire_format=st.sampled_from(sorted(STREAMS)),
    cuts=st.lists(st.integers(1, 4000), max_size=30),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    garbage=st.booleans(),
)
def test_where_the_bytes_are_split_changes_nothing(wire_format, cuts, line_end, garbage):
    stream = STREAMS[wire_format] if not garbage else b"data: {oops\n\n" + STREAMS[wire_format]
    stream = stream.replace(b"\n", line_end)
    whole = read_stream(wire_format, STREAMS[wire_format])
    reader, texts = reader_for(wire_format), []
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, stop in itertools.pairwise(edges):
        texts += reader.feed(stream[start:stop])
    texts += reader.finish()
    assert "".join(texts) == whole.text
    assert as_dict(reader.answer) == as_dict(whole) | {"malformed_events": int(garbage)}


@every_format
def test_byte_by_byte_is_the_same_as_at_once(wire_format):
    assert as_dict(read_stream(wire_format, STREAMS[wire_format], size=1)) == as_dict(
        read_stream(wire_format, STREAMS[wire_format])
    )


@every_format
@given(data=st.data())
def test_a_stream_cut_anywhere_is_never_complete_and_its_text_is_a_beginning(wire_format, data):
    stream = STREAMS[wire_format]
    whole = read_stream(wire_format, stream)
    answer = read_stream(wire_format, stream[: data.draw(st.integers(0, stream.rindex(b"data: ")))])
    assert whole.text.startswith(answer.text)
    # A chat stream that has its usage lacks only the word [DONE].
    assert not answer.complete or (wire_format == "openai-chat" and answer.usage == whole.usage)


def refusal_of(read):
    """Return the error with which bytes are refused, or ``None``; any other exception fails the test."""
    try:
        read()
    except MalformedAnswerError as error:
        return error
    return None


def carries_no_content(error):
    return error is None or (error.__cause__ is None and error.__context__ is None)


@every_format
@given(junk=st.binary(max_size=200))
def test_any_bytes_at_all_raise_nothing_but_the_one_error(wire_format, junk):
    assert carries_no_content(refusal_of(lambda: read_body(wire_format, junk)))
    assert carries_no_content(refusal_of(lambda: read_stream(wire_format, junk)))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(
    [
        "type",
        "choices",
        "delta",
        "content",
        "usage",
        "error",
        "output",
        "item",
        "index",
        "message",
        "response",
        "tool_calls",
        "content_block",
    ]
)


@every_format
@given(
    value=st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
    )
)
def test_any_json_at_all_raises_nothing_but_the_one_error(wire_format, value):
    payload = json.dumps(value)
    assert refusal_of(lambda: read_stream(wire_format, sse(payload))) is None
    assert carries_no_content(refusal_of(lambda: read_body(wire_format, payload.encode())))


@every_format
def test_a_malformed_event_is_counted_and_the_rest_is_read(wire_format):
    first, rest = STREAMS[wire_format].split(b"\n\n", 1)
    answer = read_stream(wire_format, first + b'\n\ndata: {"broken\n\ndata: 17\n\n' + rest)
    assert answer.malformed_events == 2
    assert answer.text == "Héllo 😀"
    assert answer.complete


@every_format
@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (rb"a\ud83db", "a\ufffdb"),
        (rb"a\ud83d\ude00b", "a😀b"),
        (b"a\tb", "a\tb"),
    ],
    ids=["invalid UTF-8", "half a surrogate pair", "a whole surrogate pair", "raw control character"],
)
def test_slightly_broken_text_is_repaired_rather_than_lost(wire_format, sent, text):
    event = TEXT_EVENTS[wire_format].encode().replace(b"%s", sent)
    answer = read_stream(wire_format, b"data: " + event + b"\n\n")
    assert (answer.text, answer.malformed_events) == (text, 0)


def test_a_number_that_is_not_json_is_no_reason_to_lose_the_text():
    body = b'{"choices":[{"message":{"content":"Hi"},"logprobs":NaN}],"usage":{"prompt_tokens":1,"queue_time":NaN}}'
    answer = read_body("openai-chat", body)
    assert (answer.text, answer.usage) == ("Hi", {"prompt_tokens": 1, "queue_time": None})


@every_format
def test_json_nested_beyond_reason_is_malformed(wire_format):
    deep = b'{"x":' + b"[" * 100_000
    with pytest.raises(MalformedAnswerError):
        read_body(wire_format, deep)
    assert read_stream(wire_format, b"data: " + deep + b"\n\n").malformed_events == 1


@pytest.mark.parametrize(
    ("wire_format", "body"),
    [
        (
            "openai-chat",
            {
                "id": 7,
                "model": None,
                "usage": {"prompt_tokens_details": None},
                "service_tier": 3,
                "x_groq": [],
                "choices": [
                    {
                        "index": "0",
                        "message": {"content": "Hi", "tool_calls": {"no": 1}, "refusal": 4},
                        "finish_reason": "stop",
                    }
                ],
            },
        ),
        (
            "openai-responses",
            {
                "id": 7,
                "model": {},
                "status": "completed",
                "tool_usage": [],
                "incomplete_details": "none",
                "usage": {"input_tokens_details": None},
                "output": [
                    3,
                    {"type": "message", "content": [None, {"type": "output_text", "text": "Hi", "logprobs": 0}]},
                ],
            },
        ),
        (
            "anthropic-messages",
            {
                "id": 7,
                "model": [],
                "stop_reason": "end_turn",
                "usage": {"cache_creation": None},
                "content": ["x", {"type": "text", "text": "Hi", "citations": 3}, {"type": "text", "text": 5}],
            },
        ),
    ],
)
def test_wrong_types_in_some_fields_do_not_lose_the_others(wire_format, body):
    answer = read_body(wire_format, body)
    assert (answer.text, answer.finish_reason, answer.complete) == ("Hi", "stop", True)
    assert (answer.response_id, answer.response_model) == (None, None)
    assert answer.usage == body["usage"]


@pytest.mark.parametrize("usage", [[], "none", 0, {}])
def test_usage_of_another_type_is_missing_usage(usage):
    answer = read_stream("openai-chat", sse(chat_chunk({"content": "Hi"}, "stop", usage=usage), "[DONE]"))
    assert (answer.text, answer.usage, answer.complete) == ("Hi", None, True)


def test_a_tool_call_of_a_wrong_shape_does_not_lose_its_neighbour():
    good = {"index": 1, "id": "b", "function": {"name": "two", "arguments": "{}"}}
    answer = read_stream("openai-chat", sse(chat_chunk({"tool_calls": ["?", good]}), "[DONE]"))
    assert answer.tool_calls == [ToolCall("b", "two", "{}")]


@every_format
def test_a_json_body_in_place_of_a_stream_is_read_at_the_end(wire_format):
    body = b"\xef\xbb\xbf\r\n " + json.dumps(BODIES[wire_format]).encode() + b"\n"
    for size in (1, None):
        answer = read_stream(wire_format, body, size)
        assert (answer.text, answer.finish_reason, answer.complete) == ("Hi", "stop", True)


@every_format
def test_a_stream_in_place_of_a_json_body_is_read(wire_format):
    assert as_dict(read_body(wire_format, STREAMS[wire_format])) == as_dict(
        read_stream(wire_format, STREAMS[wire_format])
    )
    assert as_dict(read_body(wire_format, b": hello\n\n" + STREAMS[wire_format])) == as_dict(
        read_stream(wire_format, STREAMS[wire_format])
    )


@every_format
@pytest.mark.parametrize(
    "body", [b"", b"<html>SECRET</html>", b'{"choices": [SECRET', b"[1]", b"null", b"SECRET", b'{"a": "SECRET"}']
)
def test_a_body_in_no_known_format_is_refused_without_quoting_it(wire_format, body):
    with pytest.raises(MalformedAnswerError, match=wire_format) as caught:
        read_body(wire_format, body)
    assert "SECRET" not in str(caught.value)


@every_format
def test_markup_in_place_of_a_stream_is_refused_at_once(wire_format):
    with pytest.raises(MalformedAnswerError, match="markup"):
        reader_for(wire_format).feed(b"\n<html>")


@every_format
def test_a_cut_json_body_in_place_of_a_stream_is_refused(wire_format):
    reader = reader_for(wire_format)
    reader.feed(b'{"content": [')
    with pytest.raises(MalformedAnswerError):
        reader.finish()


@every_format
def test_an_endless_json_body_in_place_of_a_stream_is_refused(wire_format):
    reader = reader_for(wire_format)
    reader.feed(b"{")
    with pytest.raises(MalformedAnswerError, match="larger than"):
        reader.feed(b" " * MAX_EVENT_BYTES)


@every_format
def test_an_empty_stream_is_an_empty_incomplete_answer(wire_format):
    answer = read_stream(wire_format, b"")
    assert (answer.text, answer.usage, answer.complete, answer.finish_reason) == ("", None, False, None)


@every_format
@pytest.mark.parametrize("tail", [b"", b"\n"])
def test_a_last_event_without_a_blank_line_counts(wire_format, tail):
    answer = read_stream(wire_format, STREAMS[wire_format].rstrip(b"\n") + tail)
    assert as_dict(answer) == as_dict(read_stream(wire_format, STREAMS[wire_format]))


def test_text_in_a_last_event_without_a_blank_line_is_handed_out():
    reader = reader_for("openai-chat")
    assert reader.feed(sse(chat_chunk({"content": "Hi"})).rstrip()) == []
    assert reader.finish() == ["Hi"]
    assert reader.finish() == []
    assert reader.answer.text == "Hi"


def test_feed_gives_out_each_piece_of_text_once():
    reader = reader_for("openai-chat")
    assert reader.feed(CHAT_STREAM) == ["Hél", "lo 😀"]
    assert reader.feed(b"") == []
    assert reader.finish() == []


def test_a_large_event_in_many_pieces_arrives_whole():
    event = b"data: " + json.dumps(chat_chunk({"content": "x" * 2_000_000})).encode() + b"\n\n"
    assert len(read_stream("openai-chat", event, size=1000).text) == 2_000_000


def test_no_repr_shows_an_answer():
    answer = WireAnswer()
    answer.add_text("SECRET")
    assert "SECRET" not in repr(answer)
    assert "SECRET" not in repr(ToolCall("id", "name", '{"SECRET": 1}'))
    assert repr(WireError("c", "t", "unknown"))


@every_format
def test_a_reader_is_known_by_its_format(wire_format):
    assert reader_for(wire_format).format == wire_format
    assert reader_for(wire_format).answer is not reader_for(wire_format).answer


def test_an_unknown_format_is_an_error_that_names_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no wire format 'gemini'; write one of: openai-chat, openai-responses, anthropic-m"
    ):
        reader_for("gemini")
