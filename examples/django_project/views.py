"""The service's views. They are exempt from CSRF protection because no browser adds an API key to a forged request."""

from typing import Annotated, Literal, TypeVar

import msgspec
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from turnpike.boundary.problem import Problem
from turnpike.conversation import ContextStrategy, prepare_context_sync
from turnpike.routing import KeywordClassifier
from turnpike.tokens import is_loaded
from turnpike_django import context, exempt, gateway

Filled = Annotated[str, msgspec.Meta(min_length=1)]
BodyT = TypeVar("BodyT")

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


# Made here, where one thread is at work: msgspec may crash if several threads are the first to use a type.
QUESTION = msgspec.json.Decoder(Question)
DOCUMENT = msgspec.json.Decoder(Document)
TURN = msgspec.json.Decoder(Turn)


def body(request: HttpRequest, decoder: msgspec.json.Decoder[BodyT]) -> BodyT:
    """Return the request's decoded body; one that is something else is a 422 problem."""
    try:
        return decoder.decode(request.body)
    except ValueError as error:  # not JSON, not UTF-8, or not of this kind
        raise Problem(422, "Unprocessable content", f"The body is wrong: {error}.") from None


@csrf_exempt
@require_POST
def classify_complexity(request: HttpRequest) -> JsonResponse:
    """Say how demanding a question is, without asking a model."""
    found = classifier.classify(body(request, QUESTION).message)
    return JsonResponse(
        {
            "complexity": found.complexity,
            "recommended_tier": found.recommended_tier,
            "needs_escalation": found.needs_escalation,
        }
    )


@csrf_exempt
@require_POST
def answer_routed(request: HttpRequest) -> JsonResponse:
    """Answer a question with the model that it needs."""
    message = body(request, QUESTION).message
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
    return JsonResponse(
        {
            "answer": result.text,
            "selected_model": result.selected_model,
            "routing_decision": found.recommended_tier,
            "tenant": context.tenant_id,
            "caller": context.caller_id,
        }
    )


@csrf_exempt
@require_POST
def conversation_turn(request: HttpRequest) -> JsonResponse:
    """Answer the next turn of a conversation. Too long a history is a 413 problem."""
    turn = body(request, TURN)
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
    return JsonResponse(
        {
            "answer": result.text,
            "turn_index": len(turn.history),
            "context_tokens_used": prepared.tokens,
            "context_strategy_applied": prepared.strategy_applied,
            "tenant": context.tenant_id,
            "caller": context.caller_id,
        }
    )


@csrf_exempt
@require_POST
def summarize(request: HttpRequest) -> StreamingHttpResponse:
    """Summarize a text, as server-sent events."""
    text = body(request, DOCUMENT).text
    stream = gateway.stream_sync(text, tier="writer", system="Summarize the text in three sentences.")
    stream.start()  # a provider that fails at once is an error response; later, the last event says so
    return StreamingHttpResponse(stream.sse(), content_type="text/event-stream")


@exempt
@require_GET
def healthz(_request: HttpRequest) -> JsonResponse:
    """Say that the process is up; it needs no key."""
    return JsonResponse({"status": "ok"})


@exempt
@require_GET
def readyz(_request: HttpRequest) -> JsonResponse:
    """Say whether it is ready for requests; it needs no key."""
    if is_loaded("gpt-4o"):
        return JsonResponse({"status": "ready"})
    return JsonResponse({"status": "not_ready"}, status=503)
