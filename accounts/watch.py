"""Ends what stays open when its credential ends: streams and sockets that outlive the request's check.

Whatever the number of open doors, one query every `CHECK_SECONDS` asks for all of them. The database is
the truth, so it needs no Redis, and what another process has revoked is noticed here as well.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from channels.db import database_sync_to_async
from django.utils import timezone

from accounts.credentials import Credential
from accounts.models import ApiKey, Session
from llmsite.core.background import spawn

log = structlog.get_logger("llmsite.watch")

CHECK_SECONDS = 2.0


class Watched:
    """One open door; `ended` turns true and `on_end` is called when its credential has ended."""

    def __init__(self, credential: Credential, on_end: Callable[[], object] | None) -> None:
        self.credential = credential
        self.ended = False
        self._on_end = on_end

    def end(self) -> None:
        self.ended = True
        if self._on_end is not None:
            self._on_end()


class CredentialWatch:
    """All open doors of this process. The check runs while there are any."""

    def __init__(self) -> None:
        self._open: set[Watched] = set()
        self._checking: asyncio.Task[None] | None = None

    @contextmanager
    def watching(
        self, credential: Credential, *, on_end: Callable[[], object] | None = None
    ) -> Iterator[Watched]:
        """Watch `credential` for as long as the block runs."""
        watched = Watched(credential, on_end)
        self._open.add(watched)
        if self._checking is None or self._checking.done():
            self._checking = spawn(self._keep_checking())
        try:
            yield watched
        finally:
            self._open.discard(watched)

    async def _keep_checking(self) -> None:
        while True:
            # It outlives the doors by a moment: most open and close between two checks.
            await asyncio.sleep(CHECK_SECONDS)
            if not self._open:
                return
            try:
                await self.check()
            except Exception as error:
                # The database may be away for a while; what is open stays open until it is back.
                log.warning("watch_failed", error=repr(error))

    async def check(self) -> None:
        """End every open door whose credential is no longer good."""
        now = timezone.now()
        self._end([door for door in self._open if door.credential.has_expired(now)])
        doors = list(self._open)
        alive = await database_sync_to_async(_alive)([door.credential for door in doors])
        self._end([door for door in doors if _holder(door.credential) not in alive])

    def _end(self, doors: list[Watched]) -> None:
        for door in doors:
            if door in self._open:
                self._open.discard(door)
                door.end()


def _alive(credentials: list[Credential]) -> set[object]:
    """The ids of those sign-ins and keys that are still good; at most two queries."""
    sessions = {one.session.pk for one in credentials if one.session}
    keys = {one.api_key.pk for one in credentials if one.api_key}
    alive: set[object] = set()
    if sessions:
        alive |= set(Session.objects.live().filter(pk__in=sessions).values_list("pk", flat=True))
    if keys:
        alive |= set(ApiKey.objects.usable().filter(pk__in=keys).values_list("pk", flat=True))
    return alive


def _holder(credential: Credential) -> object:
    """Sign-ins have UUIDs and keys have numbers, so one set holds both."""
    holder = credential.session or credential.api_key
    return holder and holder.pk


credential_watch = CredentialWatch()
