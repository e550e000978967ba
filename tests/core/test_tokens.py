"""Counting tokens: exact with a vocabulary on disk, a bound without, and never a download on the way."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnpike.errors import ConfigurationError
from turnpike.tokens import (
    VOCABULARIES,
    TokenCount,
    TokensMethod,
    Vocabulary,
    bound_messages,
    bound_text,
    cache_directory,
    count_messages,
    count_tokens,
    counting,
    download,
    fetch,
    is_loaded,
    preload,
    vocabulary_for,
)
from turnpike.tokens.vocabulary import VocabularyShelf

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "recorded"


def needs_tiktoken() -> None:
    pytest.importorskip("tiktoken", reason="needs tiktoken: install turnpike[tokens]")


def _vocabulary_file() -> bytes:
    """A small vocabulary: every byte, and the pieces of which "the gate" is made."""
    tokens = [*(bytes([byte]) for byte in range(256)), b"th", b"the", b" g", b" ga", b"te", b" gate"]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


FILE = _vocabulary_file()
SMALL = replace(VOCABULARIES["o200k_base"], sha256=hashlib.sha256(FILE).hexdigest())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a process that has loaded nothing yet, and no way to the network but loopback."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(counting, "_shelf", VocabularyShelf())
    monkeypatch.setattr(counting, "_counters", {})
    monkeypatch.setitem(VOCABULARIES, "o200k_base", SMALL)  # type: ignore[arg-type]
    monkeypatch.setattr(socket, "getaddrinfo", _no_network(socket.getaddrinfo))
    return tmp_path


def _no_network(resolve: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(host: Any, *arguments: Any, **more: Any) -> Any:
        assert host == "127.0.0.1", f"looked up {host}"
        return resolve(host, *arguments, **more)

    return guarded


@pytest.fixture
def on_disk(cache: Path) -> Path:
    """The small vocabulary where tiktoken would have put o200k_base."""
    path = SMALL.path()
    assert path is not None
    path.write_bytes(FILE)
    return path


# --------------------------------------------------------------------------------------------------- without a file


@pytest.mark.parametrize(
    ("text", "length"), [("", 0), ("the gate", 8), ("café", 5), ("漢字", 6), ("\U0001f600", 4), ("\ud800", 3)]
)
def test_without_a_vocabulary_the_bound_is_the_length_in_utf8(text: str, length: int) -> None:
    assert count_tokens(text) == TokenCount(length, TokensMethod.BYTES_BOUND)
    assert bound_text(text) == length


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "gemini-2.5-pro", "my-own-model", "", "text-davinci-003"])
def test_a_model_without_a_known_vocabulary_is_counted_by_the_bound(model: str, on_disk: Path) -> None:
    assert count_tokens("the gate", model) == TokenCount(8, TokensMethod.BYTES_BOUND)
    assert vocabulary_for(model) is None


def test_without_tiktoken_the_bound_is_used(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tiktoken", "tiktoken.model"):
        monkeypatch.setitem(sys.modules, module, None)
    assert count_tokens("the gate").method == "bytes_bound"
    assert preload() is False


# ------------------------------------------------------------------------------------------------------ with a file


def test_with_its_vocabulary_on_disk_a_text_is_counted_exactly(on_disk: Path) -> None:
    needs_tiktoken()
    assert count_tokens("the gate") == TokenCount(2, TokensMethod.TIKTOKEN)
    assert count_tokens("") == TokenCount(0, TokensMethod.TIKTOKEN)


@pytest.mark.parametrize("text", ["<|endoftext|>", "a<|endofprompt|>b", "<|start|>"])
def test_what_looks_like_a_special_token_is_text(text: str, on_disk: Path) -> None:
    needs_tiktoken()
    assert len(text) // 2 < count_tokens(text).tokens <= len(text)


def test_a_lone_surrogate_is_counted(on_disk: Path) -> None:
    needs_tiktoken()
    assert count_tokens("the \ud800 gate").method == "tiktoken"


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4.1", "gpt-5", "o3-mini", "gpt-oss-120b"])
def test_models_share_vocabularies(model: str, on_disk: Path) -> None:
    needs_tiktoken()
    assert count_tokens("the gate", model).tokens == 2


def test_another_file_in_its_place_is_not_used_and_stays(cache: Path) -> None:
    path = SMALL.path()
    assert path is not None
    path.write_bytes(FILE.replace(b"dGhl ", b"aGhl "))
    assert count_tokens("the gate").method == "bytes_bound"
    assert SMALL.state() == "damaged"
    assert path.exists()


def test_a_file_is_looked_for_once_and_again_by_preload(cache: Path) -> None:
    needs_tiktoken()
    assert not is_loaded()
    assert count_tokens("the gate", "gpt-4o").method == "bytes_bound"
    assert is_loaded()
    path = SMALL.path()
    assert path is not None
    path.write_bytes(FILE)
    assert count_tokens("the gate", "gpt-5").method == "bytes_bound"
    assert preload("gpt-4.1") is True
    path.unlink()
    assert [count_tokens("the gate", model).tokens for model in ("gpt-4o", "gpt-5", "gpt-4.1")] == [2, 2, 2]


def test_threads_load_a_vocabulary_once(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_tiktoken()
    reads: list[bytes] = []
    accepts = Vocabulary.accepts

    def counted(self: Vocabulary, content: bytes) -> bool:
        reads.append(content)
        return accepts(self, content)

    monkeypatch.setattr(Vocabulary, "accepts", counted)
    barrier = threading.Barrier(8)
    found: list[int] = []

    def count() -> None:
        barrier.wait()
        found.append(count_tokens("the gate").tokens)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 8
    assert len(reads) == 1


def test_a_child_process_does_not_wait_for_a_lock_of_its_parent(on_disk: Path) -> None:
    needs_tiktoken()
    shelf = VocabularyShelf()
    shelf._lock.acquire()
    shelf.after_fork_in_child()
    assert shelf.take(SMALL) is not None


def test_model_names_do_not_pile_up() -> None:
    for number in range(1000):
        count_tokens("x", f"model-{number}")
    assert len(counting._counters) <= 256


# ---------------------------------------------------------------------------------------------- as tiktoken has it


def test_the_cache_is_where_tiktoken_looks_for_it(on_disk: Path) -> None:
    needs_tiktoken()
    from tiktoken.load import read_file_cached

    assert read_file_cached(SMALL.url, SMALL.sha256) == FILE


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"TIKTOKEN_CACHE_DIR": "/a", "DATA_GYM_CACHE_DIR": "/b"}, Path("/a")),
        ({"DATA_GYM_CACHE_DIR": "/b"}, Path("/b")),
        ({"TIKTOKEN_CACHE_DIR": "", "DATA_GYM_CACHE_DIR": "/b"}, None),
    ],
)
def test_the_variables_of_the_cache_are_tiktokens(environ: dict[str, str], folder: Path | None) -> None:
    assert cache_directory(environ) == folder


def test_the_default_cache_is_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_directory({}) == tmp_path / "data-gym-cache"


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_addresses_digests_and_patterns_are_those_of_the_installed_tiktoken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_tiktoken()
    from tiktoken_ext import openai_public

    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        openai_public, "load_tiktoken_bpe", lambda url, expected_hash: asked.append((url, expected_hash))
    )
    encoding = openai_public.ENCODING_CONSTRUCTORS[name]()
    monkeypatch.undo()
    vocabulary = VOCABULARIES[name]
    assert asked == [(vocabulary.url, vocabulary.sha256)]
    assert encoding["pat_str"] == vocabulary.pattern


def test_the_harmony_encoding_has_the_vocabulary_it_is_counted_with(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_tiktoken()
    from tiktoken_ext import openai_public

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda url, expected_hash: url)
    harmony, plain = (openai_public.ENCODING_CONSTRUCTORS[name]() for name in ("o200k_harmony", "o200k_base"))
    assert [harmony[key] for key in ("pat_str", "mergeable_ranks")] == [
        plain[key] for key in ("pat_str", "mergeable_ranks")
    ]


# -------------------------------------------------------------------------------------------------------- messages


def test_a_message_takes_three_tokens_and_so_does_the_answer() -> None:
    assert bound_messages([]).tokens == 3
    assert bound_messages([{"role": "user", "content": "gate"}]).tokens == 3 + 3 + len("user") + len("gate")
    assert bound_messages([{"role": "user", "name": "ann", "content": "x"}]).tokens == 3 + 3 + 4 + (1 + 3) + 1


def test_messages_are_counted_exactly_where_texts_are(on_disk: Path) -> None:
    needs_tiktoken()
    found = count_messages([{"role": "the", "content": "the gate"}, {"role": "the", "content": None}])
    assert found == TokenCount(3 + (3 + 1 + 2) + (3 + 1), TokensMethod.TIKTOKEN)


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "gate"}],
        [{"type": "input_text", "text": "gate"}],
        [{"type": "refusal", "refusal": "gate"}],
        [{"type": "text", "text": "ga"}, {"type": "text", "text": "te"}],
    ],
)
def test_parts_of_text_count_as_their_text(content: Any) -> None:
    assert bound_messages([{"role": "user", "content": content}]).tokens == 3 + 3 + 4 + 4


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}},
        {"type": "input_image", "image_url": "https://example.org/gate.png"},
        {"type": "image", "source": {"type": "base64", "data": "A" * 9000}},
        {"type": "input_audio", "input_audio": {"data": "A" * 9000, "format": "wav"}},
        {"type": "document", "source": {"type": "text", "data": "A" * 9000}},
    ],
)
def test_what_is_no_text_is_said_to_be_left_out(part: dict[str, Any]) -> None:
    found = bound_messages([{"role": "user", "content": [{"type": "text", "text": "gate"}, part]}])
    assert (found.tokens, found.uncounted) == (3 + 3 + 4 + 4, 1)


def test_an_image_in_a_tools_result_is_left_out_and_the_rest_of_it_counted() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 9000}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [image, {"type": "text", "text": "gate"}]}
    found = bound_messages([{"role": "user", "content": [result]}])
    assert found.uncounted == 1
    assert 20 < found.tokens < 100


def test_tool_calls_count_with_their_names_and_arguments() -> None:
    arguments = json.dumps({"order": "A" * 500})
    call = {"id": "c1", "type": "function", "function": {"name": "order_status", "arguments": arguments}}
    found = bound_messages([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert len(arguments) + len("order_status") < found.tokens < len(json.dumps(call)) + 40


def test_messages_may_be_nested_as_deeply_as_a_client_likes() -> None:
    content: Any = "gate"
    for _ in range(50_000):
        content = [content]
    assert bound_messages([{"role": "user", "content": content}]).tokens == 3 + 3 + 4 + 4


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.fixed_dictionaries({"role": st.text(max_size=9), "content": _JSON}), max_size=4))
def test_an_exact_count_never_exceeds_the_bound(on_disk: Path, messages: list[dict[str, Any]]) -> None:
    needs_tiktoken()
    exact, bound = count_messages(messages), bound_messages(messages)
    assert exact.method == "tiktoken"
    assert exact.tokens <= bound.tokens
    assert exact.uncounted == bound.uncounted


def _recorded() -> list[tuple[str, list[Any], int]]:
    """Plain requests to OpenAI and Anthropic: the conversation, and the input tokens that the vendor has counted."""
    found = []
    for path in sorted(RECORDED.glob("*__200__json__*.json")):
        exchange = json.loads(path.read_text("utf-8"))
        request, usage = exchange["request"].get("json"), exchange["response"].get("json", {}).get("usage")
        if exchange["provider"] in ("openai", "anthropic") and isinstance(request, dict) and isinstance(usage, dict):
            found.append((path.name, _conversation(request), _input_tokens(usage)))
    return [case for case in found if case[1] and case[2]]


def _conversation(request: dict[str, Any]) -> list[Any]:
    beside = {"tools", "functions", "response_format", "text", "output_config", "output_format", "thinking"}
    if any(request.get(key) for key in (*beside, "previous_response_id", "conversation", "prompt", "mcp_servers")):
        return []
    given = request.get("messages") or request.get("input") or []
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    first = request.get("system") or request.get("instructions")
    return [{"role": "system", "content": first}, *messages] if first else messages


def _input_tokens(usage: dict[str, Any]) -> int:
    names = ("prompt_tokens", "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage.get(name) or 0 for name in names)


@pytest.mark.skipif(
    not RECORDED.is_dir(), reason="needs recordings: put the recorded exchanges into ../shared/data/recorded"
)
def test_no_recorded_conversation_exceeds_the_bound() -> None:
    cases = _recorded()
    bounds = [(name, bound_messages(messages), counted) for name, messages, counted in cases]
    assert len([bound for _, bound, _ in bounds if not bound.uncounted]) > 50
    assert [case for case in bounds if case[1].tokens < case[2] and not case[1].uncounted] == []


# ---------------------------------------------------------------------------------------------------- hostile text


@pytest.mark.parametrize("unit", [" ", "a", "A", "\n", "!", "A'", "漢", "a\u0301", "\U0001f600", "the gate "])
def test_a_megabyte_of_anything_is_counted_in_bounded_time(unit: str, on_disk: Path) -> None:
    needs_tiktoken()
    text = (unit * 1_200_000)[:1_200_000]
    begin = time.process_time()
    found = count_tokens(text)
    assert found.method == "tiktoken"
    assert 0 < found.tokens <= bound_text(text)
    assert time.process_time() - begin < 20


def test_a_seam_between_pieces_costs_next_to_nothing(on_disk: Path) -> None:
    needs_tiktoken()
    assert count_tokens("the gate" * 100_000).tokens == pytest.approx(200_000, abs=100)


# -------------------------------------------------------------------------------------------------------- fetching


class _Vendor:
    """A server that publishes one file."""

    def __init__(self) -> None:
        self.content = FILE
        self.status = 200
        self.asked = 0
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                vendor.asked += 1
                self.send_response(vendor.status)
                self.end_headers()
                self.wfile.write(vendor.content)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing it waits for the answers
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/o200k_base.tiktoken"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def vendor() -> Iterator[_Vendor]:
    vendor = _Vendor()
    yield vendor
    vendor.close()


@pytest.fixture
def published(vendor: _Vendor, monkeypatch: pytest.MonkeyPatch) -> Vocabulary:
    """The small vocabulary as the only one, published by ``vendor``."""
    vocabulary = replace(SMALL, url=vendor.url)
    monkeypatch.delitem(VOCABULARIES, "cl100k_base")  # type: ignore[arg-type]
    monkeypatch.setitem(VOCABULARIES, "o200k_base", vocabulary)  # type: ignore[arg-type]
    return vocabulary


def test_fetching_puts_the_file_where_counting_finds_it(published: Vocabulary, tmp_path: Path) -> None:
    needs_tiktoken()
    assert published.state() == "missing"
    path = fetch(published, environ={"TIKTOKEN_CACHE_DIR": str(tmp_path / "new" / "folder")})
    assert path == tmp_path / "new" / "folder" / hashlib.sha1(published.url.encode()).hexdigest()
    assert list(path.parent.iterdir()) == [path]
    fetch(published)
    assert published.state() == "on disk"
    assert preload() is True


def test_what_is_not_the_vocabulary_is_not_kept(published: Vocabulary, vendor: _Vendor, cache: Path) -> None:
    vendor.content = b"<html>Please log in</html>"
    with pytest.raises(OSError, match="is not the vocabulary o200k_base"):
        fetch(published)
    assert list(cache.iterdir()) == []


def test_a_refusal_is_an_error(published: Vocabulary, vendor: _Vendor, cache: Path) -> None:
    vendor.status = 404
    with pytest.raises(OSError, match="answers with HTTP status 404"):
        fetch(published)
    assert list(cache.iterdir()) == []


class _Clock:
    """A clock on which every look takes a minute."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 60.0
        return self.now

    def time(self) -> float:
        return self.now


