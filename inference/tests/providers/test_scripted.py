import asyncio
from contextlib import aclosing

import pytest

from inference.providers import scripted
from inference.providers.base import ChatMessage, Finished, TextDelta, Usage
from inference.providers.echo import EchoProvider
from inference.providers.scripted import Script, ScriptedProvider
from inference.providers.words import words
from inference.tests.providers.asking import (
    a_request,
    collect,
    collect_until_error,
    end_of,
    stream,
    text_of,
)
from llmsite.core.errors import ProviderRejected, ProviderUnavailable, UpstreamCut


@pytest.mark.parametrize("text", ["", " ", "one", " one  two\n", "\n\nüber 日本 🗼\t"])
def test_words_join_to_the_text(text: str) -> None:
    assert "".join(words(text)) == text


class TestScripted:
    provider = ScriptedProvider()

    async def test_the_default_depends_on_the_conversation_alone(self) -> None:
        first, again, other = [await collect(self.provider, a_request(prompt)) for prompt in ("a", "a", "b")]
        assert text_of(first) == text_of(again) != text_of(other)

    async def test_scripts_are_played_in_order(self) -> None:
        scripted.play(
            Script(pieces=("a", "b"), finish_reason="length", usage=Usage(5, 6)), Script(pieces=("c",))
        )
        assert await collect(self.provider) == [
            TextDelta("a"),
            TextDelta("b"),
            Finished("length", Usage(5, 6)),
        ]
        assert text_of(await collect(self.provider)) == "c"

    async def test_an_error_after_some_pieces(self) -> None:
        scripted.play(Script(pieces=("a", "b"), error=ProviderRejected(provider="scripted", status=400)))
        events, error = await collect_until_error(self.provider)
        assert text_of(events) == "ab"
        assert isinstance(error, ProviderRejected)
        assert scripted.calls[-1].outcome == "failed"

    @pytest.mark.parametrize(
        ("model", "kind", "text"),
        [("cut", UpstreamCut, "One two three"), ("unavailable", ProviderUnavailable, "")],
    )
    async def test_a_model_named_like_a_script_plays_it(
        self, model: str, kind: type[Exception], text: str
    ) -> None:
        events, error = await collect_until_error(self.provider, a_request(model=model))
        assert isinstance(error, kind)
        assert text_of(events) == text

    async def test_an_endless_answer_ends_when_it_is_closed(self) -> None:
        events = stream(self.provider, a_request(model="endless"))
        async with aclosing(events):
            for _ in range(3):
                await anext(events)
        assert scripted.calls[-1].outcome == "closed"
        assert scripted.calls[-1].pieces == 3

    @pytest.mark.parametrize("model", ["silent", "hangs"])
    async def test_a_silent_answer_can_be_cancelled(self, model: str) -> None:
        task = asyncio.create_task(collect(self.provider, a_request(model=model)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert scripted.calls[-1].outcome == "closed"

    async def test_calls_are_recorded(self) -> None:
        request = a_request("remember me")
        await collect(self.provider, request)
        assert scripted.calls[-1].request is request
        assert scripted.calls[-1].outcome == "finished"

    async def test_usage_can_be_kept_back(self) -> None:
        scripted.play(Script(pieces=("a",), reports_usage=False))
        assert end_of(await collect(self.provider)).usage is None


class TestEcho:
    provider = EchoProvider()

    async def test_it_says_back_the_last_question(self) -> None:
        messages = (
            ChatMessage("user", "one"),
            ChatMessage("assistant", "two"),
            ChatMessage("user", "three four"),
        )
        events = await collect(self.provider, a_request(messages=messages))
        assert events == [TextDelta("three"), TextDelta(" four"), Finished("stop", Usage(4, 2))]

    async def test_it_stops_at_the_limit(self) -> None:
        events = await collect(self.provider, a_request("one two three", max_tokens=2))
        assert text_of(events) == "one two"
        assert end_of(events).finish_reason == "length"

    async def test_without_a_question_there_is_no_text(self) -> None:
        assert await collect(self.provider, a_request(messages=())) == [Finished("stop", Usage(0, 0))]

    async def test_the_slow_one_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr("inference.providers.echo.asyncio.sleep", sleep)
        await collect(self.provider, a_request("one two", model="echo-slow"))
        assert waits == [0.05, 0.05]
