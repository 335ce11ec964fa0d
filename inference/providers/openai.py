"""OpenAI's Chat Completions, through its official SDK."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from django.conf import settings

from inference.providers.base import ALL_PARAMETERS, ChatRequest, Take
from inference.providers.chat_completions import CompletionReader, request_body
from inference.providers.sdk import SDKProvider
from llmsite.core.destinations import Network

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_REST_OF_BODY_SECONDS = 0.1


class OpenAIProvider(SDKProvider):
    """The SDK makes the call; the body is read by `CompletionReader`.

    The SDK's own stream ends without a word where the connection is cut, so that half an answer would
    look whole.
    """

    name = "openai"
    parameters = ALL_PARAMETERS
    key_setting = "OPENAI_API_KEY"

    @classmethod
    def from_settings(cls, *, base_url: str = "", network: Network | None = None) -> "OpenAIProvider":
        return cls(
            api_key=settings.OPENAI_API_KEY,
            base_url=base_url or settings.OPENAI_BASE_URL,
            connect_timeout=settings.CONNECT_TIMEOUT,
            network=network,
        )

    async def stream(self, request: ChatRequest, take: Take) -> None:
        client = await self._clients.get()
        import openai

        reader = CompletionReader(self._failures)
        body = {**request_body(request, self.parameters), "max_completion_tokens": request.max_tokens}
        with self._translated(openai, reader):
            async with (
                client.chat.completions.with_streaming_response.create(**body) as response,
                aclosing(response.iter_bytes()) as received,
            ):
                async for data in received:
                    for delta in reader.feed(data):
                        take(delta)
                    if reader.done:
                        await _read_rest(received)
                        break
        take(reader.finished())

    def _build_client(self) -> "AsyncOpenAI":
        import openai

        client = openai.AsyncOpenAI(**self._client_options(openai))
        # The SDK imports each part of the API when it is first named: better here than in the loop.
        _ = client.chat.completions
        return client


async def _read_rest(received: AsyncIterator[bytes]) -> None:
    """Read what follows `[DONE]`, the end of the body, so that the connection serves the next call."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_REST_OF_BODY_SECONDS):
            async for _ in received:
                pass