def test_a_download_has_a_deadline_however_it_drips(published: Vocabulary) -> None:
    with pytest.raises(TimeoutError, match="not complete within 30 s"):
        fetch(published, timeout_s=30, clock=_Clock())


def test_a_download_has_a_greatest_size(published: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_MAX_BYTES", 1000)
    with pytest.raises(OSError, match="more than 1000 bytes"):
        fetch(published)


def test_fetching_into_a_cache_that_is_off_is_an_error_before_the_download(
    published: Vocabulary, vendor: _Vendor
) -> None:
    with pytest.raises(ConfigurationError, match="TIKTOKEN_CACHE_DIR"):
        fetch(published, environ={"TIKTOKEN_CACHE_DIR": ""})
    assert vendor.asked == 0
    assert published.state({"TIKTOKEN_CACHE_DIR": ""}) == "cache off"


# ------------------------------------------------------------------------------------------------------ the command


def run(*arguments: str) -> tuple[int, str]:
    pytest.importorskip("click", reason="needs click: install turnpike[cli]")
    from click.testing import CliRunner

    from turnpike.cli.commands import turnpike

    result = CliRunner().invoke(turnpike, ["tokens", *arguments])
    return result.exit_code, result.output


def test_the_command_fetches_once(published: Vocabulary, vendor: _Vendor) -> None:
    assert run("fetch") == (0, f"o200k_base: fetched to {published.path()}\n")
    assert run("fetch") == (0, "o200k_base: on disk already\n")
    assert vendor.asked == 1


def test_the_command_fetches_what_a_model_needs(published: Vocabulary) -> None:
    needs_tiktoken()
    code, output = run("fetch", "--model", "gpt-5", "--model", "gpt-4o", "--model", "claude-sonnet-4-5")
    assert code == 0
    assert output.count("fetched to") == 1
    assert "claude-sonnet-4-5: has no vocabulary" in output


def test_the_command_says_why_it_failed_in_one_line(published: Vocabulary, vendor: _Vendor) -> None:
    vendor.status = 503
    code, output = run("fetch")
    assert code == 1
    assert output.startswith(f"Error: Cannot fetch o200k_base: {vendor.url} answers with HTTP status 503")
    assert output.count("\n") == 1


def test_the_command_says_what_is_on_disk(on_disk: Path, cache: Path) -> None:
    code, output = run("status")
    assert code == 0
    assert f"cache: {cache}\no200k_base: on disk\ncl100k_base: missing\n" in output
