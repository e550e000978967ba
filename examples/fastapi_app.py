"""A small service with three LLM routes: a plain answer, a streamed summary, and a question that needs a tool.

Run it from the repository's root::

    export OPENAI_API_KEY=... ANTHROPIC_API_KEY=...
    export TURNPIKE_API_KEYS='k-acme=acme:web,k-beta=beta:batch'    # or APP_API_KEY for a single caller
    uvicorn --app-dir examples fastapi_app:app
    curl localhost:8000/answer -H 'X-API-Key: k-acme' --json '{"question": "What is a turnpike?"}'

``OPENAI_BASE_URL`` and ``ANTHROPIC_BASE_URL`` lead it elsewhere. Who spent what is in ``~/.turnpike/telemetry.jsonl``.
"""

import json

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from turnpike import Settings
from turnpike_fastapi import DepContext, DepGateway, admitted, install

ORDERS = {"A-1001": "shipped, arrives on Friday", "A-1002": "waiting for payment"}

ORDER_TOOL = {
    "type": "function",
    "function": {
        "name": "order_status",
        "description": "Look up the status of an order.",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    },
}


def service_settings() -> Settings:
    """Models and rules are written here; the environment adds the callers' keys and may replace any of it."""
    return Settings.from_env(
        defaults={
            "providers": {"openai": {}, "anthropic": {}},
            "default_provider": "openai",
            "tiers": {"cheap": "gpt-4o-mini", "writer": {"provider": "anthropic", "model": "claude-sonnet-4-5"}},
            "default_policy": {"max_output_tokens": 500, "retry_attempts": 2},
            "routes": {"/summarize/stream": {"max_output_tokens": 1000, "timeout_s": 120.0}},
        }
    )


class Question(BaseModel):
    """What is asked."""

    question: str = Field(min_length=1, max_length=4000)


class Document(BaseModel):
    """What is summarized."""

    text: str = Field(min_length=1, max_length=100_000)


class Answer(BaseModel):
    """The answer, which model gave it, and on whose account."""

    answer: str
    model: str
    tenant: str | None


api = APIRouter(dependencies=[Depends(admitted)])


@api.post("/answer")
async def answer(asked: Question, llm: DepGateway, who: DepContext) -> Answer:
    """Answer a question."""
    result = await llm.call(asked.question, tier="cheap")
    return Answer(answer=result.text, model=result.selected_model, tenant=who.tenant_id)


@api.post("/summarize/stream")
async def summarize(document: Document, llm: DepGateway) -> StreamingResponse:
    """Summarize a text, as server-sent events."""
    stream = llm.stream(document.text, tier="writer", system="Summarize the text in three sentences.")
    await stream.start()  # a provider that fails at once is an error response; later, the last event says so
    return StreamingResponse(stream.sse(), media_type="text/event-stream")


@api.post("/order-status")
async def order_status(asked: Question, llm: DepGateway, who: DepContext) -> Answer:
    """Answer a question about an order, with a tool that the model may ask for."""
    messages: list[dict[str, object]] = [{"role": "user", "content": asked.question}]
    result = await llm.call(messages, tier="cheap", tools=[ORDER_TOOL])
    if result.tool_calls:
        messages.append(result.to_message())
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": look_up(call.arguments)} for call in result.tool_calls
        ]
        result = await llm.call(messages, tier="cheap", tools=[ORDER_TOOL], tool_choice="none")
    return Answer(answer=result.text, model=result.selected_model, tenant=who.tenant_id)


def look_up(arguments: str) -> str:
    """Run the tool. The arguments are the model's own words, so they may be anything."""
    try:
        return ORDERS.get(str(json.loads(arguments)["order_id"]), "unknown order")
    except (ValueError, TypeError, KeyError):
        return "error: order_id is missing"


def create_app() -> FastAPI:
    """Build the application; a key that is missing matters only to the requests that need it."""
    app = FastAPI(title="Turnpike example")
    install(app, service_settings())
    app.include_router(api)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Say that the process is up; it needs no key."""
        return {"status": "ok"}

    return app


app = create_app()
