import asyncio

import pytest

from inference.providers.base import ChatMessage, estimate_tokens
from inference.providers.local import LocalProvider
from inference.tests.providers.asking import a_request, collect, collect_until_error
from inference.tests.standin import Answer, StandIn
from llmsite.core.errors import LocalModelUnavailable, ProviderTimeout, ProviderUnavailable

MESSAGES = [ChatMessage("system", "Be brief."), ChatMessage("user", "one two three")]


@pytest.fixture
def provider(standin: StandIn) -> LocalProvider:
    return LocalProvider(base_url=standin.url, embedded=True)


class TestAddress:
    @pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
    async def test_with_or_without_the_version(self, standin: StandIn, path: str) -> None:
        provider = LocalProvider(base_url=standin.url + path, embedded=False)
        await collect(provider)
        await provider.count_tokens("stand-in", MESSAGES)
        assert [call.path for call in standin.calls] == ["/v1/chat/completions", "/tokenize"]

    async def test_a_name_in_place_of_an_address(self, standin: StandIn) -> None:
        provider = LocalProvider(base_url=standin.url.replace("127.0.0.1", "localhost"), embedded=True)
        await collect(provider)
        assert standin.calls[-1].headers["host"].startswith("localhost:")

    async def test_a_server_other_than_our_own(self, closed_url: str) -> None:
        _, error = await collect_until_error(LocalProvider(base_url=closed_url, embedded=False))
        assert type(error) is ProviderUnavailable


class TestLoading:
    async def test_a_model_that_still_loads(self, provider: LocalProvider, standin: StandIn) -> None:
        standin.script(Answer(status=503, headers={"retry-after": "4"}))
        _, error = await collect_until_error(provider)
        assert isinstance(error, LocalModelUnavailable)
        assert error.retry_after == 4.0

    async def test_a_model_that_dies_before_it_answers(
        self, provider: LocalProvider, standin: StandIn
    ) -> None:
        asking = asyncio.create_task(
            collect_until_error(LocalProvider(base_url=await _hang_up(), embedded=True))
        )
        _, error = await asking
        assert isinstance(error, LocalModelUnavailable)


async def _hang_up() -> str:
    """An address whose server closes every connection without a word, once."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        server.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class TestRequestId:
    async def test_it_goes_along(self, provider: LocalProvider, standin: StandIn) -> None:
        await collect(provider, a_request(request_id="abc-123"))
        assert standin.calls[-1].headers["x-request-id"] == "abc-123"

    async def test_without_one_there_is_no_header(self, provider: LocalProvider, standin: StandIn) -> None:
        await collect(provider)
        assert "x-request-id" not in standin.calls[-1].headers


class TestCountTokens:
    async def test_our_own_process_counts_all_at_once(
        self, provider: LocalProvider, standin: StandIn
    ) -> None:
        assert await provider.count_tokens("stand-in", MESSAGES) == [5, 6]
        assert len(standin.calls) == 1

    async def test_vllm_is_asked_about_each_message(self, provider: LocalProvider, standin: StandIn) -> None:
        standin.tokenize = "vllm"
        assert await provider.count_tokens("stand-in", MESSAGES) == [5, 6]
        assert len(standin.calls) == 1 + len(MESSAGES)
        assert standin.calls[0].body["model"] == "stand-in"

    async def test_vllm_is_asked_once_about_one_message(
        self, provider: LocalProvider, standin: StandIn
    ) -> None:
        standin.tokenize = "vllm"
        assert await provider.count_tokens("stand-in", MESSAGES[1:]) == [6]
        assert len(standin.calls) == 1

    async def test_a_server_that_cannot_count(self, provider: LocalProvider, standin: StandIn) -> None:
        standin.tokenize = "absent"
        assert await provider.count_tokens("stand-in", MESSAGES) == estimate_tokens(MESSAGES)

    async def test_no_messages_need_no_server(self, closed_url: str) -> None:
        assert await LocalProvider(base_url=closed_url, embedded=True).count_tokens("stand-in", []) == []

    async def test_nobody_there(self, closed_url: str) -> None:
        with pytest.raises(LocalModelUnavailable):
            await LocalProvider(base_url=closed_url, embedded=True).count_tokens("stand-in", MESSAGES)

    async def test_nobody_takes_the_connection(self, deaf_url: str) -> None:
        provider = LocalProvider(base_url=deaf_url, embedded=True, connect_timeout=0.1)
        with pytest.raises(ProviderTimeout):
            await provider.count_tokens("stand-in", MESSAGES)
