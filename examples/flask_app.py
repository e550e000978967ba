"""A small service: answers from the model that a question needs, conversations within a bound, and streamed summaries.

Run it from the repository's root::

    export OPENAI_API_KEY=... ANTHROPIC_API_KEY=...
    export TURNPIKE_API_KEYS='k-acme=acme:web,k-beta=beta:batch'    # or APP_API_KEY for a single caller
    flask --app examples/flask_app run                              # or: gunicorn --chdir examples flask_app:app
    curl localhost:5000/answer-routed -H 'X-API-Key: k-acme' --json '{"message": "What is a turnpike?"}'

``OPENAI_BASE_URL`` and ``ANTHROPIC_BASE_URL`` lead it elsewhere. Who spent what is in ``~/.turnpike/telemetry.jsonl``.
``fastapi_app.py``, ``litestar_app.py`` and ``django_project`` are the same service.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from flask import Blueprint, Flask, Response, request

from turnpike.boundary.problem import Problem
from turnpike.conversation import ContextStrategy, prepare_context_sync
from turnpike.routing import KeywordClassifier
from turnpike.tokens import is_loaded, preload
from turnpike_flask import Turnpike, context, gateway

SETTINGS = {
    "providers": {"openai": {}, "anthropic": {}},
    "default_provider": "openai",
    "tiers": {
        "cheap": "gpt-4o-mini",
        "expensive": "gpt-4o",
        "writer": {"provider": "anthropic", "model": "claude-sonnet-4-5"},
    },
    "default_policy": {"max_output_tokens": 500, "retry_attempts": 2},
}
"""Models and rules; the application's configuration and the environment add the callers' keys and may replace any of it."""

Filled = Annotated[str, msgspec.Meta(min_length=1)]
BodyT = TypeVar("BodyT")

classifier = KeywordClassifier()
turnpike = Turnpike(settings=SETTINGS)
api = Blueprint("api", __name__)


class Question(msgspec.Struct):
    """What is asked."""

    message: Filled


class Document(msgspec.Struct):
    """What is summarized."""

    text: Filled


class Said(msgspec.Struct):
    """Something that was said before. Instructions to the model (``system``) are not for clients to give."""

    role: Literal["user", "assistant"]
    content: str


class Turn(msgspec.Struct):
    """The next turn of a conversation, of which the client keeps the history."""

    conversation_id: Filled
    message: Filled
    context_strategy: ContextStrategy
    history: list[str | Said] = []


# Made here, where one thread is at work: msgspec may crash if several threads are the first to use a type.
QUESTION = msgspec.json.Decoder(Question)
DOCUMENT = msgspec.json.Decoder(Document)
TURN = msgspec.json.Decoder(Turn)


def body(decoder: msgspec.json.Decoder[BodyT]) -> BodyT:
    """Return the request's decoded body; one that is something else is a 422 problem."""
    try:
        return decoder.decode(request.get_data())
    except ValueError as error:  # not JSON, not UTF-8, or not of this kind
        raise Problem(422, "Unprocessable content", f"The body is wrong: {error}.") from None


@api.post("/classify-complexity")
def classify_complexity() -> dict[str, Any]:
    """Say how demanding a question is, without asking a model."""
    found = classifier.classify(body(QUESTION).message)
    return {
        "complexity": found.complexity,
        "recommended_tier": found.recommended_tier,
        "needs_escalation": found.needs_escalation,
    }


@api.post("/answer-routed")
def answer_routed() -> dict[str, Any]:
    """Answer a question with the model that it needs."""
    message = body(QUESTION).message
    found = classifier.classify(message)
    result = gateway.call_sync(
        message,
        tier=found.recommended_tier,
        metadata={
            "complexity": found.complexity,
            "routing_decision": found.recommended_tier,
            "needs_escalation": found.needs_escalation,
        },
    )
    return {
        "answer": result.text,
        "selected_model": result.selected_model,
        "routing_decision": found.recommended_tier,
        "tenant": context.tenant_id,
        "caller": context.caller_id,
    }


@api.post("/conversation-turn")
def conversation_turn() -> dict[str, Any]:
    """Answer the next turn of a conversation. Too long a history is a 413 problem."""
    turn = body(TURN)
    metadata = {
        "conversation_id": turn.conversation_id,
        "turn_index": len(turn.history),
        "context_strategy": turn.context_strategy,
    }
    prepared = prepare_context_sync(
        gateway,
        [said if isinstance(said, str) else msgspec.structs.asdict(said) for said in turn.history],
        turn.message,
        strategy=turn.context_strategy,
        model="gpt-4o",
        metadata=metadata,
    )
    result = gateway.call_sync(
        prepared.messages,
        tier="expensive",
        metadata={
            **metadata,
            "context_strategy_applied": prepared.strategy_applied,
            "context_tokens_used": prepared.tokens,
        },
    )
    return {
        "answer": result.text,
        "turn_index": len(turn.history),
        "context_tokens_used": prepared.tokens,
        "context_strategy_applied": prepared.strategy_applied,
        "tenant": context.tenant_id,
        "caller": context.caller_id,
    }


@api.post("/summarize/stream")
def summarize() -> Response:
    """Summarize a text, as server-sent events."""
    stream = gateway.stream_sync(body(DOCUMENT).text, tier="writer", system="Summarize the text in three sentences.")
    stream.start()  # a provider that fails at once is an error response; later, the last event says so
    return Response(stream.sse(), mimetype="text/event-stream")


@api.get("/healthz")
@turnpike.exempt
def healthz() -> dict[str, str]:
    """Say that the process is up; it needs no key."""
    return {"status": "ok"}


@api.get("/readyz")
@turnpike.exempt
def readyz() -> tuple[dict[str, str], int]:
    """Say whether it is ready for requests; it needs no key."""
    return ({"status": "ready"}, 200) if is_loaded("gpt-4o") else ({"status": "not_ready"}, 503)


def create_app() -> Flask:
    """Build the application; a key that is missing matters only to the requests that need it."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    turnpike.init_app(app)
    app.register_blueprint(api)
    preload("gpt-4o")  # the token vocabulary, if there is one: no request waits for it
    return app


app = create_app()
