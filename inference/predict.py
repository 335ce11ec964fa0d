"""The plain async doors: one question in, one answer out, whole or as events."""

import asyncio
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from accounts.credentials import Credential, arequire_caller
from accounts.models import Scope
from accounts.watch import credential_watch
from inference import generations
from inference.ask import Ask
from inference.descriptions import (
    ANSWER_HEADERS,
    ASKING,
    EVENTS,
    IDEMPOTENCY_KEY,
    LAST_EVENT_ID,
    TAG,
    Reply,
    Stopped,
)
from inference.events import Failed
from inference.idempotency import read_idempotency
from inference.models import Generation, access_generation
from inference.once import REPLAYED, answer_once, ask_once, failure_of
from inference.pipeline import Completion, complete
from inference.replay import replay, started_event
from inference.replies import llmsite_headers
from inference.serializers import PredictSerializer, read_ask
from inference.sse import event_stream, nothing_more, read_cursor
from inference.together import heed_cache_control
from llmsite.core.errors import IdempotencyConflict, NotSignedIn, told
from llmsite.core.rest import envelope, json_door, json_response, read_json
from llmsite.core.schema import EVENT_STREAM, documented, nothing


@documented(
    "Ask a model",
    tag=TAG,
    scope=Scope.CHAT,
    takes=PredictSerializer,
    example={"prompt": "What is a fox?"},
    gives=Reply,
    fails=(*ASKING, IdempotencyConflict),
    parameters=[IDEMPOTENCY_KEY],
    headers={**ANSWER_HEADERS, REPLAYED: "`true` where the answer was there before."},
)
@json_door("POST")
async def predict(request: HttpRequest) -> HttpResponseBase:
    """The whole answer. A client that leaves cancels it: nobody could come back for it."""
    credential = await arequire_caller(request, Scope.CHAT)
    ask = _read_ask(request, credential)
    if ask.idempotency is not None:
        return await answer_once(ask, credential)
    completion = await complete_while_signed_in(ask, credential)
    if isinstance(completion.end, Failed):
        return envelope(told(completion.end.code, completion.end.message))
    headers = llmsite_headers([completion.started], cost=completion.end.cost)
    return json_response(_completion_json(completion, completion.end), headers=headers)


async def complete_while_signed_in(ask: Ask, credential: Credential) -> Completion:
    """The whole answer; one that is still being written when the credential ends is stopped."""
    task = asyncio.current_task()
    assert task is not None
    with credential_watch.watching(credential, on_end=task.cancel) as watched:
        try:
            return await complete(ask)
        except asyncio.CancelledError:
            if not watched.ended:
                raise
            task.uncancel()
            raise NotSignedIn from None


@documented(
    "Ask a model, and get events",
    tag=TAG,
    scope=Scope.CHAT,
    takes=PredictSerializer,
    example={"prompt": "What is a fox?"},
    gives={(200, EVENT_STREAM): EVENTS},
    fails=(*ASKING, IdempotencyConflict),
    parameters=[IDEMPOTENCY_KEY],
    headers={**ANSWER_HEADERS, REPLAYED: "`true` where the answer was there before."},
)
@json_door("POST")
async def predict_stream(request: HttpRequest) -> HttpResponseBase:
    """The same answer as events. What fails before the first piece is a plain error."""
    credential = await arequire_caller(request, Scope.CHAT)
    generation, is_replayed = await ask_once(_read_ask(request, credential), wait_for_first_piece=True)
    response = failure_of(generation) if generation.failed_early else _stream(generation, credential)
    if is_replayed:
        response[REPLAYED] = "true"
    return response


def _stream(generation: Generation, credential: Credential) -> HttpResponseBase:
    response = event_stream(generation, credential)
    for name, value in llmsite_headers([started_event(generation)]).items():
        response[name] = value
    return response


@documented(
    "The events of an answer",
    tag=TAG,
    scope=Scope.CHAT,
    gives={(200, EVENT_STREAM): EVENTS, 204: nothing("All of it was told already.")},
    parameters=[LAST_EVENT_ID],
)
@json_door("GET")
async def events(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """The events of an answer, from the start or behind `Last-Event-ID`; 204 behind the end."""
    credential = await arequire_caller(request, Scope.CHAT)
    generation = await database_sync_to_async(access_generation)(credential.user, pk)
    after = read_cursor(request)
    if not generation.is_running and replay(generation)[-1].seq == after:
        return nothing_more()
    return event_stream(generation, credential, after=after)


@documented("Stop an answer", tag=TAG, scope=Scope.CHAT, gives=Stopped)
@json_door("POST")
async def stop(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    credential = await arequire_caller(request, Scope.CHAT)
    generation = await database_sync_to_async(access_generation)(credential.user, pk)
    await generations.stop(generation)
    return JsonResponse({"id": str(generation.pk), "status": generation.status})


def _read_ask(request: HttpRequest, credential: Credential) -> Ask:
    body = read_json(request)
    idempotency = read_idempotency(request, body)
    user, key = credential.user, credential.api_key
    ask = read_ask(body, user, api_key=key, door="rest", listed=False, idempotency=idempotency)
    return heed_cache_control(ask, request.META.get("HTTP_CACHE_CONTROL"))


def _completion_json(completion: Completion, end: Any) -> dict[str, Any]:
    started, grounds = completion.started, completion.grounds
    return {
        "id": started.generation,
        "text": completion.text,
        "model": started.model,
        "provider": started.provider,
        "cache": end.cache,
        "usage": end.usage,
        "cost": end.cost,
        "latency_ms": end.latency_ms,
        "time_to_first_token_ms": end.time_to_first_token_ms,
        "finish_reason": end.finish_reason,
        "dropped_parameters": end.dropped_parameters,
        "context_trimmed": end.context_trimmed,
        "sources": grounds.told_sources() if grounds else [],
        "message": started.message,
        "conversation": started.conversation,
    }
