"""Says back what it was told, word by word. Needs no key and no model."""

import asyncio
from collections.abc import Sequence

from inference.providers.base import (
    ChatMessage,
    ChatProvider,
    ChatRequest,
    Finished,
    Take,
    TextDelta,
    Usage,
)
from inference.providers.words import words

SECONDS_PER_WORD = {"echo-slow": 0.05}
"""By the provider's name of the model; every other model echoes at once."""


class EchoProvider(ChatProvider):
    """One word is one token. Up to `max_tokens` words of the last user message come back."""

    name = "echo"
    parameters = frozenset()

    @classmethod
    def from_settings(cls) -> "EchoProvider":
        return cls()

    async def stream(self, request: ChatRequest, take: Take) -> None:
        prompt = next((turn.content for turn in reversed(request.messages) if turn.role == "user"), "")
        said, left_out = words(prompt)[: request.max_tokens], words(prompt)[request.max_tokens :]
        for word in said:
            await asyncio.sleep(SECONDS_PER_WORD.get(request.model, 0))
            take(TextDelta(word))
        sizes = await self.count_tokens(request.model, request.messages)
        take(Finished("length" if left_out else "stop", Usage(sum(sizes), len(said))))

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        return [len(words(message.content)) for message in messages]
