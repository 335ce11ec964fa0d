"""Answers from the cache to programs, which are told at once and written down behind them (hit_writer.py).

A question that stands in no conversation of a page, and whose answer is in the cache, waits for no row.
"""

import time
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from inference.ask import Ask
from inference.cache.levels import CachedHit
from inference.events import Delta, Event, Finished, Sources, Started
from inference.question import Question
from llmsite.core.ids import row_id


def may_be_quick(ask: Ask) -> bool:
    """Whether nobody can look for the rows of this question as soon as it is answered."""
    return ask.conversation is None and ask.idempotency is None and not ask.listed


class QuickHit:
    """One question that the cache has answered, and the ids that its rows will have."""

    def __init__(self, question: Question, hit: CachedHit) -> None:
        self.question = question
        self.hit = hit
        self.conversation_id: UUID = row_id()
        self.question_id: UUID = row_id()
        self.message_id: UUID = row_id()
        self.generation_id: UUID = row_id()
        self.asked_at: datetime = timezone.now()
        self.latency_ms = round((time.monotonic() - question.began) * 1000)

    @property
    def started(self) -> Started:
        return Started(
            generation=str(self.generation_id),
            conversation=str(self.conversation_id),
            message=str(self.message_id),
            model=self.question.model.alias,
            provider=self.question.model.provider,
            cache=self.hit.level,
            similarity=self.hit.similarity,
        )

    @property
    def finished(self) -> Finished:
        answer = self.hit.answer
        return Finished(
            finish_reason=answer.finish_reason,
            usage={"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens},
            cost="0",
            latency_ms=self.latency_ms,
            time_to_first_token_ms=self.latency_ms,
            cache=self.hit.level,
            context_trimmed=self.question.context_trimmed,
            dropped_parameters=list(self.question.dropped_parameters),
        )

    def events(self) -> Iterator[Event]:
        """The same events as of any other answer, in the pieces in which it once came."""
        yield self.started
        if self.question.grounds is not None:
            yield Sources.of(self.question.grounds)
        for piece in self.hit.answer.pieces():
            yield Delta(piece)
        yield self.finished
