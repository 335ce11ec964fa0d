"""The rows of answers from the cache, many at a time: the same rows as of any other answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from accounts.ledger import book_free
from accounts.models import ApiKey, User
from inference.admission import new_conversation, new_generation
from inference.models import Conversation, Generation, Message, Role, Status

if TYPE_CHECKING:
    from inference.hits import QuickHit


def write(hits: "Sequence[QuickHit]") -> None:
    """Write the rows of all `hits`, but for those of people and keys that are gone by now."""
    try:
        _write(hits)
    except IntegrityError:
        for hit in _of_those_who_are_there(hits):
            _write([hit])


@transaction.atomic
def _write(hits: "Sequence[QuickHit]") -> None:
    Conversation.objects.bulk_create(_conversation(hit) for hit in hits)
    Message.objects.bulk_create(message for hit in hits for message in _messages(hit))
    Generation.objects.bulk_create(_generation(hit) for hit in hits)
    book_free(
        (hit.generation_id, hit.question.ask.user, hit.question.ask.api_key, hit.question.model)
        for hit in hits
    )


def _of_those_who_are_there(hits: "Sequence[QuickHit]") -> "list[QuickHit]":
    people = set(
        User.objects.filter(pk__in={hit.question.ask.user.pk for hit in hits}).values_list("pk", flat=True)
    )
    wanted = {key.pk for hit in hits if (key := hit.question.ask.api_key) is not None}
    keys = set(ApiKey.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    return [hit for hit in hits if hit.question.ask.user.pk in people and _has_key(hit, keys)]


def _has_key(hit: "QuickHit", keys: set[int]) -> bool:
    key = hit.question.ask.api_key
    return key is None or key.pk in keys


def _conversation(hit: "QuickHit") -> Conversation:
    return new_conversation(hit.question, hit.asked_at, pk=hit.conversation_id)


def _messages(hit: "QuickHit") -> list[Message]:
    question = Message(
        pk=hit.question_id,
        conversation_id=hit.conversation_id,
        role=Role.USER,
        content=hit.question.ask.prompt,
        created_at=hit.asked_at,
    )
    answer = Message(
        pk=hit.message_id,
        conversation_id=hit.conversation_id,
        parent_id=hit.question_id,
        role=Role.ASSISTANT,
        content=hit.hit.answer.text,
        created_at=_after(hit.asked_at),
    )
    return [question, answer]


def _generation(hit: "QuickHit") -> Generation:
    answer = hit.hit.answer
    return new_generation(
        hit.question,
        pk=hit.generation_id,
        message_id=hit.message_id,
        status=Status.FINISHED,
        cache=hit.hit.level,
        finish_reason=answer.finish_reason,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        delta_lengths=answer.delta_lengths,
        latency_ms=hit.latency_ms,
        time_to_first_token_ms=hit.latency_ms,
        created_at=hit.asked_at,
        heartbeat_at=hit.asked_at,
        ended_at=hit.asked_at,
    )


def _after(moment: datetime) -> datetime:
    """A moment later: the messages of a conversation stand in the order of their times."""
    return moment.replace(microsecond=min(moment.microsecond + 1, 999_999))
