"""Scripts, books and requests, in-process and over HTTP, and what the provider refuses."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import httpx2
import pytest

from turnpike.testing.simulator import Behaviour, Simulator, fingerprint

Ask = Callable[..., httpx2.Response]


def statuses(ask: Ask, count: int, **fields: object) -> list[int]:
    return [ask(**fields).status_code for _ in range(count)]


def test_scripted_behaviours_are_used_up_in_order(simulator: Simulator, ask: Ask) -> None:
    simulator.script(Behaviour(status=500), Behaviour(status=429, times=2), Behaviour(text="then this"))

    assert statuses(ask, 3) == [500, 429, 429]
    assert ask().json()["choices"][0]["message"]["content"] == "then this"
    assert (statuses(ask, 1), simulator.scripts_left()) == ([200], 0)


def test_scripts_wait_for_the_requests_they_are_meant_for(simulator: Simulator, ask: Ask) -> None:
    simulator.script(Behaviour(status=500), model="gpt-4o")
    simulator.script(Behaviour(status=501), api="anthropic-messages")
    simulator.script(Behaviour(status=502), key="another key")
    simulator.script(Behaviour(status=503), when=lambda request: request.headers.get("x-mark") == "1")
    simulator.script(Behaviour(status=504), path="/v1/responses")

    assert statuses(ask, 1) == [200]
    assert statuses(ask, 2, model="gpt-4o") == [500, 200]
    assert statuses(ask, 2, api="anthropic-messages") == [501, 200]
    assert statuses(ask, 2, api="openai-responses") == [504, 200]
    assert simulator.scripts_left() == 2


def test_the_default_and_a_path_prefix_apply_to_every_request(simulator: Simulator, ask: Ask) -> None:
    simulator.default(Behaviour(text="as always"))

    def text(prefix: str) -> str:
        return ask(prefix=prefix).json()["choices"][0]["message"]["content"]

    assert [text(""), text("/opt/delay_ms=1"), text("/opt/text=mine,gzip=1")] == ["as always", "as always", "mine"]


def test_a_path_prefix_sets_the_number_of_chunks(ask: Ask) -> None:
    stream = ask(prefix="/opt/chunks=7,gap_ms=0.01", stream=True).text

    assert stream.count('"delta":{"content":"') == 7


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        ("/opt/chunk=7", "no field 'chunk'; the fields are status"),
        ("/opt/chunks=many", "chunks is 'many'; write a number"),
        ("/opt/gzip=yes", "gzip is 'yes'; write 0 or 1"),
        ("/opt/chunks", "'chunks' has no value"),
        ("/opt/headers=a", "cannot be written in a path; use POST /__script"),
    ],
)
def test_a_wrong_path_prefix_is_explained(ask: Ask, prefix: str, complaint: str) -> None:
    response = ask(prefix=prefix)

    assert response.status_code == 400
    assert complaint in response.json()["error"]["message"]


def test_everything_can_be_done_over_http(http: httpx2.Client, ask: Ask) -> None:
    http.post("/__script", json={"status": 429, "retry_after": "1"}).raise_for_status()
    script = {"behaviours": [{"tool_calls": [{"name": "f", "arguments": {"x": 1}}]}], "model": "gpt-4o"}
    http.post("/__script", json=script).raise_for_status()
    http.post("/__script", json={"default": {"text": "by default", "corrupt": []}}).raise_for_status()

    assert statuses(ask, 1) == [429]
    assert ask().json()["choices"][0]["message"]["content"] == "by default"
    assert ask(model="gpt-4o").json()["choices"][0]["finish_reason"] == "tool_calls"
    bills = http.get("/__bills").json()
    assert [(bill["sequence"], bill["status"], bill["accepted"]) for bill in bills] == [
        (0, 429, False),
        (1, 200, True),
        (2, 200, True),
    ]
    assert bills[1]["generated_output_tokens"] == bills[1]["usage"]["output"] == 3
    assert http.get("/__bills?since=2").json() == bills[2:]
    assert [request["body"]["model"] for request in http.get("/__requests").json()] == ["gpt-4o-mini"] * 2 + ["gpt-4o"]
    assert http.get("/__stats__").json()["bills"] == 3
    http.post("/__reset").raise_for_status()
    assert (http.get("/__bills").json(), http.get("/__requests").json()) == ([], [])


def test_set_changes_the_default(http: httpx2.Client, ask: Ask) -> None:
    assert http.get("/__set__/text=set,chunks=2").json()["text"] == "set"
    assert ask().json()["choices"][0]["message"]["content"] == "set"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "complaint"),
    [
        ("POST", "/__script", '{"stats": 1}', 400, "no field 'stats'"),
        ("POST", "/__script", "[]", 400, "write a JSON object"),
        ("POST", "/__script", '{"behaviours": [1]}', 400, "a behaviour is 1"),
        ("POST", "/__script", '{"behaviours": [], "modle": "x"}', 400, "no field modle"),
        ("GET", "/__bills?since=x", "", 400, "since is 'x'"),
        ("GET", "/__nothing", "", 404, "no control endpoint"),
        ("DELETE", "/__bills", "", 404, "no control endpoint"),
    ],
)
def test_wrong_control_requests_are_explained(
    http: httpx2.Client, method: str, path: str, body: str, status: int, complaint: str
) -> None:
    response = http.request(method, path, content=body)

    assert response.status_code == status
    assert complaint in response.json()["error"]


def test_received_requests_show_what_was_sent_but_no_secret(
    simulator: Simulator, http: httpx2.Client, ask: Ask
) -> None:
    http.headers["X-Mark"] = "Here"
    ask(temperature=0.5)

    [request] = simulator.requests()
    assert (request.headers["x-mark"], request.headers["authorization"]) == ("Here", "***")
    assert "baggage" not in request.headers
    assert (request.body["temperature"], request.path, request.api) == (0.5, "/v1/chat/completions", "openai-chat")
    assert request.key == fingerprint("sk-test") == simulator.bills()[0].key
    assert "sk-test" not in repr(simulator.requests()) + repr(simulator.bills())


def test_only_so_many_requests_are_remembered_but_every_bill_is() -> None:
    with Simulator(kept_requests=2) as simulator, httpx2.Client(base_url=simulator.url) as http:
        for _ in range(5):
            http.post("/v1/responses", json={})

        assert [request.sequence for request in simulator.requests()] == [3, 4]
        assert len(simulator.bills()) == 5


def test_keys_can_be_restricted_and_are_never_repeated() -> None:
    with Simulator(keys={"good"}) as simulator, httpx2.Client(base_url=simulator.url) as http:
        for header, key, status in [
            ("authorization", "Bearer good", 200),
            ("api-key", "good", 200),
            ("authorization", "Bearer bad-key-1", 401),
            ("authorization", "Basic good", 401),
        ]:
            body = {"model": "gpt-4o", "input": "Hello"}
            response = http.post("/v1/responses", json=body, headers={header: key})
            assert response.status_code == status
            assert "bad-key-1" not in response.text


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/chat/completions", "invalid_request_error"), ("/v1/messages", "authentication_error")],
)
def test_a_missing_key_is_a_401_in_the_vendors_shape(simulator: Simulator, path: str, kind: str) -> None:
    response = httpx2.post(simulator.url + path, json={})

    assert (response.status_code, response.json()["error"]["type"]) == (401, kind)
    [bill] = simulator.bills()
    assert (bill.accepted, bill.cost_nano_usd, bill.key) == (False, 0, "")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/chat/completions", "{not json", "We could not parse the JSON body"),
        ("/v1/chat/completions", '{"messages": []}', "you must provide a model parameter"),
        ("/v1/chat/completions", '{"model": "m"}', "Missing required parameter: 'messages'"),
        ("/v1/chat/completions", '{"model": "m", "messages": []}', "Invalid 'messages': empty array"),
        ("/v1/chat/completions", '{"model": "m", "messages": ["x"]}', "messages[0]"),
        ("/v1/chat/completions", '{"model": "m", "messages": [{"role": "user"}], "max_tokens": 0}', "'max_tokens'"),
        ("/v1/chat/completions", '{"model": "m", "messages": [{"role": "user"}], "tools": 3}', "expected shape"),
        ("/v1/chat/completions", '{"model": "m", "messages": [{"role": "user"}], "stream": "yes"}', "'stream'"),
        ("/v1/responses", '{"model": "m"}', "Missing required parameter: 'input'"),
        ("/v1/responses", '{"model": "m", "input": [3]}', "input[0]"),
        ("/v1/messages", '{"max_tokens": 1, "messages": []}', "model: Field required"),
        ("/v1/messages", '{"model": "m", "messages": [{"role": "user"}]}', "max_tokens: Field required"),
        ("/v1/messages", '{"model": "m", "max_tokens": 1}', "messages: Field required"),
        ("/v1/messages", '{"model": "m", "max_tokens": 1, "messages": ["x"]}', "messages.0: Input does not match"),
        ("/v1/messages", "3", "not valid JSON"),
    ],
)
def test_a_bad_request_is_a_400_that_uses_up_no_script(
    simulator: Simulator, http: httpx2.Client, path: str, body: str, message: str
) -> None:
    simulator.script(Behaviour(status=503))

    response = http.post(path, content=body)

    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert simulator.scripts_left() == 1
    assert [bill.accepted for bill in simulator.bills()] == [False]


def test_unknown_paths_and_methods_are_in_the_vendors_shape_and_on_no_bill(
    simulator: Simulator, http: httpx2.Client
) -> None:
    openai = http.post("/v1/embeddings", json={})
    anthropic = http.post("/v1/complete", json={}, headers={"anthropic-version": "2023-06-01"})
    method = http.get("/v1/chat/completions")

    assert (openai.status_code, openai.json()["error"]["message"]) == (404, "Invalid URL (POST /v1/embeddings)")
    assert (anthropic.status_code, anthropic.json()["error"]["type"]) == (404, "not_found_error")
    assert method.status_code == 405
    assert simulator.bills() == []


def test_requests_may_be_pipelined_split_and_chunked(simulator: Simulator) -> None:
    body = json.dumps({"model": "gpt-4o", "input": "Hello"}).encode()
    head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
    sized = head + b"content-length: %d\r\n\r\n" % len(body) + body
    chunked = head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    last = head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    simulator.default(Behaviour(delay_ms=1))
    received = b""
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=5) as connection:
        connection.sendall(sized[:30])
        connection.sendall(sized[30:] + chunked + last)
        while data := connection.recv(65536):
            received += data

    assert received.count(b"HTTP/1.1 200 OK") == len(simulator.bills()) == 3


def test_a_client_may_wait_for_the_continue(simulator: Simulator) -> None:
    body = b'{"model": "gpt-4o", "input": "Hello"}'
    head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\nexpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=5) as connection:
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_what_is_not_http_is_a_400(simulator: Simulator) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=5) as connection:
        connection.sendall(b"hello there\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        assert connection.recv(100) == b""


def test_a_slow_reader_does_not_make_the_whole_answer_sent(simulator: Simulator) -> None:
    simulator.default(Behaviour(chunks=100_000, generate_after_disconnect=False))
    body = b'{"model": "gpt-4o-mini", "input": "Hello", "stream": true}'
    head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=5) as connection:
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"

    simulator.wait_idle(bills=1)
    [bill] = simulator.bills()
    assert bill.aborted_by_client
    assert 0 < bill.sent_output_tokens == bill.usage.output < 100_000


def test_it_runs_on_the_loop_of_its_user() -> None:
    async def scenario() -> int:
        async with Simulator() as simulator, httpx2.AsyncClient(base_url=simulator.url) as http:
            await http.get("/__stats__")
            return simulator.stats()["connections"]

    assert asyncio.run(scenario()) == 1


def test_it_can_be_started_and_stopped_again() -> None:
    simulator = Simulator()
    with pytest.raises(RuntimeError, match="not running"):
        _ = simulator.url
    for _ in range(2):
        simulator.start()
        with pytest.raises(RuntimeError, match="already running"):
            simulator.start()
        assert httpx2.get(simulator.url + "/__stats__").status_code == 200
        simulator.stop()
    simulator.stop()


def test_a_taken_port_is_reported(simulator: Simulator) -> None:
    with pytest.raises(OSError, match="address already in use"):
        Simulator(port=simulator.port).start()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_cleanly_on_a_signal(ending: signal.Signals) -> None:
    program = (
        "from turnpike.testing.simulator import serve; serve('127.0.0.1', 0, ready=lambda s: print(s.url, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        url = server.stdout.readline().decode().strip()
        assert httpx2.get(url + "/__stats__").status_code == 200
        os.kill(server.pid, ending)
        _, errors = server.communicate(timeout=10)

    assert (server.returncode, errors) == (0, b"")


def test_a_missing_h11_is_told_with_its_cure() -> None:
    program = "import sys; sys.modules['h11'] = None\nimport turnpike.testing.simulator"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert "pip install 'turnpike[testing]'" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("ImportError")


def test_an_azure_path_names_the_model_that_the_body_leaves_out(simulator: Simulator, http: httpx2.Client) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    response = http.post("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", json=body)

    assert response.json()["model"] == "gpt-4o-2024-08-06"
    assert simulator.requests()[0].body == body
