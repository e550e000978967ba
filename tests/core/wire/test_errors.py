"""What kind of failure an HTTP error response is."""

import json

import pytest

from turnpike.gateway.wire import WireError, classify_error

CHAT = "openai-chat"


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, "invalid_request"),
        (401, "auth_error"),
        (402, "auth_error"),
        (403, "auth_error"),
        (404, "invalid_request"),
        (408, "timeout"),
        (409, "transient_error"),
        (413, "invalid_request"),
        (418, "invalid_request"),
        (422, "invalid_request"),
        (425, "transient_error"),
        (429, "rate_limit"),
        (498, "transient_error"),
        (500, "transient_error"),
        (502, "transient_error"),
        (503, "transient_error"),
        (504, "timeout"),
        (524, "timeout"),
        (529, "transient_error"),
        (302, "unknown"),
        (0, "unknown"),
    ],
)
@pytest.mark.parametrize("wire_format", ["openai-chat", "openai-responses", "anthropic-messages"])
def test_the_status_decides(status, category, wire_format):
    assert classify_error(status, b"", wire_format) == WireError(None, None, category)


@pytest.mark.parametrize(
    ("wire_format", "status", "body", "expected"),
    [
        pytest.param(
            CHAT, 401, {"error": {"message": "m", "type": "invalid_request_error", "code": "invalid_api_key"}},
            WireError("invalid_api_key", "invalid_request_error", "auth_error"), id="OpenAI",
        ),
        pytest.param(
            CHAT, 429, {"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}},
            WireError("insufficient_quota", "insufficient_quota", "rate_limit"), id="OpenAI quota",
        ),
        pytest.param(
            CHAT, 404, {"error": {"code": "404", "message": "m"}},
            WireError("404", None, "invalid_request"), id="Azure",
        ),
        pytest.param(
            "anthropic-messages", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
            WireError(None, "overloaded_error", "transient_error"), id="Anthropic",
        ),
        pytest.param(
            CHAT, 429, {"error": {"code": 429, "message": "m", "metadata": {"raw": "m"}}, "user_id": "u"},
            WireError("429", None, "rate_limit"), id="OpenRouter",
        ),
        pytest.param(
            CHAT, 422, {"object": "error", "message": {"detail": []}, "type": "invalid_request_error", "code": "1500"},
            WireError("1500", "invalid_request_error", "invalid_request"), id="Mistral",
        ),
        pytest.param(CHAT, 422, {"detail": [{"loc": []}]}, WireError(None, None, "invalid_request"), id="FastAPI"),
        pytest.param(
            CHAT, 400, {"code": "Some prose here", "error": "m"},
            WireError(None, None, "invalid_request"), id="xAI",
        ),
        pytest.param(
            CHAT, 400, [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}],
            WireError("400", None, "invalid_request"), id="Google",
        ),
        pytest.param(CHAT, 500, {"error": "m"}, WireError(None, None, "transient_error"), id="text for an error"),
        pytest.param(CHAT, 500, [], WireError(None, None, "transient_error"), id="empty list"),
        pytest.param(
            CHAT, 500, {"error": {"code": True, "type": []}},
            WireError(None, None, "transient_error"), id="odd types",
        ),
    ],
)  # fmt: skip
def test_the_vendors_shapes(wire_format, status, body, expected):
    assert classify_error(status, json.dumps(body).encode(), wire_format) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"<html><h1>502 Bad Gateway</h1></html>",
        b"upstream connect error",
        b'{"error": {"code": "x',
        b"\xff\xfe",
        b"[" * 9999,
    ],
)
def test_a_body_that_is_no_json_supplies_nothing(body):
    assert classify_error(502, body, CHAT) == WireError(None, None, "transient_error")


@pytest.mark.parametrize(
    ("wire_format", "error", "category"),
    [
        ("anthropic-messages", {"type": "authentication_error"}, "auth_error"),
        ("anthropic-messages", {"type": "billing_error"}, "auth_error"),
        ("anthropic-messages", {"type": "not_found_error"}, "invalid_request"),
        ("anthropic-messages", {"type": "timeout_error"}, "timeout"),
        ("anthropic-messages", {"type": "api_error"}, "transient_error"),
        ("anthropic-messages", {"type": "rate_limit_error"}, "rate_limit"),
        ("openai-responses", {"code": "vector_store_timeout"}, "timeout"),
        ("openai-responses", {"code": "invalid_prompt"}, "invalid_request"),
        ("openai-responses", {"type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit"),
        ("openai-responses", {"type": "tokens"}, "rate_limit"),
        (CHAT, {"code": 502}, "transient_error"),
        (CHAT, {"code": "401"}, "auth_error"),
        (CHAT, {"code": "brand_new", "type": "server_error"}, "transient_error"),
        (CHAT, {"code": "brand_new"}, "unknown"),
        ("another-format", {"type": "server_error"}, "unknown"),
    ],
)
def test_without_an_error_status_the_body_decides(wire_format, error, category):
    assert classify_error(200, json.dumps({"error": error}).encode(), wire_format).category == category


@pytest.mark.parametrize(
    "value",
    ["Your key sk-123 is wrong", "naïve", "x" * 65, "", "a\n", "a/b", "<b>", None, 1.5, {"a": 1}],
)
def test_nothing_that_could_be_prose_gets_through(value):
    body = json.dumps({"error": {"code": value, "type": value, "message": "SECRET"}}).encode()
    assert classify_error(400, body, CHAT) == WireError(None, None, "invalid_request")


def test_a_message_never_gets_through():
    body = json.dumps(
        {"error": {"code": "c", "type": "t", "message": "SECRET", "param": "SECRET"}, "message": "SECRET"}
    ).encode()
    assert "SECRET" not in repr(classify_error(400, body, CHAT))
