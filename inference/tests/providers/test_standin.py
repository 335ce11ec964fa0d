"""The stand-in itself, held against the vendors' own SDKs."""

import threading
import urllib.request
from urllib.error import HTTPError

import anthropic
import openai
import pytest

from inference.tests.standin import Answer, StandIn


@pytest.fixture
def vendor_openai(standin: StandIn) -> openai.OpenAI:
    with openai.OpenAI(api_key="k", base_url=f"{standin.url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def vendor_anthropic(standin: StandIn) -> anthropic.Anthropic:
    with anthropic.Anthropic(api_key="k", base_url=standin.url, max_retries=0) as client:
        yield client


ASK = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}


def test_openai_reads_a_whole_answer(vendor_openai: openai.OpenAI) -> None:
    answer = vendor_openai.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "Hello, world!"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 6


def test_openai_reads_a_stream(vendor_openai: openai.OpenAI) -> None:
    stream = vendor_openai.chat.completions.create(**ASK, stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello, world!"
    assert chunks[-1].usage.prompt_tokens == 2


def test_anthropic_reads_a_whole_answer(vendor_anthropic: anthropic.Anthropic) -> None:
    answer = vendor_anthropic.messages.create(**ASK, max_tokens=5)
    assert answer.content[0].text == "Hello, world!"
    assert answer.usage.input_tokens == 2


def test_anthropic_reads_a_stream(vendor_anthropic: anthropic.Anthropic) -> None:
    with vendor_anthropic.messages.stream(**ASK, max_tokens=5) as stream:
        message = stream.get_final_message()
    assert message.content[0].text == "Hello, world!"
    assert message.usage.output_tokens == 4


def test_both_know_their_errors(
    standin: StandIn, vendor_openai: openai.OpenAI, vendor_anthropic: anthropic.Anthropic
) -> None:
    standin.script(Answer(status=429, headers={"retry-after": "2"}), Answer(status=529))
    with pytest.raises(openai.RateLimitError) as caught:
        vendor_openai.chat.completions.create(**ASK)
    assert caught.value.response.headers["retry-after"] == "2"
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        vendor_anthropic.messages.create(**ASK, max_tokens=5)
    assert overloaded.value.status_code == 529


def test_it_lists_a_model(vendor_openai: openai.OpenAI) -> None:
    assert [model.id for model in vendor_openai.models.list()] == ["stand-in"]


def test_it_is_healthy_and_knows_nothing_else(standin: StandIn) -> None:
    with urllib.request.urlopen(f"{standin.url}/health") as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(f"{standin.url}/elsewhere")
    caught.value.close()
    assert caught.value.code == 404


def test_the_invoice_counts_all_that_was_worked_on(standin: StandIn, vendor_openai: openai.OpenAI) -> None:
    standin.script(
        Answer(), Answer(pieces=("a",) * 1000, gap=0.02), Answer(status=500), Answer(usage=(100, 50))
    )
    vendor_openai.chat.completions.create(**ASK)
    with vendor_openai.chat.completions.create(**ASK, stream=True) as left:
        for _ in range(4):  # The first chunk carries the role, no piece.
            next(left)
    with pytest.raises(openai.InternalServerError):
        vendor_openai.chat.completions.create(**ASK)
    vendor_openai.chat.completions.create(**ASK)
    assert standin.calls[1].client_left.wait(1)
    given_up = standin.calls[1].billed
    assert given_up[0] == 2
    assert 3 <= given_up[1] < 1000
    assert standin.invoice() == (2 + 2 + 100, 4 + given_up[1] + 50)


def test_calls_on_one_connection_are_never_lost(standin: StandIn, vendor_openai: openai.OpenAI) -> None:
    for _ in range(50):
        vendor_openai.chat.completions.create(**ASK)
    assert len(standin.calls) == 50
    assert len({call.connection for call in standin.calls}) == 1


def test_nothing_stays_behind() -> None:
    with StandIn() as server:
        urllib.request.urlopen(f"{server.url}/health").close()
    assert not [thread for thread in threading.enumerate() if thread is server._thread]
