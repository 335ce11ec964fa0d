import asyncio

import pytest

from inference.providers import scripted
from inference.providers.base import ChatMessage, Timeouts
from inference.providers.deadlines import Deadlines
from inference.providers.scripted import Script, ScriptedProvider
from inference.tests.providers.asking import collect, collect_until_error, end_of, text_of
from llmsite.core.errors import ProviderTimeout, ProviderUnavailable


def deadlines(**seconds: float) -> Deadlines:
    return Deadlines(ScriptedProvider(), Timeouts(**seconds))


@pytest.mark.parametrize(
    ("script", "seconds", "phase", "text"),
    [
        (Script(pieces=(), hang=True), {"first_token": 0.05}, "first_token", ""),
        (Script(pieces=("a", "b"), hang=True), {"idle": 0.15}, "idle", "ab"),
        (Script(pieces=(), hang=True), {"first_token": 9, "total": 0.15}, "total", ""),
        (Script(pieces=("a", "b"), hang=True), {"idle": 9, "total": 0.15}, "total", "ab"),
    ],
)
async def test_the_deadline_that_passed_is_named(
    script: Script, seconds: dict[str, float], phase: str, text: str
) -> None:
    scripted.play(script)
    events, error = await collect_until_error(deadlines(**seconds))
    assert isinstance(error, ProviderTimeout)
    assert error.data == {"provider": "scripted", "phase": phase}
    assert text_of(events) == text
    assert scripted.calls[-1].outcome == "closed"


async def test_the_first_piece_may_take_longer_than_the_next() -> None:
    scripted.play(Script(pieces=("a",), delay=0.1))
    assert end_of(await collect(deadlines(first_token=5, idle=0.05))).finish_reason == "stop"


async def test_other_errors_pass_through() -> None:
    scripted.play(Script(pieces=(), error=ProviderUnavailable(provider="scripted")))
    _, error = await collect_until_error(deadlines())
    assert type(error) is ProviderUnavailable


async def test_it_looks_like_the_provider_inside() -> None:
    wrapped = deadlines()
    assert (wrapped.name, wrapped.parameters) == ("scripted", ScriptedProvider.parameters)
    assert await wrapped.count_tokens("any", [ChatMessage("user", "one two")]) == [2]


async def test_counting_has_a_deadline_too() -> None:
    class Stuck(ScriptedProvider):
        async def count_tokens(self, model, messages):
            await asyncio.sleep(60)

    with pytest.raises(ProviderTimeout):
        await Deadlines(Stuck(), Timeouts(first_token=0.05)).count_tokens("any", [])
