"""Finds the answers whose process died, ends them as `interrupted`, and books what they took."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from channels.db import database_sync_to_async
from django.conf import settings
from django.utils import timezone

from accounts.ledger import reserved_before, settle
from inference.live import live_answers
from inference.mirror import event_mirror
from inference.models import Generation, Status
from inference.providers.base import ChatMessage, estimate_tokens
from inference.replay import replay
from llmsite.core.errors import Interrupted, describe

SILENCE_SECONDS = 10.0
"""After so long without a beat an answer's process is taken for dead."""
GRACE_SECONDS = 600.0
"""How long after the end of the longest possible call its reservation is taken for left behind."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A beat, and when the sweeper saw it first, by its own clock."""

    heartbeat_at: datetime
    since: float


class Sweeper:
    """Watches the beats of other processes' answers.

    Only beats that it saw itself count: clocks that differ between machines, a machine that slept
    and a database that was away make nobody look dead.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[UUID, _Seen] = {}

    async def sweep(self) -> int:
        """Look once; returns how many answers were interrupted. Call it every few seconds."""
        try:
            beats = await database_sync_to_async(_beats)()
        except Exception:
            self._seen.clear()
            raise
        others = {pk: beat for pk, beat in beats.items() if pk not in live_answers}
        silent = [pk for pk, beat in others.items() if self._is_silent(pk, beat)]
        self._seen = {pk: self._seen[pk] for pk in others}
        interrupted = sum([await _interrupt(pk) for pk in silent])
        await database_sync_to_async(_settle_abandoned)()
        return interrupted

    def _is_silent(self, pk: UUID, beat: datetime) -> bool:
        seen = self._seen.get(pk)
        if seen is None or seen.heartbeat_at != beat:
            seen = self._seen[pk] = _Seen(beat, self._clock())
        return self._clock() - seen.since >= SILENCE_SECONDS


def _beats() -> dict[UUID, datetime]:
    """The last signs of life of all running answers, without their texts: there may be hundreds."""
    return dict(Generation.objects.running().values_list("pk", "heartbeat_at"))


async def _interrupt(pk: UUID) -> bool:
    """End an answer with all that its process told anybody, which may be more than it had saved."""
    rows = Generation.objects.running().to_tell().filter(pk=pk)
    generation = await database_sync_to_async(rows.first)()
    if generation is None:
        return False
    text, lengths = generation.message.content, generation.delta_lengths
    pieces = await event_mirror.pieces(generation.pk)
    if len(pieces) > len(lengths):
        text, lengths = "".join(pieces), [len(piece) for piece in pieces]
    code = describe(Interrupted()).code
    values = {"status": Status.INTERRUPTED, "error_code": code, "delta_lengths": lengths}
    reply = sum(estimate_tokens([ChatMessage("assistant", text)])) if text else 0
    if not await database_sync_to_async(generation.end)(text, output_tokens=reply, **values):
        return False
    generation.message.content = text
    event_mirror.append(replay(generation)[-1])
    return True


def _settle_abandoned() -> None:
    """Book the calls whose answer was deleted while its process died; no row leads to them any more."""
    longest = timedelta(seconds=settings.TOTAL_TIMEOUT + GRACE_SECONDS)
    calls = set(reserved_before(timezone.now() - longest))
    if calls:
        calls -= set(Generation.objects.running().filter(pk__in=calls).values_list("pk", flat=True))
    for call in calls:
        settle(call, estimated=True)
