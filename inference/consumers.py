"""The WebSocket door: one socket asks, stops and resumes; every answer's events carry its id."""

import asyncio
import json
from typing import Any
from uuid import UUID

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from accounts.credentials import Credential
from accounts.models import Scope
from accounts.websocket import SIGNED_OUT, count_message
from inference import generations
from inference.ask import Ask
from inference.events import Failed, is_last
from inference.models import Generation, access_generation
from inference.serializers import read_ask
from llmsite.core.background import own_context
from llmsite.core.errors import InvalidInput, NotSignedIn, SiteError
from llmsite.core.logs import read_request_id, request_id
from llmsite.core.rest import as_site_error

log = structlog.get_logger("llmsite.socket")

MAX_MESSAGE_CHARACTERS = 1_000_000


class ChatConsumer(AsyncWebsocketConsumer):
    """Forwards the events of the pipeline; it knows nothing else.

    Channels hands over one message at a time, so each answer is followed in a task of its own:
    a `stop` must not wait for the end of what it stops.
    """

    async def connect(self) -> None:
        self.credential: Credential = self.scope["credential"]
        self.readers: set[asyncio.Task[None]] = set()
        await self.accept()

    async def disconnect(self, code: int) -> None:
        # Only the reading ends. The answers belong to the server and go on.
        for reader in self.readers:
            reader.cancel()
        await asyncio.gather(*self.readers, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        request_id.set(read_request_id(None))
        try:
            await count_message(self.scope)
            await self._handle(_parse(text_data))
        except Exception as error:
            await self._send({"seq": 0, **_failure(error)})
            if isinstance(error, NotSignedIn):
                await self.close(code=SIGNED_OUT)

    async def _handle(self, message: dict[str, Any]) -> None:
        kind = message.pop("type", None)
        handlers = {"ask": self._ask, "stop": self._stop, "resume": self._resume}
        if not isinstance(kind, str) or kind not in handlers:
            raise InvalidInput(field="type", reason="The type is ask, stop or resume.")
        # Read again for each message: what has ended or shrunk since the last one counts at once.
        self.credential = await database_sync_to_async(self.credential.refreshed)()
        self.credential.require(Scope.CHAT)
        log.info("socket_message", kind=kind, user_id=self.credential.user.pk)
        await handlers[kind](message)

    async def _ask(self, message: dict[str, Any]) -> None:
        turn = await generations.start(_new_ask(message, self.credential))
        self._read(turn.generation, after=-1)

    async def _stop(self, message: dict[str, Any]) -> None:
        await generations.stop(await self._find(message))

    async def _resume(self, message: dict[str, Any]) -> None:
        after = message.get("after", -1)
        if not isinstance(after, int) or isinstance(after, bool) or after < -1:
            raise InvalidInput(field="after", reason="`after` is the number of the last event you have.")
        self._read(await self._find(message), after=after)

    async def _find(self, message: dict[str, Any]) -> Generation:
        try:
            pk = UUID(str(message.get("id")))
        except ValueError as error:
            raise InvalidInput(field="id", reason="`id` is the id of an answer.") from error
        return await database_sync_to_async(access_generation)(self.credential.user, pk)

    def _read(self, generation: Generation, *, after: int) -> None:
        reader = asyncio.create_task(self._forward(generation, after), context=own_context())
        self.readers.add(reader)
        reader.add_done_callback(self.readers.discard)

    async def _forward(self, generation: Generation, after: int) -> None:
        try:
            await self._forward_events(generation, after)
        except Exception as error:
            await self._send({"id": str(generation.pk), "seq": 0, **_failure(error)})

    async def _forward_events(self, generation: Generation, after: int) -> None:
        async for numbered in generations.follow(generation, after=after):
            if numbered is None:
                continue
            await self.send(text_data=numbered.as_json())
            if is_last(numbered.event):
                return

    async def _send(self, data: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(data, ensure_ascii=False))


def _new_ask(message: dict[str, Any], credential: Credential) -> Ask:
    return read_ask(message, credential.user, api_key=credential.api_key, door="websocket", listed=True)


def _parse(text: str | None) -> dict[str, Any]:
    if text is None or len(text) > MAX_MESSAGE_CHARACTERS:
        raise InvalidInput(reason="Send a text of JSON, of at most a million characters.")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(reason="The message is not JSON.") from error
    if not isinstance(message, dict):
        raise InvalidInput(reason="The message is a JSON object with a type.")
    return message


def _failure(error: BaseException) -> dict[str, Any]:
    error = as_site_error(error)
    if not isinstance(error, SiteError):
        log.error("socket_crashed", exc_info=error)
    failed = Failed.of(error, request_id.get())
    return {
        "field": getattr(error, "field", None),
        "retry_after": getattr(error, "retry_after", None),
        "type": failed.type,
        "code": failed.code,
        "message": failed.message,
        "request_id": failed.request_id,
    }
