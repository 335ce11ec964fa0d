import json
from typing import Any

import pytest

from inference.providers.base import ChatMessage, Finished, TextDelta, Usage
from inference.providers.chat_completions import CompletionReader, request_body, turn
from inference.providers.failures import Failures
from inference.tests.providers.asking import a_request
from inference.tests.wire import OpenAIFormat
from llmsite.core.errors import ProviderUnavailable, UpstreamCut

WIRE = OpenAIFormat()


def a_reader() -> CompletionReader:
    return CompletionReader(Failures("openai"))


def chunk(**values: Any) -> bytes:
    return b"data: " + json.dumps(values).encode() + b"\n\n"


def test_a_request() -> None:
    request = a_request("Hi", temperature=0.0, top_p=None, stop=("END",), seed=0)
    assert request_body(request, frozenset({"temperature", "top_p", "stop"})) == {
        "model": "stand-in",
        "messages": [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "stop": ["END"],
    }


def test_a_tool_that_failed_says_so_in_its_text() -> None:
    failed = ChatMessage("tool", "No such city.", tool_call_id="1", is_error=True)
    assert turn(failed) == {"role": "tool", "tool_call_id": "1", "content": "Error: No such city."}


def test_an_answer() -> None:
    reader = a_reader()
    stream = WIRE.begin(None) + WIRE.piece("Hel") + WIRE.piece("lo") + WIRE.end("stop", (3, 2))
    assert list(reader.feed(stream)) == [TextDelta("Hel"), TextDelta("lo")]
    assert reader.done
    assert reader.finished() == Finished("stop", Usage(3, 2))


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("abort", "cancelled"),
        ("a new word", "stop"),
    ],
)
def test_finish_reasons(word: str, reason: str) -> None:
    reader = a_reader()
    list(reader.feed(WIRE.piece("a") + WIRE.end(word, None)))
    assert reader.finished().finish_reason == reason


def test_a_refusal_is_shown_and_named() -> None:
    reader = a_reader()
    refusal = chunk(choices=[{"index": 0, "delta": {"refusal": "I will not."}}])
    assert list(reader.feed(refusal + WIRE.end("stop", None))) == [TextDelta("I will not.")]
    assert reader.finished().finish_reason == "content_filter"


def test_an_answer_of_no_words_is_an_answer() -> None:
    reader = a_reader()
    assert list(reader.feed(WIRE.begin(None) + WIRE.end("stop", (3, 0)))) == []
    assert reader.finished() == Finished("stop", Usage(3, 0))


def test_an_end_without_a_reason_is_an_end_where_text_came() -> None:
    reader = a_reader()
    list(reader.feed(WIRE.piece("a") + b"data: [DONE]\n\n"))
    assert reader.finished().finish_reason == "stop"


def test_chunks_that_carry_other_things_are_passed_over() -> None:
    reader = a_reader()
    other = (
        chunk(sources=["a"]) + chunk(choices=[{"delta": {"reasoning_content": "hm"}}]) + chunk(choices=[{}])
    )
    assert list(reader.feed(other)) == []
    assert not reader.started


def test_pieces_before_an_error_in_one_segment_are_kept() -> None:
    pieces = a_reader().feed(WIRE.piece("a") + WIRE.error_event({"code": 503}))
    assert next(pieces) == TextDelta("a")
    with pytest.raises(ProviderUnavailable):
        next(pieces)


def test_nonsense_after_text_is_a_cut() -> None:
    reader = a_reader()
    list(reader.feed(WIRE.piece("a")))
    with pytest.raises(UpstreamCut):
        list(reader.feed(b"data: {half\n\n"))
