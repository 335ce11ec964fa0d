"""The site's own model process, or another OpenAI-compatible server in its place (vLLM)."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from django.conf import settings

from inference.providers.base import (
    ALL_PARAMETERS,
    SAMPLING_PARAMETERS,
    ChatMessage,
    ChatProvider,
    ChatRequest,
    Take,
    estimate_tokens,
)
from inference.providers.chat_completions import CompletionReader, request_body, turn
from inference.providers.failures import Failures
from llmsite.core import http
from llmsite.core.destinations import ForbiddenAddress, Network
from llmsite.core.errors import (
    LocalModelUnavailable,
    ProviderAddressRefused,
    ProviderTimeout,
    ProviderUnavailable,
    SiteError,
)

_ERROR_BYTES = 1 << 16
_TOKENIZE_BYTES = 1 << 24
_TOKENIZE_AT_ONCE = 8
_EMBEDDED_PARAMETERS = SAMPLING_PARAMETERS - {"presence_penalty"}
"""What our own engine takes; another server takes whatever the format has."""


class LocalProvider(ChatProvider):
    """`base_url` may end in `/v1` or not; `embedded` says that the model process there is our own."""

    name = "local"
    is_greedy = True

    def __init__(
        self, *, base_url: str, embedded: bool, connect_timeout: float = 3.0, network: Network | None = None
    ) -> None:
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self._embedded = embedded
        self.parameters = _EMBEDDED_PARAMETERS if embedded else ALL_PARAMETERS
        self._connect_timeout = connect_timeout
        self._network = network
        self._failures = Failures(self.name)

    @classmethod
    def from_settings(cls, *, base_url: str = "", network: Network | None = None) -> "LocalProvider":
        return cls(
            base_url=base_url or settings.LOCAL_BASE_URL or settings.MODEL_URL,
            embedded=not (base_url or settings.LOCAL_BASE_URL),
            connect_timeout=settings.CONNECT_TIMEOUT,
            network=network,
        )

    async def stream(self, request: ChatRequest, take: Take) -> None:
        reader = CompletionReader(self._failures)
        payload = {**request_body(request, self.parameters), "max_tokens": request.max_tokens}
        headers = {"X-Request-ID": request.request_id} if request.request_id else {}
        with self._translated(reader):
            async with self._post("/v1/chat/completions", payload, headers) as response:
                if response.status != 200:
                    raise await self._refusal(response)

                def feed(received: bytes) -> bool:
                    for delta in reader.feed(received):
                        take(delta)
                    return not reader.done

                await response.pour(feed)
        take(reader.finished())

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        """Counted by the server's `/tokenize`; estimated where it has none, or cannot count a message.

        vLLM counts the conversation as a whole, so it is asked about each message by itself.
        """
        if not messages:
            return []
        sizes = await self._tokenize(model, messages)
        if sizes is None:
            return estimate_tokens(messages)
        if "per_message" in sizes:
            return list(sizes["per_message"])
        if len(messages) == 1:
            return [int(sizes["count"])]
        return await self._count_each(model, messages)

    async def _count_each(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        places = asyncio.Semaphore(_TOKENIZE_AT_ONCE)

        async def count(message: ChatMessage) -> int:
            async with places:
                sizes = await self._tokenize(model, [message])
            # Some chat templates refuse a conversation that begins with an answer.
            return int(sizes["count"]) if sizes else estimate_tokens([message])[0]

        return list(await asyncio.gather(*(count(message) for message in messages)))

    async def _tokenize(self, model: str, messages: Sequence[ChatMessage]) -> dict[str, Any] | None:
        """The server's count of `messages`, or None where it cannot tell."""
        turns = [turn(message) for message in messages]
        payload = {"model": model, "messages": turns, "add_generation_prompt": False}
        with self._translated():
            async with self._post("/tokenize", payload) as response:
                if response.status in (503, 529):
                    raise await self._refusal(response)
                sizes = await response.read_json(limit=_TOKENIZE_BYTES)
                counted = response.status == 200 and isinstance(sizes, dict) and "count" in sizes
                return sizes if counted else None

    def _post(
        self, path: str, payload: dict[str, Any], headers: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[http.Response]:
        return http.send(
            "POST",
            self._root + path,
            payload=payload,
            headers=headers,
            connect_timeout=self._connect_timeout,
            network=self._network,
        )

    async def _refusal(self, response: http.Response) -> SiteError:
        body = await response.read_json(limit=_ERROR_BYTES)
        error = self._failures.from_status(response.status, body, response.headers)
        if self._embedded and type(error) is ProviderUnavailable:
            return LocalModelUnavailable(**error.data)
        return error

    @contextmanager
    def _translated(self, reader: CompletionReader | None = None) -> Iterator[None]:
        """Turn what the HTTP client raises into errors of ours."""
        try:
            yield
        except TimeoutError:
            raise ProviderTimeout(provider=self.name, phase="connect") from None
        except ForbiddenAddress as error:
            raise ProviderAddressRefused(provider=self.name, detail=str(error)) from None
        except OSError as error:
            kind = LocalModelUnavailable if self._embedded else ProviderUnavailable
            detail = self._failures.detail(str(error))
            raise kind(provider=self.name, phase="connect", detail=detail) from None
        except http.BadResponse as error:
            started = reader is not None and reader.started
            raise self._failures.broken("no HTTP", started=started, error=error) from None
