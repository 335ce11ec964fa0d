from inference.providers.openai import OpenAIProvider
from inference.tests.providers.asking import a_request, collect, end_of, text_of
from inference.tests.standin import Answer, StandIn


async def test_the_limit_has_its_newer_name(standin: StandIn) -> None:
    await collect(OpenAIProvider(api_key="sk-test", base_url=f"{standin.url}/v1"), a_request(max_tokens=5))
    body = standin.calls[-1].body
    assert body["max_completion_tokens"] == 5
    assert "max_tokens" not in body


async def test_one_connection_serves_call_after_call(standin: StandIn) -> None:
    provider = OpenAIProvider(api_key="sk-test", base_url=f"{standin.url}/v1")
    for _ in range(3):
        await collect(provider)
    assert len({call.connection for call in standin.calls}) == 1


async def test_an_answer_is_whole_where_the_connection_stays_open_after_it(standin: StandIn) -> None:
    standin.script(
        Answer(end="hang", raw=b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n')
    )
    events = await collect(OpenAIProvider(api_key="sk-test", base_url=f"{standin.url}/v1"))
    assert text_of(events) == "a"
    assert end_of(events).finish_reason == "stop"
