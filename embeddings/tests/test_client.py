"""What the web process gets of the model process, and what it says when there is none."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from embeddings.client import embed
from embeddings.tests.fakes import vector_of
from embeddings.tests.serving import serving
from llmsite.core.errors import EmbedderUnavailable, InvalidInput, TooLarge, describe
from llmsite.testing.site import free_port


async def test_vectors_come_as_they_were_computed(model_process):
    found = await embed(["one two", "w " * 20], kind="query")

    assert (found.model, found.dimensions, found.input_tokens, found.truncated) == ("scripted", 4, 10, 1)
    assert [vector.tolist() for vector in found.vectors] == [
        vector_of("one two").tolist(),
        vector_of("w " * 20).tolist(),
    ]


async def test_the_kind_of_text_is_passed_on(model_process, encoder):
    await embed(["a"], kind="query")
    await embed(["b"])

    assert encoder.kinds == ["query", "passage"]


async def test_another_server_for_the_chat_model_changes_nothing(model_process, settings):
    settings.LOCAL_BASE_URL = f"http://127.0.0.1:{free_port()}/v1"

    assert (await embed(["a"])).dimensions == 4


async def test_without_a_model_process_it_says_so(settings):
    settings.MODEL_URL = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(EmbedderUnavailable) as caught:
        await embed(["a"])
    public = describe(caught.value)
    assert (public.status, public.code, public.retry_after) == (503, "embedder_unavailable", 5.0)


async def test_while_it_loads_the_time_to_come_back_is_the_servers(settings):
    loaded = asyncio.Event()

    def load():
        asyncio.run_coroutine_threadsafe(loaded.wait(), loop).result(20)
        raise RuntimeError

    loop = asyncio.get_running_loop()
    starting = serving(load, ready=False)
    served = await asyncio.to_thread(starting.__enter__)
    settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
    try:
        with pytest.raises(EmbedderUnavailable) as caught:
            await embed(["a"])
        assert describe(caught.value).retry_after == 2.0
    finally:
        loaded.set()
        await asyncio.to_thread(starting.__exit__, None, None, None)


async def test_what_the_server_refuses_is_the_callers_mistake(model_process):
    with pytest.raises(InvalidInput):
        await embed([""])
    with pytest.raises(TooLarge) as caught:
        await embed(["x" * 4_000_000])
    assert caught.value.field == "input"


async def test_a_model_that_fails_is_not_available(model_process):
    with pytest.raises(EmbedderUnavailable):
        await embed(["fail"])


@asynccontextmanager
async def answering(body):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"[]",
        b"{}",
        b'{"data": [], "model": "m", "usage": {"prompt_tokens": 1, "truncated_inputs": 0}}',
        b'{"data": [{"embedding": "?"}], "model": "m", "usage": {"prompt_tokens": 1, "truncated_inputs": 0}}',
        b'{"data": [{"embedding": "AAA="}], "model": "m", "usage": {}}',
        b'{"data": "' + b"x" * (1 << 18) + b'"}',
    ],
)
async def test_an_answer_that_is_none_of_ours_is_no_answer(settings, body):
    async with answering(body) as settings.MODEL_URL:
        with pytest.raises(EmbedderUnavailable):
            await embed(["a"])


async def test_a_server_that_never_answers_is_given_up(settings, served, encoder):
    settings.MODEL_URL, settings.TOTAL_TIMEOUT = f"http://127.0.0.1:{served.port}", 0.2
    encoder.gated = True

    with pytest.raises(EmbedderUnavailable) as caught:
        await embed(["a"])
    assert isinstance(caught.value.__cause__, TimeoutError)
