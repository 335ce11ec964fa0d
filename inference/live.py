"""Answers that this process is writing at the moment, and the beat by which they are saved.

Twice a second, a thread stores what all of them have so far, shows that their process is alive, and
reads whether somebody asked one to stop, in whichever process that was. It does so for some at a time: while
it holds Python's lock, no token of any answer goes on its way.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast
from uuid import UUID

import structlog
from channels.db import database_sync_to_async
from django.db import connection, transaction
from django.db.models import Field, Model
from django.db.models.functions import Now

from inference.events import Delta, ToolCallPiece
from inference.fallback import Candidate
from inference.models import Generation, Message, Status
from inference.providers.base import TextDelta, ToolCallDelta
from llmsite.core.background import spawn
from llmsite.core.errors import SiteError

log = structlog.get_logger("llmsite.live")
T = TypeVar("T")

BEAT_SECONDS = 0.5
SAVED_AT_ONCE = 25
"""Answers; two milliseconds' work."""
MANY = 100
"""With more answers than this, half of the texts are saved at a beat, and the others at the next. A process
that is killed then loses a second's text of each, and not half of one."""
PAUSE_SECONDS = 0.005
"""Between them, for the tokens that have come meanwhile."""


class Stopped(Exception):
    """The answer is to end now. `reason` is None where the user asked for it."""

    def __init__(self, reason: SiteError | None) -> None:
        self.reason = reason


