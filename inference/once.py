"""The reply to a request with an `Idempotency-Key`, and once more to each that repeats it.

Both are made of the answer's row alone, so they are the same. An answer with a key outlives its client, who
can come back for it.
"""

from dataclasses import replace

from channels.db import database_sync_to_async
from django.http import JsonResponse

from accounts.credentials import Credential
from accounts.watch import credential_watch
from inference import generations
from inference.ask import Ask
from inference.events import is_last
from inference.idempotency import AlreadyAsked, find_answer
from inference.models import Generation
from inference.replay import started_event
from inference.replies import llmsite_headers, reply_json
from llmsite.core.errors import Interrupted, NotFound, NotSignedIn, told
from llmsite.core.rest import envelope

REPLAYED = "Idempotent-Replayed"


async def answer_once(ask: Ask, credential: Credential) -> JsonResponse:
    """The reply to `ask`, or that to the first request with its key.

    Raises IdempotencyConflict, ModelNotAllowed, NotSignedIn, and what `generations.start` raises.
    """
    generation, is_replayed = await ask_once(ask)
    await _wait_for_end(generation, credential)
    response = _reply(await database_sync_to_async(_ended)(generation))
    if is_replayed:
        response[REPLAYED] = "true"
    return response


async def ask_once(ask: Ask, *, wait_for_first_piece: bool = False) -> tuple[Generation, bool]:
    """The answer to `ask`, and whether it was there before, which only one with a key can be.

    Raises IdempotencyConflict, ModelNotAllowed, and what `generations.start` raises.
    """
    while ask.idempotency is None or (generation := await _find_answer(ask)) is None:
        try:
            turn = await generations.start(ask, wait_for_first_piece=wait_for_first_piece)
            return turn.generation, False
        except AlreadyAsked:
            continue  # It is there by now.
    return generation, True


_find_answer = database_sync_to_async(find_answer)


async def _wait_for_end(generation: Generation, credential: Credential) -> None:
    """Raises NotSignedIn where the credential ends before the answer, which goes on."""
    with credential_watch.watching(credential) as watched:
        async for numbered in generations.follow(generation):
            if watched.ended:
                raise NotSignedIn
            if numbered is not None and is_last(numbered.event):
                return


def _ended(generation: Generation) -> Generation:
    row = Generation.objects.to_tell().filter(pk=generation.pk).first()
    if row is None:
        raise NotFound  # Its conversation was deleted meanwhile.
    if row.is_running:
        raise Interrupted  # Its end could not be stored.
    return row


def _reply(generation: Generation) -> JsonResponse:
    if generation.error_code:
        return failure_of(generation)
    headers = llmsite_headers([started_event(generation)], cost=generation.cost)
    return JsonResponse(reply_json(generation), headers=headers)


def failure_of(generation: Generation) -> JsonResponse:
    """The error that an answer ended with, as it was told to the request that began it."""
    public = told(generation.error_code, generation.error_message)
    retry_after = generation.error_data.get("retry_after")
    return envelope(replace(public, retry_after=retry_after), of=generation.request_id or None)
