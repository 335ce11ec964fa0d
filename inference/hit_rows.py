"""The rows of answers from the cache, many at a time: the same rows as of any other answer."""

from collections.abc import Sequence, Set
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction

from accounts.ledger import book_free
from accounts.models import ApiKey, User
from inference.admission import title_of
from inference.grounding.rows import gone_versions, source_values, values_of
from inference.hits import QuickHit
from inference.models import AnswerSource, Conversation, Generation, Message, Role, Status
from inference.preface import preface_of
from llmsite.core.bulk import insert


def write(hits: Sequence[QuickHit]) -> None:
    """Write the rows of all `hits` that are not there yet, but for those of people who are gone by now."""
    try:
        _write(hits)
    except IntegrityError:
        _write_what_is_missing(hits)


def _write_what_is_missing(hits: Sequence[QuickHit]) -> None:
    ids = [hit.generation_id for hit in hits]
    written = set(Generation.objects.filter(pk__in=ids).values_list("pk", flat=True))
    people = {hit.question.ask.user.pk for hit in hits}
    there = set(User.objects.filter(pk__in=people).values_list("pk", flat=True))
    wanted = {key.pk for hit in hits if (key := hit.question.ask.api_key) is not None}
    keys = set(ApiKey.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    for hit in hits:
        if hit.generation_id not in written and hit.question.ask.user.pk in there:
            with suppress(IntegrityError):  # Who was there a moment ago has gone since.
                _write([hit], gone_keys=wanted - keys)


@transaction.atomic
def _write(hits: Sequence[QuickHit], *, gone_keys: Set[int] = frozenset()) -> None:
    insert(Conversation, [_conversation(hit) for hit in hits], common={"is_listed": False})
    insert(Message, [_question(hit) for hit in hits], common={"role": Role.USER})
    insert(Message, [_answer(hit) for hit in hits], common={"role": Role.ASSISTANT})
    common = {"status": Status.FINISHED}
    plain = [hit for hit in hits if not _special(hit)]
    insert(Generation, [_generation(hit, gone_keys) for hit in plain], common=common)
    special = [_generation(hit, gone_keys) | said for hit in hits if (said := _special(hit))]
    insert(Generation, special, common=common)
    insert(AnswerSource, [row for hit in hits for row in _sources(hit)])
    book_free([(hit.generation_id, hit.asked_at, *_who(hit), hit.question.model) for hit in hits])


def _who(hit: QuickHit) -> tuple[User, ApiKey | None]:
    return hit.question.ask.user, hit.question.ask.api_key


def _conversation(hit: QuickHit) -> dict[str, Any]:
    ask = hit.question.ask
    return {
        "id": hit.conversation_id,
        "owner_id": ask.user.pk,
        "model": hit.question.model.alias,
        "title": title_of(ask.prompt),
        "preface": preface_of(ask),
        "created_at": hit.asked_at,
        "updated_at": hit.asked_at,
    }


def _question(hit: QuickHit) -> dict[str, Any]:
    return {
        "id": hit.question_id,
        "conversation_id": hit.conversation_id,
        "content": hit.question.ask.prompt,
        "created_at": hit.asked_at,
    }


def _answer(hit: QuickHit) -> dict[str, Any]:
    return {
        "id": hit.message_id,
        "conversation_id": hit.conversation_id,
        "parent_id": hit.question_id,
        "content": hit.hit.answer.text,
        # The messages of a conversation stand in the order of their times.
        "created_at": hit.asked_at + timedelta(microseconds=1),
    }


def _special(hit: QuickHit) -> dict[str, Any]:
    """What the row says beside what all rows do: most answers are not made of documents or by adapters."""
    ask, grounds = hit.question.ask, hit.question.grounds
    adapter = hit.question.model.adapter if hit.hit.is_of_a_model else ""
    if grounds is None and ask.grounding is None and not ask.labels and not adapter:
        return {}
    collection = ask.grounding.collection if ask.grounding else None
    said = {"labels": dict(ask.labels), "collection": collection, "adapter": adapter}
    return {**said, **values_of(grounds)}


def _sources(hit: QuickHit) -> list[dict[str, Any]]:
    grounds = hit.question.grounds
    if grounds is None:
        return []
    rows = source_values(grounds, gone_versions(grounds.sources))
    return [{"generation_id": hit.generation_id, **row} for row in rows]


def _generation(hit: QuickHit, gone_keys: Set[int]) -> dict[str, Any]:
    question, answer = hit.question, hit.hit.answer
    ask, model = question.ask, question.model
    key = ask.api_key.pk if ask.api_key and ask.api_key.pk not in gone_keys else None
    return {
        "id": hit.generation_id,
        "message_id": hit.message_id,
        "user_id": ask.user.pk,
        "api_key_id": key,
        "door": ask.door,
        "request_id": ask.request_id,
        "model_alias": model.alias,
        "provider": model.provider,
        "cache": hit.hit.level,
        "cache_key": answer.key,
        "parameters": question.parameters,
        "dropped_parameters": question.dropped_parameters,
        "context_trimmed": question.context_trimmed,
        "finish_reason": answer.finish_reason,
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "delta_lengths": answer.delta_lengths,
        "latency_ms": hit.latency_ms,
        "time_to_first_token_ms": hit.latency_ms,
        "created_at": hit.asked_at,
        "heartbeat_at": hit.asked_at,
        "ended_at": hit.asked_at,
    }