class LiveAnswer:
    """The text of one running answer, and the way to stop it."""

    def __init__(self, generation: Generation, *, began: float | None = None) -> None:
        """`began` is when its question was, by `time.monotonic`."""
        self.generation = generation
        self.pieces: list[str] = []
        self.saved_pieces = 0
        self.is_ending = False
        self.first_piece_ms: int | None = None
        self.was_asked = False
        """Whether the provider has been called."""
        self.prompt_tokens: int | None = None
        """As the provider counted them, where it says so before its end."""
        self.tool_calls: dict[int, dict[str, str]] = {}
        """The calls of the caller's functions so far, by their index."""
        self.answering: Candidate | None = None
        """Who answers, once that is known."""
        self.cache = ""
        """The level of the cache that the answer comes from, where it does; then it is free."""
        self._began = time.monotonic() if began is None else began
        self._waiting: asyncio.Task[object] | None = None
        self._stop: Stopped | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def delta_lengths(self) -> list[int]:
        return list(map(len, self.pieces))

    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)

    @property
    def has_begun(self) -> bool:
        return bool(self.pieces or self.tool_calls)

    @property
    def written(self) -> str:
        """All that the model wrote: the text, and the calls."""
        return self.text + "".join(call["name"] + call["arguments"] for call in self.tool_calls.values())

    def take(self, piece: TextDelta | ToolCallDelta) -> Delta | ToolCallPiece:
        """Keep a piece of the answer, and tell it as an event."""
        if self.first_piece_ms is None:
            self.first_piece_ms = self.elapsed_ms()
        if isinstance(piece, ToolCallDelta):
            self._take_call(piece)
            return ToolCallPiece(piece.index, piece.id, piece.name, piece.arguments)
        self.pieces.append(piece.text)
        self.prompt_tokens = piece.prompt_tokens
        return Delta(piece.text)

    def _take_call(self, piece: ToolCallDelta) -> None:
        call = self.tool_calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or piece.id
        call["name"] = call["name"] or piece.name
        call["arguments"] += piece.arguments

    def stop(self, reason: SiteError | None = None) -> None:
        """End the wait for the answer, now or as soon as it begins. The first reason stays."""
        if self._stop is not None:
            return  # Cancelled once more, the task would take it for a cancellation from elsewhere.
        self._stop = Stopped(reason)
        if self._waiting is not None:
            self._waiting.cancel()

    async def wait_for(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` comes to, in this task. Raises Stopped where the answer is to end before."""
        if self._stop is not None:
            raise self._stop
        self.was_asked = True
        self._waiting = task = asyncio.current_task()
        try:
            return await work()
        except asyncio.CancelledError:
            # A cancellation that is not ours (the client left, the process ends) goes on its way.
            if not self._is_ours(task):
                raise
            raise cast("Stopped", self._stop) from None
        finally:
            self._waiting = None

    def _is_ours(self, task: "asyncio.Task[object] | None") -> bool:
        return self._stop is not None and (task is None or task.uncancel() == 0)


class LiveAnswers:
    """All running answers of this process. The beat runs while there are any."""

    def __init__(self) -> None:
        self.is_draining = False
        """Whether this process is about to stop: then it admits no new questions."""
        self._answers: dict[UUID, LiveAnswer] = {}
        self._beat: asyncio.Task[None] | None = None
        self._none_left = asyncio.Event()
        self._saving: asyncio.Future[list[UUID]] | None = None
        self._beats = 0

    def __contains__(self, generation_id: UUID) -> bool:
        return generation_id in self._answers

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, answer: LiveAnswer) -> None:
        self._answers[answer.generation.pk] = answer
        if self._beat is None or self._beat.done():
            self._beat = spawn(self._keep_beating())

    async def begin_end(self, answer: LiveAnswer) -> None:
        """From here on the beat only shows that the answer lives; no older text of it is written any more."""
        answer.is_ending = True
        if self._saving is not None:
            await asyncio.wait([self._saving])

    def remove(self, answer: LiveAnswer) -> None:
        """The answer's end is stored, or given up."""
        self._answers.pop(answer.generation.pk, None)
        if not self._answers:
            self._none_left.set()
            if self._beat is not None:
                self._beat.cancel()
                self._beat = None

    async def wait_until_none(self) -> None:
        while self._answers:
            self._none_left = asyncio.Event()
            await self._none_left.wait()

    def stop(self, generation_id: UUID) -> bool:
        """Stop an answer that is written here; False where it is not."""
        answer = self._answers.get(generation_id)
        if answer is not None:
            answer.stop()
        return answer is not None

    def stop_all(self, reason: SiteError) -> None:
        for answer in list(self._answers.values()):
            answer.stop(reason)

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self._save_all(list(self._answers.values()))
            except Exception as error:
                # The database may be away for a while; the end of an answer stores all of it anyway.
                log.warning("beat_failed", error=repr(error))

    async def _save_all(self, answers: list[LiveAnswer]) -> None:
        self._beats += 1
        every = 2 if len(answers) > MANY else 1
        for start in range(0, len(answers), SAVED_AT_ONCE):
            some = answers[start : start + SAVED_AT_ONCE]
            if there := [answer for answer in some if answer.generation.pk in self]:
                await self._save_some(there, there[self._beats % every :: every])
            await asyncio.sleep(PAUSE_SECONDS)

    async def _save_some(self, answers: list[LiveAnswer], texts: list[LiveAnswer]) -> None:
        self._saving = asyncio.ensure_future(database_sync_to_async(_save)(answers, texts))
        try:
            for generation_id in await self._saving:
                self.stop(generation_id)
        finally:
            self._saving = None


def _save(answers: list[LiveAnswer], texts: list[LiveAnswer]) -> list[UUID]:
    """Show that `answers` live, and store the texts of some of them.

    Returns the ids of those that are to end: stopped, ended, deleted.
    """
    ids = [answer.generation.pk for answer in answers]
    running = Generation.objects.running()
    running.filter(pk__in=ids).update(heartbeat_at=Now())
    _save_texts([one for one in texts if len(one.pieces) > one.saved_pieces and not one.is_ending])
    wanted = running.filter(pk__in=ids, stop_requested_at=None).values_list("pk", flat=True)
    return list(set(ids) - set(wanted))


@transaction.atomic
def _save_texts(answers: list[LiveAnswer]) -> None:
    texts: list[tuple[object, str]] = []
    lengths: list[tuple[object, list[int]]] = []
    for answer in answers:
        pieces = list(answer.pieces)
        answer.saved_pieces = len(pieces)
        texts.append((answer.generation.message_id, "".join(pieces)))
        lengths.append((answer.generation.pk, list(map(len, pieces))))
    _set_each(Message, "content", texts)
    _set_each(Generation, "delta_lengths", lengths)
    queued = Generation.objects.filter(pk__in=[pk for pk, _ in lengths], status=Status.QUEUED)
    queued.update(status=Status.STREAMING)


def _set_each(model: type[Model], name: str, values: Sequence[tuple[object, object]]) -> None:
    """Set one field of many rows, given as pairs of primary key and value.

    The statement of `bulk_update` compares each row with each value: half a second for 500 answers, in which
    their next tokens wait for Python's lock.
    """
    field, key = cast("Field[Any, Any]", model._meta.get_field(name)), model._meta.pk
    quote = connection.ops.quote_name
    table, column, pk_column = quote(model._meta.db_table), quote(str(field.column)), quote(str(key.column))
    sql = f"UPDATE {table} SET {column} = %s WHERE {pk_column} = %s"  # noqa: S608 - names of our own
    with connection.cursor() as cursor:
        cursor.executemany(
            sql,
            [
                (field.get_db_prep_save(value, connection), key.get_db_prep_save(pk, connection))
                for pk, value in values
            ],
        )


live_answers = LiveAnswers()
