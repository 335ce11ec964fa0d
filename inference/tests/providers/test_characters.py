"""What is no character does not come out of a provider, whoever sent it and however it was cut."""

import json

import pytest

from inference.providers.anthropic import AnthropicProvider
from inference.providers.base import ChatProvider, Finished, TextDelta, Timeouts, ToolCall, ToolCallDelta
from inference.providers.characters import Characters, whole_text
from inference.providers.deadlines import Deadlines
from inference.providers.local import LocalProvider
from inference.providers.messages import arguments_of
from inference.providers.openai import OpenAIProvider
from inference.tests.providers.asking import collect, text_of
from inference.tests.standin import Answer, StandIn

HIGH, LOW = "\ud83d", "\ude00"


def read(*events):
    characters = Characters()
    return [piece for event in events for piece in characters.whole(event)]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("plain", "plain"),
        ("é🗼", "é🗼"),
        (f"a{HIGH}b", "a\ufffdb"),
        (f"a{LOW}b", "a\ufffdb"),
        (f"{HIGH}{LOW}", "😀"),
        (f"{HIGH}{HIGH}{LOW}{LOW}", "\ufffd😀\ufffd"),
        ("a\0b", "a\ufffdb"),
    ],
)
def test_texts(text, whole):
    assert whole_text(text) == whole


END = Finished("stop", None)


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        (["a", "é", "🗼"], ["a", "é", "🗼"]),
        ([f"a{HIGH}", f"{LOW}b"], ["a", "😀b"]),
        ([HIGH, LOW, "b"], ["😀", "b"]),
        ([HIGH, "b"], ["\ufffdb"]),
        ([f"a{HIGH}"], ["a", "\ufffd"]),
        ([LOW, HIGH], ["\ufffd", "\ufffd"]),
    ],
)
def test_pieces_of_text(pieces, told):
    assert read(*map(TextDelta, pieces), END) == [*map(TextDelta, told), END]


def test_pieces_of_calls_are_joined_by_their_call():
    events = read(
        ToolCallDelta(0, f"i{HIGH}", f"n{LOW}", f'"{HIGH}'),
        ToolCallDelta(1, "i", "n", f'"{HIGH}'),
        TextDelta(f"x{HIGH}"),
        ToolCallDelta(0, arguments=f'{LOW}"'),
        ToolCallDelta(1, arguments='"'),
        TextDelta(f"{LOW}y"),
        END,
    )

    arguments = {0: "", 1: ""}
    for event in events:
        if isinstance(event, ToolCallDelta):
            arguments[event.index] += event.arguments
    assert events[0] == ToolCallDelta(0, "i\ufffd", "n\ufffd", '"')
    assert arguments == {0: '"😀"', 1: '"\ufffd"'}
    assert text_of(events) == "x😀y"


def test_the_count_of_the_prompt_stays_with_its_piece():
    assert read(TextDelta(f"a{HIGH}b", 7))[0].prompt_tokens == 7


def test_what_ended_the_answer():
    assert read(Finished("stop", None, stop_sequence=HIGH)) == [
        Finished("stop", None, stop_sequence="\ufffd")
    ]


def test_arguments_of_a_call_that_are_read():
    call = ToolCall("1", "tell", r'{"a": "\ud83d", "b\ud83d\ude00": "\u00e9\\ud83d"}')
    assert arguments_of(call) == {"a": "\ufffd", "b😀": r"é\ud83d"}


def openai_stream(*pieces):
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"


def anthropic_stream(*pieces):
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}
    events = [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


@pytest.mark.parametrize(
    ("provider", "stream"),
    [
        (lambda url: OpenAIProvider(api_key="sk-1", base_url=f"{url}/v1"), openai_stream),
        (lambda url: AnthropicProvider(api_key="sk-1", base_url=url), anthropic_stream),
        (lambda url: LocalProvider(base_url=url, embedded=False), openai_stream),
    ],
    ids=["openai", "anthropic", "local"],
)
async def test_every_provider(provider, stream, standin: StandIn) -> None:
    standin.script(Answer(raw=stream("a", HIGH, f"{LOW}b", HIGH, "c\0")))
    asked: ChatProvider = Deadlines(provider(standin.url), Timeouts())

    events = await collect(asked)

    assert text_of(events) == "a😀b\ufffdc\ufffd"
    assert isinstance(events[-1], Finished)
