"""The plain async doors: one question in, one answer out, whole or as events."""

import asyncio
import json
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from accounts.credentials import Credential, arequire_caller
from accounts.models import Scope
from accounts.watch import credential_watch
from inference import generations
from inference.ask import Ask
from inference.events import Failed
from inference.models import access_generation
from inference.pipeline import Completion, complete
from inference.replay import replay
from inference.serializers import PredictSerializer
from inference.sse import event_stream, nothing_more, read_cursor
from llmsite.core.errors import InvalidInput, NotSignedIn, UnsupportedMediaType, told
from llmsite.core.rest import envelope, json_door, validated


@json_door("POST")
async def predict(request: HttpRequest) -> HttpResponseBase:
    """The whole answer. A client that leaves cancels it: nobody could come back for it."""
    credential = await arequire_caller(request, Scope.CHAT)
    completion = await _complete_while_signed_in(_read_ask(request, credential), credential)
    if isinstance(completion.end, Failed):
        return envelope(told(completion.end.code, completion.end.message))
    return JsonResponse(_completion_json(completion, completion.end))


async def _complete_while_signed_in(ask: Ask, credential: Credential) -> Completion:
    """The whole answer; one that is still being written when the credential ends is stopped."""
    work = asyncio.ensure_future(complete(ask))
    with credential_watch.watching(credential, on_end=work.cancel) as watched:
        try:
            return await work
        except asyncio.CancelledError:
            if watched.ended:
                raise NotSignedIn from None
            raise


@json_door("POST")
async def predict_stream(request: HttpRequest) -> HttpResponseBase:
    """The same answer as events. What fails before the first piece is a plain error."""
    credential = await arequire_caller(request, Scope.CHAT)
    turn = await generations.start(_read_ask(request, credential), wait_for_first_piece=True)
    return event_stream(turn.generation, credential)


@json_door("GET")
async def events(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """The events of an answer, from the start or behind `Last-Event-ID`; 204 behind the end."""
    credential = await arequire_caller(request, Scope.CHAT)
    generation = await database_sync_to_async(access_generation)(credential.user, pk)
    after = read_cursor(request)
    if not generation.is_running and replay(generation)[-1].seq == after:
        return nothing_more()
    return event_stream(generation, credential, after=after)


@json_door("POST")
async def stop(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    credential = await arequire_caller(request, Scope.CHAT)
    generation = await database_sync_to_async(access_generation)(credential.user, pk)
    await generations.stop(generation)
    return JsonResponse({"id": str(generation.pk), "status": generation.status})


def _read_ask(request: HttpRequest, credential: Credential) -> Ask:
    serializer = PredictSerializer(data=read_json(request))
    validated(serializer)
    return serializer.ask(credential.user, api_key=credential.api_key, door="rest", listed=False)


def read_json(request: HttpRequest) -> Any:
    """The body as JSON. Raises UnsupportedMediaType, TooLarge (through Django) or InvalidInput."""
    if request.content_type != "application/json":
        raise UnsupportedMediaType
    try:
        return json.loads(request.body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(reason=_("The body is not JSON in UTF-8.")) from error


def _refuse_constant(name: str) -> None:
    # NaN and Infinity are not JSON, and would pass every comparison with a limit.
    raise ValueError(name)


def _completion_json(completion: Completion, end: Any) -> dict[str, Any]:
    turn = completion.turn
    return {
        "id": str(turn.generation.pk),
        "text": completion.text,
        "model": turn.model.alias,
        "provider": turn.model.provider,
        "cache": end.cache,
        "usage": end.usage,
        "cost": end.cost,
        "latency_ms": end.latency_ms,
        "time_to_first_token_ms": end.time_to_first_token_ms,
        "finish_reason": end.finish_reason,
        "dropped_parameters": end.dropped_parameters,
        "context_trimmed": end.context_trimmed,
        "sources": [],
        "message": str(turn.generation.message_id),
        "conversation": str(turn.conversation.pk),
    }
