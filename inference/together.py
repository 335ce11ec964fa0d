"""Answers for programs that cannot come back: the choices of one question, made side by side.

They belong to the request: when its client leaves, its credential ends, or one choice fails, all are stopped,
upstream too. The doors below `/v1/` render what comes out of here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import cast

from django.http import StreamingHttpResponse

from accounts.credentials import Credential
from accounts.watch import credential_watch
from inference.ask import Ask
from inference.events import Delta, Event, Failed, Started, ToolCallPiece, is_last
from inference.pipeline import Completion, complete, stream
from inference.providers.base import ChatMessage, ToolCall
from llmsite.core.background import spawn
from llmsite.core.errors import Interrupted, NotSignedIn, SiteError
from llmsite.core.event_stream import EventStream
from llmsite.core.logs import request_id
from llmsite.core.outlet import Outlet
from llmsite.core.patience import Patience

HEARTBEAT_SECONDS = 15.0


def split_prompt(messages: tuple[ChatMessage, ...]) -> tuple[tuple[ChatMessage, ...], str]:
    """The turns before the question, and the question; empty where the last turn is nobody's question."""
    last = messages[-1]
    return (messages[:-1], last.content) if last.role == "user" else (messages, "")


class BrokenOff(Exception):
    """A choice failed after its first piece, so there is no whole answer."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.code)
        self.failed = failed


async def whole(asks: Sequence[Ask], credential: Credential) -> list[Completion]:
    """All choices, complete. Raises BrokenOff, NotSignedIn, and what `inference.pipeline.complete` raises."""
    work = asyncio.ensure_future(_complete_all(asks))
    with credential_watch.watching(credential, on_end=work.cancel) as watched:
        try:
            return await work
        except asyncio.CancelledError:
            if watched.ended:
                raise NotSignedIn from None
            raise


async def _complete_all(asks: Sequence[Ask]) -> list[Completion]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_complete(ask)) for ask in asks]
    except BaseExceptionGroup as failures:
        # The first one has ended the others; which it was is all that the client has to know.
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _complete(ask: Ask) -> Completion:
    completion = await complete(ask)
    if isinstance(completion.end, Failed):
        raise BrokenOff(completion.end)
    return completion


@dataclass(frozen=True, slots=True)
class Told:
    """One event of one choice."""

    choice: int
    event: Event


class SideBySide:
    """The choices of a question as they come: `begin` first, then `told` once, and `aclose` in any case."""

    def __init__(self, asks: Sequence[Ask], credential: Credential) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: list[Told | Exception] = []
        self._news: asyncio.Future[None] | None = None
        self._at_once: Callable[[Told], bool] | None = None
        self._patience = Patience()
        self._open = ExitStack()
        self._watched = self._open.enter_context(credential_watch.watching(credential, on_end=self._wake))
        self._unfinished = len(asks)
        self._over = False
        self._pumps = [spawn(self._pump(at, ask)) for at, ask in enumerate(asks)]

    async def begin(self) -> list[Started]:
        """Wait until each choice has its first piece.

        Raises what the first of them that failed before raised; none of the others goes on then.
        """
        started: dict[int, Started] = {}
        held: list[Told] = []
        try:
            while len(started) < len(self._pumps):
                for told in await self._next():
                    if isinstance(told.event, Started):
                        started[told.choice] = told.event
                    else:
                        held.append(told)
        except BaseException:
            await self.aclose()
            raise
        self._arrived[:0] = held
        return [started[choice] for choice in sorted(started)]

    async def told(self, *, at_once: Callable[[Told], bool]) -> AsyncGenerator[list[Told], None]:
        """The events behind the beginnings, all that are there at a time together.

        An empty list where nothing has come for `HEARTBEAT_SECONDS`. It ends behind the last choice's end, or
        behind the first Failed. While it waits, a piece of text that `at_once` takes is not given again.
        """
        self._at_once = at_once
        while self._unfinished:
            ready = await self._next_or_heartbeat()
            ends = [at for at, told in enumerate(ready, 1) if is_last(told.event)]
            self._unfinished -= len(ends)
            failed = next((at for at in ends if isinstance(ready[at - 1].event, Failed)), None)
            yield ready[:failed]
            if failed:
                return

    def close(self) -> None:
        """Stop where nobody will read on; from any thread."""
        with suppress(RuntimeError):  # The loop is gone, and all that ran in it.
            self._loop.call_soon_threadsafe(self._stop)

    async def aclose(self) -> None:
        """Stop what is not over, and wait until that is recorded."""
        self._stop()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def _stop(self) -> None:
        # Only once: a second cancellation would hit a pump that is recording its end.
        if self._over:
            return
        self._over = True
        self._open.close()
        self._patience.close()
        for pump in self._pumps:
            pump.cancel()

    async def _pump(self, choice: int, ask: Ask) -> None:
        try:
            await stream(ask, lambda event: self._put(Told(choice, event)))
        except Exception as error:
            self._put(error)
        except asyncio.CancelledError:
            if not self._over:  # Not by us: who waits for this choice has to hear of it.
                self._put(Interrupted())
            raise

    def _put(self, arrived: Told | Exception) -> None:
        if self._is_taken_at_once(arrived):
            self._patience.put_off(self._loop.time() + HEARTBEAT_SECONDS)
            return
        self._arrived.append(arrived)
        self._wake()

    def _is_taken_at_once(self, arrived: Told | Exception) -> bool:
        waits = self._at_once is not None and self._news is not None and not self._news.done()
        if not waits or self._arrived or self._watched.ended:
            return False  # What came before has to be sent first.
        is_text = isinstance(arrived, Told) and isinstance(arrived.event, Delta)
        return is_text and cast("Callable[[Told], bool]", self._at_once)(cast("Told", arrived))

    async def _next_or_heartbeat(self) -> list[Told]:
        try:
            if self._arrived:
                return await self._next()
            with self._patience.until(self._loop.time() + HEARTBEAT_SECONDS):
                return await self._next()
        except TimeoutError:
            return []
        except Exception as error:
            return [Told(0, Failed.of(error, request_id.get()))]

    async def _next(self) -> list[Told]:
        """The next events, at least one. Raises what ended a choice before its beginning, or NotSignedIn."""
        while not self._arrived and not self._watched.ended:
            self._news = self._loop.create_future()
            await self._news
        if self._watched.ended:
            raise NotSignedIn
        if isinstance(self._arrived[0], Exception):
            raise self._arrived[0]
        ready = list(takewhile(lambda one: isinstance(one, Told), self._arrived))
        del self._arrived[: len(ready)]
        return cast("list[Told]", ready)

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class _Body:
    """The chunks of an answer, and the way to stop what makes them where nobody ever asks for one."""

    def __init__(self, chunks: AsyncIterator[bytes], answers: SideBySide) -> None:
        self._chunks = chunks
        self.close = answers.close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


def stream_response(
    chunks: AsyncIterator[bytes], answers: SideBySide, outlet: Outlet
) -> StreamingHttpResponse:
    """The response that sends `chunks`, which are made of `answers` but for what went into `outlet`."""
    return EventStream(_Body(chunks, answers), outlet)


def joined_calls(pieces: Sequence[ToolCallPiece]) -> tuple[ToolCall, ...]:
    """The calls that the pieces make, in the order of their index."""
    calls: dict[int, ToolCall] = {}
    for piece in pieces:
        known = calls.get(piece.index, ToolCall("", "", ""))
        calls[piece.index] = ToolCall(
            known.id or piece.call, known.name or piece.name, known.arguments + piece.arguments
        )
    return tuple(calls[index] for index in sorted(calls))


def heed_cache_control(ask: Ask, header: str | None) -> Ask:
    """The question as the request's Cache-Control wants it answered.

    `no-cache` asks for an answer that was not kept; `no-store` for one that will not be kept either.
    """
    directives = {part.strip().lower() for part in (header or "").split(",")}
    if "no-store" in directives:
        return replace(ask, use_cache=False, may_be_kept=False)
    return replace(ask, use_cache=False) if "no-cache" in directives else ask


@contextmanager
def naming_fields(names: Mapping[str, str]) -> Iterator[None]:
    """What is refused behind the door is told by the names that its clients have for our fields.

    Only what the pipeline raises belongs in here: a client may have sent an unknown field of such a name.
    """
    try:
        yield
    except SiteError as error:
        name = names.get(error.field or "")
        if name is None:
            raise
        raise type(error)(**{**error.data, "field": name}) from error
