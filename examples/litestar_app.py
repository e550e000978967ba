"""A small service: answers from the model that a question needs, conversations within a bound, and streamed summaries.

Run it from the repository's root::

    export OPENAI_API_KEY=... ANTHROPIC_API_KEY=...
    export TURNPIKE_API_KEYS='k-acme=acme:web,k-beta=beta:batch'    # or APP_API_KEY for a single caller
    uvicorn --app-dir examples litestar_app:app
    curl localhost:8000/answer-routed -H 'X-API-Key: k-acme' --json '{"message": "What is a turnpike?"}'

``OPENAI_BASE_URL`` and ``ANTHROPIC_BASE_URL`` lead it elsewhere. Who spent what is in ``~/.turnpike/telemetry.jsonl``.
``fastapi_app.py``, ``flask_app.py`` and ``django_project`` are the same service.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import ValidationException
from litestar.params import Body
from litestar.response import Stream

from turnpike.conversation import ContextStrategy, prepare_context
from turnpike.routing import Complexity, KeywordClassifier
from turnpike.tokens import preload
from turnpike_litestar import DepContext, DepGateway, TurnpikePlugin, exempt

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
"""Models and rules; the environment adds the callers' keys and may replace any of it."""

Filled = Annotated[str, msgspec.Meta(min_length=1)]

classifier = KeywordClassifier()


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


class Complexities(msgspec.Struct):
    """How demanding a question is, and which tier would answer it."""

    complexity: Complexity
    recommended_tier: str
    needs_escalation: bool


class Answer(msgspec.Struct):
    """The answer, which model gave it and why, and on whose account."""

    answer: str
    selected_model: str
    routing_decision: str
    tenant: str | None
    caller: str | None


class TurnAnswer(msgspec.Struct):
    """The answer, what of the history the model was shown, and on whose account."""

    answer: str
    turn_index: int
    context_tokens_used: int
    context_strategy_applied: str
    tenant: str | None
    caller: str | None


@post("/classify-complexity", status_code=200)
async def classify_complexity(data: Annotated[Question, Body()]) -> Complexities:
    """Say how demanding a question is, without asking a model."""
    found = classifier.classify(data.message)
    return Complexities(found.complexity, found.recommended_tier, found.needs_escalation)


@post("/answer-routed", status_code=200)
async def answer_routed(data: Annotated[Question, Body()], gateway: DepGateway, llm_context: DepContext) -> Answer:
    """Answer a question with the model that it needs."""
    found = classifier.classify(data.message)
    result = await gateway.call(
        data.message,
        tier=found.recommended_tier,
        metadata={
            "complexity": found.complexity,
            "routing_decision": found.recommended_tier,
            "needs_escalation": found.needs_escalation,
        },
    )
    return Answer(
        answer=result.text,
        selected_model=result.selected_model,
        routing_decision=found.recommended_tier,
        tenant=llm_context.tenant_id,
        caller=llm_context.caller_id,
    )


@post("/conversation-turn", status_code=200)
async def conversation_turn(data: Annotated[Turn, Body()], gateway: DepGateway, llm_context: DepContext) -> TurnAnswer:
    """Answer the next turn of a conversation. Too long a history is a 413 problem."""
    metadata = {
        "conversation_id": data.conversation_id,
        "turn_index": len(data.history),
        "context_strategy": data.context_strategy,
    }
    prepared = await prepare_context(
        gateway,
        msgspec.to_builtins(data.history),
        data.message,
        strategy=data.context_strategy,
        model="gpt-4o",
        metadata=metadata,
    )
    result = await gateway.call(
        prepared.messages,
        tier="expensive",
        metadata={
            **metadata,
            "context_strategy_applied": prepared.strategy_applied,
            "context_tokens_used": prepared.tokens,
        },
    )
    return TurnAnswer(
        answer=result.text,
        turn_index=len(data.history),
        context_tokens_used=prepared.tokens,
        context_strategy_applied=prepared.strategy_applied,
        tenant=llm_context.tenant_id,
        caller=llm_context.caller_id,
    )


@post("/summarize/stream", status_code=200)
async def summarize(data: Annotated[Document, Body()], gateway: DepGateway) -> Stream:
    """Summarize a text, as server-sent events."""
    stream = gateway.stream(data.text, tier="writer", system="Summarize the text in three sentences.")
    await stream.start()  # a provider that fails at once is an error response; later, the last event says so
    return Stream(stream.sse(), media_type="text/event-stream")


@get("/healthz")
@exempt
async def healthz() -> dict[str, str]:
    """Say that the process is up; it needs no key."""
    return {"status": "ok"}


@get("/readyz")
@exempt
async def readyz(state: State) -> Response[dict[str, str]]:
    """Say whether it is ready for requests; it needs no key."""
    if state.get("ready", False):
        return Response({"status": "ready"})
    return Response({"status": "not_ready"}, status_code=503)


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Be ready once the token vocabulary has been read, if there is one: no request waits for it then."""
    await asyncio.to_thread(preload, "gpt-4o")
    app.state.ready = True
    yield
    app.state.ready = False


def unprocessable(_request: Request[Any, Any, Any], error: ValidationException) -> Response[dict[str, Any]]:
    """Answer a body that is not what the route takes as Litestar does, with the other stacks' status."""
    return Response({"status_code": 422, "detail": error.detail, "extra": error.extra}, status_code=422)


def create_app() -> Litestar:
    """Build the application; a key that is missing matters only to the requests that need it."""
    return Litestar(
        [classify_complexity, answer_routed, conversation_turn, summarize, healthz, readyz],
        plugins=[TurnpikePlugin(SETTINGS)],
        exception_handlers={ValidationException: unprocessable},
        lifespan=[lifespan],
    )


app = create_app()
