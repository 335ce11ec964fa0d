"""Anthropic's Messages, through its official SDK."""

from contextlib import aclosing
from typing import TYPE_CHECKING

from django.conf import settings

from inference.providers.base import TOOL_PARAMETERS, ChatRequest, Take
from inference.providers.messages import MessageReader, request_body
from inference.providers.sdk import SDKProvider
from llmsite.core.destinations import Network

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic


class AnthropicProvider(SDKProvider):
    """The SDK's call takes no temperature, top_p or seed, so they are not among the parameters."""

    name = "anthropic"
    parameters = TOOL_PARAMETERS | {"stop", "response_format"}
    key_setting = "ANTHROPIC_API_KEY"

    @classmethod
    def from_settings(cls, *, base_url: str = "", network: Network | None = None) -> "AnthropicProvider":
        return cls(
            api_key=settings.ANTHROPIC_API_KEY,
            base_url=base_url or settings.ANTHROPIC_BASE_URL,
            connect_timeout=settings.CONNECT_TIMEOUT,
            network=network,
        )

    async def stream(self, request: ChatRequest, take: Take) -> None:
        client = await self._clients.get()
        import anthropic

        reader = MessageReader(self._failures)
        body = request_body(request)
        with self._translated(anthropic, reader):
            async with await client.messages.create(**body) as response, aclosing(aiter(response)) as events:
                async for event in events:
                    for piece in reader.take(event):
                        take(piece)
        take(reader.finished())

    def _build_client(self) -> "AsyncAnthropic":
        import anthropic

        client = anthropic.AsyncAnthropic(**self._client_options(anthropic))
        # The SDK imports each part of the API when it is first named: better here than in the loop.
        _ = client.messages
        return client
