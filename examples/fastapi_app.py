"""A small service: answers from the model that a question needs, conversations within a bound, and streamed summaries.

Run it from the repository's root::

    export OPENAI_API_KEY=... ANTHROPIC_API_KEY=...
    export TURNPIKE_API_KEYS='k-acme=acme:web,k-beta=beta:batch'    # or APP_API_KEY for a single caller
    uvicorn --app-dir examples fastapi_app:app
    curl localhost:8000/answer-routed -H 'X-API-Key: k-acme' --json '{"message": "What is a turnpike?"}'

``OPENAI_BASE_URL`` and ``ANTHROPIC_BASE_URL`` lead it elsewhere. Who spent what is in ``~/.turnpike/telemetry.jsonl``.
``flask_app.py``, ``litestar_app.py`` and ``django_project`` are the same service.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from turnpike.conversation import ContextStrategy, prepare_context
from turnpike.routing import Complexity, KeywordClassifier
from turnpike.tokens import preload
from turnpike_fastapi import DepContext, DepGateway, admitted, install

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

classifier = KeywordClassifier()
api = APIRouter(dependencies=[Depends(admitted)])


class Question(BaseModel):
    """What is asked."""

    message: str = Field(min_length=1)


class Document(BaseModel):
    """What is summarized."""

    text: str = Field(min_length=1)


class Said(BaseModel):
    """Something that was said before. Instructions to the model (``system``) are not for clients to give."""

    role: Literal["user", "assistant"]
    content: str


class Turn(BaseModel):
    """The next turn of a conversation, of which the client keeps the history."""

    conversation_id: str = Field(min_length=1)
    history: list[str | Said] = []
    message: str = Field(min_length=1)
    context_strategy: ContextStrategy


class Complexities(BaseModel):
    """How demanding a question is, and which tier would answer it."""

    complexity: Complexity
    recommended_tier: str
    needs_escalation: bool


class Answer(BaseModel):
    """The answer, which model gave it and why, and on whose account."""

    answer: str
    selected_model: str
    routing_decision: str
    tenant: str | None
    caller: str | None


class TurnAnswer(BaseModel):
    """The answer, what of the history the model was shown, and on whose account."""

    answer: str
    turn_index: int
    context_tokens_used: int
    context_strategy_applied: str
    tenant: str | None
    caller: str | None


@api.post("/classify-complexity")
async def classify_complexity(asked: Question) -> Complexities:
    """Say how demanding a question is, without asking a model."""
    found = classifier.classify(asked.message)
    return Complexities(
        complexity=found.complexity,
        recommended_tier=found.recommended_tier,
        needs_escalation=found.needs_escalation,
    )


@api.post("/answer-routed")
async def answer_routed(asked: Question, llm: DepGateway, who: DepContext) -> Answer:
    """Answer a question with the model that it needs."""
    found = classifier.classify(asked.message)
    result = await llm.call(
        asked.message,
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
        tenant=who.tenant_id,
        caller=who.caller_id,
    )


@api.post("/conversation-turn")
async def conversation_turn(turn: Turn, llm: DepGateway, who: DepContext) -> TurnAnswer:
    """Answer the next turn of a conversation. Too long a history is a 413 problem."""
    metadata = {
        "conversation_id": turn.conversation_id,
        "turn_index": len(turn.history),
        "context_strategy": turn.context_strategy,
    }
    prepared = await prepare_context(
        llm,
        [said if isinstance(said, str) else said.model_dump() for said in turn.history],
        turn.message,
        strategy=turn.context_strategy,
        model="gpt-4o",
        metadata=metadata,
    )
    result = await llm.call(
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
        turn_index=len(turn.history),
        context_tokens_used=prepared.tokens,
        context_strategy_applied=prepared.strategy_applied,
        tenant=who.tenant_id,
        caller=who.caller_id,
    )


@api.post("/summarize/stream")
async def summarize(document: Document, llm: DepGateway) -> StreamingResponse:
    """Summarize a text, as server-sent events."""
    stream = llm.stream(document.text, tier="writer", system="Summarize the text in three sentences.")
    await stream.start()  # a provider that fails at once is an error response; later, the last event says so
    return StreamingResponse(stream.sse(), media_type="text/event-stream")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Be ready once the token vocabulary has been read, if there is one: no request waits for it then."""
    await run_in_threadpool(preload, "gpt-4o")
    app.state.ready = True
    yield
    app.state.ready = False


def create_app() -> FastAPI:
    """Build the application; a key that is missing matters only to the requests that need it."""
    app = FastAPI(title="Turnpike example", lifespan=lifespan)
    install(app, SETTINGS)
    app.include_router(api)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process is up; it needs no key."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(request: Request, response: Response) -> dict[str, str]:
        """Say whether it is ready for requests; it needs no key."""
        if getattr(request.app.state, "ready", False):
            return {"status": "ready"}
        response.status_code = 503
        return {"status": "not_ready"}

    return app


app = create_app()
