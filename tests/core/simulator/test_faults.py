"""What a scripted fault does to the bytes on the wire and to the bill."""

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from turnpike.testing.simulator import Behaviour, Simulator

Ask = Callable[..., httpx2.Response]
Raw = Callable[..., socket.socket]
APIS = ["openai-chat", "openai-responses", "anthropic-messages"]


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side ends, or ConnectionResetError."""
    received = b""
    with connection:
        while data := connection.recv(65536):
            received += data
    return received


def read_until_reset(connection: socket.socket) -> bytes:
    """What arrived before the reset; a connection that ends well is a failure."""
    received = b""
    with connection:
        try:
            while data := connection.recv(65536):
                received += data
        except ConnectionResetError:
            return received
    pytest.fail("the connection ended without a reset")


def lines_of(response: httpx2.Response) -> list[str]:
    return [line for line in response.text.split("\n") if line.startswith("data: ")]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_before_headers_sends_nothing_and_bills_nothing(
    simulator: Simulator, raw: Raw, api: str, stream: bool
) -> None:
    simulator.script(Behaviour(reset="before_headers"))

    assert read_until_reset(raw(api, stream=stream)) == b""
    simulator.wait_idle()
    [bill] = simulator.bills()
    assert (bill.accepted, bill.cost_nano_usd, bill.delivered_usage) == (False, 0, False)


def test_a_reset_before_headers_can_be_told_to_bill(simulator: Simulator, raw: Raw) -> None:
    simulator.script(Behaviour(reset="before_headers", accepted=True))

    assert read_until_reset(raw()) == b""
    simulator.wait_idle()
    [bill] = simulator.bills()
    assert bill.accepted
    assert bill.cost_nano_usd > 0
    assert not bill.delivered_usage


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_after_headers_leaves_only_the_headers(simulator: Simulator, raw: Raw, stream: bool) -> None:
    simulator.script(Behaviour(reset="after_headers"))
    received = read_until_reset(raw(stream=stream))

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\n")


def test_a_reset_mid_stream_comes_after_so_many_events(simulator: Simulator, raw: Raw) -> None:
    simulator.script(Behaviour(reset="mid_stream", after_events=5))
    received = read_until_reset(raw(stream=True))

    assert received.count(b"data: ") == 5


def test_a_truncated_stream_ends_inside_its_http_body(simulator: Simulator, http: httpx2.Client, ask: Ask) -> None:
    simulator.script(Behaviour(truncate="close", after_events=4))

    with pytest.raises(httpx2.RemoteProtocolError):
        ask(stream=True)


@pytest.mark.parametrize("api", APIS)
def test_a_stream_can_end_well_formed_but_too_early(simulator: Simulator, ask: Ask, api: str) -> None:
    simulator.script(Behaviour(truncate="http_end", after_events=6))

    response = ask(api, stream=True)

    assert len(lines_of(response)) == 6
    assert not simulator.bills()[0].delivered_usage


def test_a_truncated_json_body_is_shorter_than_its_length(simulator: Simulator, raw: Raw) -> None:
    simulator.script(Behaviour(truncate="close", after_bytes=17))
    head, _, body = read_all(raw()).partition(b"\r\n\r\n")

    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    assert (len(body), int(length.split(b":")[1]) > 17) == (17, True)


def test_a_truncated_json_body_can_pass_for_whole(simulator: Simulator, ask: Ask) -> None:
    simulator.script(Behaviour(truncate="http_end"))

    with pytest.raises(json.JSONDecodeError):
        ask().json()


@pytest.mark.parametrize("position", ["before_headers", "after_headers", "mid_stream"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_hang_lasts_until_the_client_leaves_and_is_billed(
    simulator: Simulator, raw: Raw, position: str, stream: bool
) -> None:
    simulator.script(Behaviour(hang=position))
    connection = raw(stream=stream)
    if position != "before_headers":
        assert connection.recv(17) == b"HTTP/1.1 200 OK\r\n"
    connection.close()

    simulator.wait_idle(bills=1)
    [bill] = simulator.bills()
    assert (bill.finished, bill.aborted_by_client, bill.delivered_usage) == (True, True, False)
    assert bill.cost_nano_usd > 0


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_bill_of_an_abandoned_stream(simulator: Simulator, raw: Raw, goes_on: bool) -> None:
    text = "abcd" * 10
    simulator.script(
        Behaviour(hang="mid_stream", after_events=4, text=text, chunks=10, generate_after_disconnect=goes_on)
    )
    connection = raw(stream=True)
    received = b""
    while received.count(b"\n\n") < 4:
        received += connection.recv(65536)
    connection.close()

    simulator.wait_idle(bills=1)
    [bill] = simulator.bills()
    # The first of the four events is the role; the three others carry one token of text each.
    assert bill.sent_output_tokens == 3
    assert bill.usage.output == (10 if goes_on else 3)
    assert bill.cost_nano_usd == bill.usage.input * 150 + bill.usage.output * 600


def test_what_was_generated_before_an_error_event_is_billed(simulator: Simulator, ask: Ask) -> None:
    simulator.script(Behaviour(error_event="error", after_events=4, text="abcd" * 10, chunks=10))

    lines = lines_of(ask(stream=True))

    assert json.loads(lines[-1].removeprefix("data: "))["error"]["type"] == "server_error"
    assert (simulator.bills()[0].usage.output, simulator.bills()[0].delivered_usage) == (3, False)


@pytest.mark.parametrize(
    ("corruption", "broken_at"), [("invalid_json", 3), ("invalid_utf8", 3)], ids=["invalid_json", "invalid_utf8"]
)
@pytest.mark.parametrize("api", APIS)
def test_one_event_can_be_broken(simulator: Simulator, ask: Ask, api: str, corruption: str, broken_at: int) -> None:
    simulator.script(Behaviour(corrupt=(corruption,)))
    data = [line[6:] for line in ask(api, stream=True).content.split(b"\n") if line.startswith(b"data: ")]
    broken = []
    for index, line in enumerate(data):
        try:
            line == b"[DONE]" or json.loads(line)
        except ValueError:
            broken.append(index)

    assert broken == [broken_at]


@pytest.mark.parametrize("corruption", ["invalid_json", "invalid_utf8"])
def test_a_json_body_can_be_broken(simulator: Simulator, ask: Ask, corruption: str) -> None:
    simulator.script(Behaviour(corrupt=(corruption,)))

    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
        json.loads(ask().content)


@pytest.mark.parametrize("api", APIS)
def test_other_corruptions_change_the_framing_and_not_the_events(simulator: Simulator, ask: Ask, api: str) -> None:
    simulator.default(Behaviour(text="one two three", model="m"))
    plain = ask(api, stream=True).content

    def corrupted(*names: str) -> bytes:
        simulator.default(Behaviour(text="one two three", model="m", corrupt=names))
        return ask(api, stream=True).content

    def size(stream: bytes) -> int:
        return len(stream)

    blocks = plain.count(b"\n\n")
    assert size(corrupted("crlf")) == size(plain) + plain.count(b"\n")
    assert corrupted("cr").count(b"\r\r") == blocks
    assert b"\n" not in corrupted("cr")
    assert corrupted("duplicate_event").count(b"\n\n") == blocks + 1
    assert corrupted("comments").count(b": keep-alive\n\n") == blocks
    assert not corrupted("no_final_blank_line").endswith(b"\n\n")
    assert corrupted("crlf", "comments").count(b": keep-alive\r\n\r\n") == blocks


@pytest.mark.parametrize("shown", ["missing", "zero"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", APIS)
def test_usage_can_be_missing_or_zero_on_the_wire_and_never_on_the_bill(
    simulator: Simulator, ask: Ask, api: str, stream: bool, shown: str
) -> None:
    simulator.script(Behaviour(usage=shown))

    text = ask(api, stream=stream, **({"stream_options": {"include_usage": True}} if api == "openai-chat" else {})).text

    figures = [field for field in ('"output_tokens":', '"completion_tokens":') if field in text]
    assert bool(figures) == (shown == "zero")
    assert all(text.count(field) == text.count(field + "0") for field in figures)
    [bill] = simulator.bills()
    assert (bill.usage.output > 0, bill.cost_nano_usd > 0, bill.delivered_usage) == (True, True, False)


def test_scripted_usage_is_on_the_wire_and_on_the_bill(simulator: Simulator, ask: Ask) -> None:
    simulator.default(
        Behaviour(
            input_tokens=100,
            cache_read_tokens=50,
            cache_write_5m_tokens=20,
            cache_write_1h_tokens=10,
            output_tokens=7,
            reasoning_tokens=3,
        )
    )

    chat, messages = ask("openai-chat").json()["usage"], ask("anthropic-messages").json()["usage"]

    assert (chat["prompt_tokens"], chat["completion_tokens"], chat["total_tokens"]) == (180, 7, 187)
    assert (chat["prompt_tokens_details"]["cached_tokens"], chat["prompt_tokens_details"]["cache_write_tokens"]) == (
        50,
        30,
    )
    assert (messages["input_tokens"], messages["cache_creation_input_tokens"], messages["output_tokens"]) == (
        100,
        30,
        7,
    )
    assert [bill.usage for bill in simulator.bills()] == [(100, 50, 20, 10, 7, 3)] * 2


@pytest.mark.parametrize("api", APIS)
def test_a_scripted_output_figure_bounds_what_an_abandoned_stream_costs(
    simulator: Simulator, ask: Ask, api: str
) -> None:
    simulator.script(Behaviour(output_tokens=1000, reasoning_tokens=0, generate_after_disconnect=False))

    ask(api, stream=True)

    [bill] = simulator.bills()
    assert bill.sent_output_tokens == bill.usage.output == 1000


def test_bodies_are_gzipped_for_clients_that_accept_it(simulator: Simulator, http: httpx2.Client, ask: Ask) -> None:
    simulator.default(Behaviour(gzip=True))
    zipped = ask()
    http.headers["accept-encoding"] = "identity"
    plain = ask()

    assert zipped.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert zipped.json()["choices"] == plain.json()["choices"]


def test_a_json_body_can_be_chunked_and_drip(simulator: Simulator, raw: Raw) -> None:
    simulator.script(Behaviour(chunked=True, bytes_per_write=1, text="Hi", truncate="http_end", after_bytes=3))
    head, _, body = read_all_of_one_response(raw())

    assert b"transfer-encoding: chunked" in head
    assert body == b'1\r\n{\r\n1\r\n"\r\n1\r\ni\r\n0\r\n\r\n'


def read_all_of_one_response(connection: socket.socket) -> tuple[bytes, bytes, bytes]:
    received = b""
    with connection:
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(65536)
    return received.partition(b"\r\n\r\n")


def test_a_stream_is_written_in_pieces_of_the_scripted_size(simulator: Simulator, raw: Raw) -> None:
    simulator.script(Behaviour(text="one two", gap_ms=0.01, events_per_write=2))
    _, _, body = read_all_of_one_response(raw(stream=True))

    # Role, two words, the finish and [DONE] are five events: two chunks of two and one of one.
    assert body.count(b"\r\ndata: ") + body.startswith(b"data: ") == 3
    assert body.count(b"data: ") == 5


def test_headers_retry_after_and_delay_are_sent_as_scripted(simulator: Simulator, ask: Ask) -> None:
    simulator.script(
        Behaviour(status=429, retry_after="inf", headers={"X-Extra": "1", "X-Request-ID": "mine"}, delay_ms=1)
    )

    headers = ask().headers

    assert (headers["retry-after"], headers["x-extra"]) == ("inf", "1")
    assert headers.get_list("x-request-id") == ["mine"]


def test_a_scripted_model_answers_and_is_billed(simulator: Simulator, ask: Ask) -> None:
    simulator.script(Behaviour(model="gpt-4o"))

    assert ask(model="gpt-4o-mini").json()["model"] == "gpt-4o-2024-08-06"
    [bill] = simulator.bills()
    assert (bill.model_asked, bill.model_billed) == ("gpt-4o-mini", "gpt-4o-2024-08-06")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"status": 302}, "status is 302; write 200, or an error status"),
        ({"delay_ms": float("inf")}, "delay_ms is inf; write a number of milliseconds"),
        ({"hang": "forever"}, "hang is 'forever'; write one of before_headers"),
        ({"corrupt": ("json",)}, "corrupt is .*; write a tuple of invalid_json"),
        ({"headers": {"a": "b\r\nc: d"}}, "headers is .*; write a mapping"),
        ({"times": 0}, "times is 0; write a whole number from 1 up"),
        ({"hang": "mid_stream", "reset": "mid_stream"}, "hang and reset; a request can suffer one"),
    ],
)
def test_a_senseless_behaviour_is_refused_by_name(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Behaviour(**fields)
