"""What a program sent before its question stays with the conversation that it began."""

import pytest

from inference.ask import Ask
from inference.models import Conversation
from inference.pipeline import complete
from inference.preface import preface_of, turns_of
from inference.providers import scripted
from inference.providers.base import ChatMessage, ToolCall
from inference.tests.doors import post

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

HISTORY = (
    ChatMessage("user", "One"),
    ChatMessage("assistant", "", tool_calls=(ToolCall("1", "f", '{"a": 1}'),)),
    ChatMessage("tool", "42", tool_call_id="1"),
    ChatMessage("tool", "No such number.", tool_call_id="2", is_error=True),
)


def sent():
    return [(turn.role, turn.content) for turn in scripted.calls[-1].request.messages]


async def test_it_comes_back_as_it_was(alice):
    ask = Ask(user=alice, door="test", prompt="And now?", system="Be brief.", history=HISTORY)
    assert turns_of(preface_of(ask)) == [ChatMessage("system", "Be brief."), *HISTORY]


async def test_a_question_that_follows_is_put_behind_it(alice):
    begun = await complete(
        Ask(user=alice, door="test", prompt="Two", system="Be brief.", history=HISTORY[:1])
    )
    answered = begun.text
    await post(alice, "/api/predict", {"prompt": "Three", "conversation": begun.started.conversation})

    assert sent() == [
        ("system", "Be brief."),
        ("user", "One\n\nTwo"),
        ("assistant", answered),
        ("user", "Three"),
    ]
    assert await Conversation.objects.acount() == 1


async def test_another_system_prompt_takes_the_place_of_the_first(alice):
    begun = await complete(Ask(user=alice, door="test", prompt="Two", system="Be brief."))
    conversation = begun.started.conversation
    await post(alice, "/api/predict", {"prompt": "Three", "conversation": conversation, "system": "Rhyme."})
    assert sent()[0] == ("system", "Rhyme.")
    assert [role for role, _ in sent()].count("system") == 1
