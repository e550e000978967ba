"""The event-stream splitter, case by case after the WHATWG standard."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.gateway.wire.answer import MalformedAnswerError
from turnpike.gateway.wire.sse import SseSplitter


def events_in(*pieces, end=False, **options):
    splitter = SseSplitter(**options)
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events + splitter.finish() if end else events


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data: a\n\n", [(b"", b"a")], id="ordinary"),
        pytest.param(b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")], id="two events"),
        pytest.param(b"event: ping\ndata: {}\n\n", [(b"ping", b"{}")], id="named"),
        pytest.param(b"data: {}\nevent: ping\n\n", [(b"ping", b"{}")], id="name after data"),
        pytest.param(b"event: a\ndata: 1\n\ndata: 2\n\n", [(b"a", b"1"), (b"", b"2")], id="a name is for one event"),
        pytest.param(b"data: a\ndata: b\n\n", [(b"", b"a\nb")], id="several data lines"),
        pytest.param(b"event: x\ndata: a\ndata: b\n\n", [(b"x", b"a\nb")], id="named, several data lines"),
        pytest.param(b"data:a\n\n", [(b"", b"a")], id="no space after the colon"),
        pytest.param(b"data:  a\n\n", [(b"", b" a")], id="only one space is dropped"),
        pytest.param(b"data\n\n", [(b"", b"")], id="a field without a colon is empty"),
        pytest.param(b"data:\n\n", [(b"", b"")], id="empty data"),
        pytest.param(b"data: a: b\n\n", [(b"", b"a: b")], id="colon in the value"),
        pytest.param(b": comment\n\n", [], id="comment alone"),
        pytest.param(b": comment\ndata: a\n: more\n\n", [(b"", b"a")], id="comments around data"),
        pytest.param(b"id: 1\nretry: 5\nfoo: bar\ndata: a\n\n", [(b"", b"a")], id="other fields"),
        pytest.param(b"event: ping\n\n", [], id="a name without data is no event"),
        pytest.param(b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [(b"", b"a"), (b"", b"b")], id="blank lines"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")], id="CRLF"),
        pytest.param(b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")], id="CR"),
        pytest.param(b"data: a\r\n\ndata: b\n\r\n", [(b"", b"a"), (b"", b"b")], id="mixed line ends"),
        pytest.param(b"event: x\r\ndata: a\rdata: b\n\r", [(b"x", b"a\nb")], id="mixed line ends in one event"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")], id="byte-order mark"),
        pytest.param(b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(b"", b"a")], id="a later byte-order mark is no mark"),
        pytest.param("data: é€😀\n\n".encode(), [(b"", "é€😀".encode())], id="UTF-8"),
        pytest.param(
            "data: a\u2028b\u0085c\n\n".encode(), [(b"", "a\u2028b\u0085c".encode())], id="Unicode line ends are text"
        ),
        pytest.param(b"data: a\n", [], id="unfinished"),
    ],
)
def test_a_stream_gives_its_events_in_one_piece_and_byte_by_byte(stream, expected):
    assert events_in(stream) == expected
    assert events_in(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def test_events_that_arrive_one_to_a_read_are_the_same_as_all_at_once():
    reads = [
        b"data: a\n\n",
        b"event: x\ndata: b\n\n",
        b"event: x\ndata: c\ndata: d\n\n",
        b"event: x\nid: 1\n\n",
        b"event: x\n\n",
        b"data: e\nevent: y\n\n",
        b"data: f\n\ndata: g\n\n",
        b"event: x\ndata: h\n\nevent: y\ndata: i\n\n",
        b"\n\n",
        b": c\n\n",
        b"event: x\ndata:j\n\n",
        b"event: x\n\ndata: k\n\n",
    ]
    expected = [
        (b"", b"a"), (b"x", b"b"), (b"x", b"c\nd"), (b"y", b"e"), (b"", b"f"), (b"", b"g"),
        (b"x", b"h"), (b"y", b"i"), (b"x", b"j"), (b"", b"k"),
    ]  # fmt: skip
    assert events_in(*reads) == expected
    assert events_in(b"".join(reads)) == expected


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r", b"\r\n", b"\n\n"])
def test_the_end_of_the_stream_completes_a_last_event(tail):
    assert events_in(b"data: a\n\ndata: b" + tail, end=True) == [(b"", b"a"), (b"", b"b")]


def test_an_empty_read_between_the_halves_of_a_line_end_changes_nothing():
    assert events_in(b"data: a\r", b"", b"\ndata: b\r\n\r\n") == [(b"", b"a\nb")]


def test_finishing_twice_gives_the_last_event_once():
    splitter = SseSplitter()
    splitter.feed(b"data: a")
    assert splitter.finish() == [(b"", b"a")]
    assert splitter.finish() == []


@given(
    stream=st.lists(
        st.sampled_from(
            [b"data: a", b"data:", b"event: x", b": c", b"id: 1", b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"z"]
        )
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 200)),
)
def test_where_the_bytes_are_split_changes_nothing(stream, cuts):
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert events_in(*pieces, end=True) == events_in(stream, end=True)


def test_an_event_of_exactly_the_limit_passes_however_it_is_split():
    stream = b"data: 1234\n\n"
    expected = [(b"", b"1234")]
    assert events_in(stream, max_event_bytes=10) == expected
    assert events_in(*(stream[i : i + 1] for i in range(len(stream))), max_event_bytes=10) == expected


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_an_event_above_the_limit_is_refused_without_quoting_it(size):
    stream = b"data: a\n\ndata: SECRET\n\n"
    with pytest.raises(MalformedAnswerError, match="larger than 10 bytes") as caught:
        events_in(*(stream[i : i + size] for i in range(0, len(stream), size)), max_event_bytes=10)
    assert "SECRET" not in str(caught.value)


def test_many_events_in_one_read_may_exceed_the_limit_together():
    assert len(events_in(b"data: a\n\n" * 100, max_event_bytes=10)) == 100


def test_an_event_that_never_ends_is_refused_as_soon_as_it_is_too_large():
    splitter = SseSplitter(max_event_bytes=100)
    for _ in range(10):
        assert splitter.feed(b"data: xxxx") == []
    with pytest.raises(MalformedAnswerError, match="larger than 100 bytes"):
        splitter.feed(b"data: xxxx")
