"""How many passages a model is given: never at the question's cost."""

from dataclasses import replace

import pytest

from inference.ask import Ask, Grounding
from inference.grounding.room import that_fit
from inference.models import ChatModelConfig
from inference.providers.base import ChatMessage, ChatRequest
from inference.providers.scripted import ScriptedProvider
from inference.question import Place, Question
from inference.tests.grounding.test_prompt import source
from llmsite.core.errors import ContextLengthExceeded

WORDS = "one two three four five six seven eight nine ten " * 10
"""A hundred tokens of the scripted provider."""


def question(window, *, prompt="Where?", older=(), max_tokens=50):
    model = ChatModelConfig(
        alias="scripted", provider="scripted", context_window=window, max_tokens=max_tokens
    )
    ask = Ask(user=None, door="test", prompt=prompt, grounding=Grounding())
    turns = (*older, ChatMessage("user", prompt))
    request = ChatRequest(model="scripted", messages=turns, max_tokens=max_tokens)
    return Question(ask, model, ScriptedProvider(), request, Place(), (), False)


def sources(count):
    return [replace(source(WORDS), document=str(number)) for number in range(count)]


async def test_all_where_there_is_room():
    assert len(await that_fit(question(100_000), sources(5))) == 5


async def test_the_first_ones_where_there_is_less():
    assert [one.document for one in await that_fit(question(1400), sources(5))] == ["0", "1", "2"]


async def test_older_turns_make_way():
    older = (ChatMessage("user", WORDS), ChatMessage("assistant", WORDS))

    assert await that_fit(question(1400, older=older), sources(5)) == await that_fit(
        question(1400), sources(5)
    )


async def test_a_long_question_leaves_less():
    assert len(await that_fit(question(1400, prompt=WORDS * 10), sources(5))) == 2


async def test_the_beginning_of_the_first_where_not_even_that_fits():
    [kept] = await that_fit(question(200), sources(5))

    assert WORDS.startswith(kept.text)
    assert 0 < len(kept.text) < len(WORDS)
    assert kept.end - kept.start == len(kept.text)


async def test_none_is_an_error_that_says_so():
    with pytest.raises(ContextLengthExceeded) as error:
        await that_fit(question(100), sources(5))

    assert error.value.data["limit"] == 100
    assert error.value.data["tokens"] > 100


async def test_a_small_window_is_not_filled_with_passages():
    """Room is there for many more: a quarter of it is theirs."""
    assert len(await that_fit(question(2048), [*sources(5), *sources(5)])) == 4


async def test_of_the_first_the_part_that_has_most_of_the_question():
    text = f"{WORDS}stands here. The ferry of Puerto Grajo sails at noon. {WORDS}."
    one = replace(source(text), start=7, end=7 + len(text))

    [kept] = await that_fit(question(200, prompt="When does the ferry of Puerto Grajo sail?"), [one])

    assert kept.text.startswith("The ferry of Puerto Grajo sails at noon.")
    assert len(kept.text) < len(text)
    assert text[kept.start - 7 : kept.end - 7] == kept.text
