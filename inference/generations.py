"""Answers that belong to the server: a closed page changes nothing, and any process can follow one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

import structlog
from channels.db import database_sync_to_async

from inference.admission import Turn, admit
from inference.ask import Ask
from inference.event_log import AtOnce, EventLog, event_logs
from inference.events import Event, Failed, Numbered, is_last
from inference.hit_writer import hit_writer
from inference.live import live_answers
from inference.mirror import event_mirror
from inference.models import Generation
from inference.pipeline import answer, find_answer
from inference.replay import replay
from llmsite.core.background import run_apart, spawn
from llmsite.core.errors import Interrupted, ServerRestarting, SiteError

log = structlog.get_logger("llmsite.generations")

TICK_SECONDS = 1.0
"""How often a reader of this process's answers looks up although nothing happens."""
POLL_SECONDS = 0.5


async def start(ask: Ask, *, wait_for_first_piece: bool = False) -> Turn:
    """Admit a question and answer it in the background.

    Raises what `prepare` and `admit` raise; with `wait_for_first_piece` also what ends the answer before it.
    """
    # Apart from the caller: one who leaves right after asking must not leave a question without its answer.
    turn, opened = await run_apart(_start(ask))
    if wait_for_first_piece and (error := await asyncio.shield(opened)):
        raise error
    return turn


async def _start(ask: Ask) -> tuple[Turn, asyncio.Future[SiteError | None]]:
    question, hit = await find_answer(ask)
    turn = await admit(question, hit=hit)
    opened: asyncio.Future[SiteError | None] = asyncio.get_running_loop().create_future()
    spawn(_write(turn, event_logs.open(turn.generation.pk), opened))
    return turn, opened


async def _write(turn: Turn, log_of_answer: EventLog, opened: asyncio.Future[SiteError | None]) -> None:
    def tell(event: Event) -> None:
        log_of_answer.append(event)
        if event_mirror.is_on:
            event_mirror.append(log_of_answer.newest())
        if not opened.done():
            opened.set_result(None)

    def fail(error: SiteError) -> None:
        _resolve(opened, error)
        tell(Failed.of(error, turn.generation.request_id or None))

    try:
        await answer(turn, tell)
    except SiteError as error:
        fail(error)
    except Exception:
        log.exception("answer_crashed", generation=str(turn.generation.pk))
        fail(SiteError())
    finally:
        # Somebody else may have cancelled this task; nobody is to wait for ever all the same.
        if not log_of_answer.ended:
            fail(Interrupted())
        event_logs.close(log_of_answer)


def _resolve(opened: asyncio.Future[SiteError | None], error: SiteError | None) -> None:
    if not opened.done():
        opened.set_result(error)


async def follow(generation: Generation, *, after: int = -1) -> AsyncIterator[Numbered | None]:
    """The events behind number `after`, without gap or repeat, live to the end.

    Yields None about once a second while nothing happens, so that a door can look after its connection.
    """
    async with aclosing(follow_bursts(generation, after=after)) as bursts:
        async for ready in bursts:
            for numbered in ready:
                yield numbered
            if not ready:
                yield None


def follow_bursts(
    generation: Generation, *, after: int = -1, at_once: AtOnce | None = None
) -> AsyncGenerator[list[Numbered], None]:
    """The same, but all events that are there at a time together, and an empty list where nothing happens.

    Those that `at_once` takes while it waits are not given again.
    """
    local = event_logs.find(generation.pk)
    # What an ended answer cites may have been deleted since; its row knows.
    if local is not None and (generation.is_running or not generation.grounding):
        return local.follow(after, tick=TICK_SECONDS, at_once=at_once)
    return _one_by_one(_follow_elsewhere(generation, after))


async def _one_by_one(
    events: AsyncGenerator[Numbered | None, None],
) -> AsyncGenerator[list[Numbered], None]:
    async with aclosing(events):
        async for numbered in events:
            yield [] if numbered is None else [numbered]


async def _follow_elsewhere(generation: Generation, after: int) -> AsyncGenerator[Numbered | None, None]:
    """Follow an answer that another process writes, or wrote: its mirror while that lasts, then its row."""
    last = after
    if generation.is_running:
        async with aclosing(event_mirror.follow(generation.pk, after, tick=POLL_SECONDS)) as mirrored:
            async for numbered in mirrored:
                if numbered is None and not await _is_ahead(generation, last):
                    yield None
                    continue
                if numbered is None or numbered.seq != last + 1:
                    break  # Redis has lost events; the row has them.
                last = numbered.seq
                yield numbered
                if is_last(numbered.event):
                    return
    async for numbered in _follow_row(generation, last):
        yield numbered


async def _is_ahead(generation: Generation, last: int) -> bool:
    """Whether the row knows more than a reader of the mirror: its end, or events behind `last`."""
    row = await _read_row(generation)
    return row is None or not row.is_running or len(replay(row)) > last + 1


async def _follow_row(generation: Generation, after: int) -> AsyncIterator[Numbered | None]:
    while (row := await _read_row(generation)) is not None:
        for numbered in replay(row):
            # A process that died may have told more than it saved: its end is told all the same.
            if numbered.seq > after or is_last(numbered.event):
                yield numbered
                after = numbered.seq
        if not row.is_running:
            return
        yield None
        await asyncio.sleep(POLL_SECONDS)


async def _read_row(generation: Generation) -> Generation | None:
    rows = Generation.objects.to_tell().filter(pk=generation.pk)
    return await database_sync_to_async(rows.first)()


async def stop(generation: Generation) -> None:
    """Stop an answer, wherever it is written; one that has ended stays as it is."""
    await database_sync_to_async(generation.request_stop)()
    live_answers.stop(generation.pk)


async def drain(grace: float) -> None:
    """Take no new work; let running answers end, and stop what still runs after `grace` seconds."""
    live_answers.is_draining = True
    with suppress(TimeoutError):
        async with asyncio.timeout(grace):
            await live_answers.wait_until_none()
    live_answers.stop_all(ServerRestarting())
    await live_answers.wait_until_none()
    await hit_writer.flush()
    await event_mirror.flush()
