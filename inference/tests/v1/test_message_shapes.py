"""The shapes of Anthropic's answers, from the events of ours."""

import json

import pytest
from anthropic.types import RawMessageDeltaEvent
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from conftest import bearer
from inference.anthropic_api.answers import MessageWriter, message
from inference.events import Finished, Numbered, Started
from inference.models import ChatModelConfig
from inference.pipeline import Completion
from inference.providers import base, scripted

STARTED = Started("0-1", "c", "m", "scripted", "scripted")


def an_end(**values):
    return Finished("stop", {"input_tokens": 3, "output_tokens": 2}, "0", 5, 4, **values)


@pytest.mark.parametrize(
    ("met", "stop"),
    [
        ("END", {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
        ("", {"stop_reason": "end_turn", "stop_sequence": None}),
    ],
)
def test_the_stop_string_that_ended_it(met, stop):
    end = an_end(stop_sequence=met)
    whole = message(Completion(STARTED, "Hi", (), end), end)
    assert {name: whole[name] for name in stop} == stop

    delta, _ = MessageWriter(STARTED).write(end).decode().removesuffix("\n\n").split("\n\n")
    told = json.loads(delta.split("data: ", 1)[1])
    RawMessageDeltaEvent.model_validate(told)
    assert told["delta"] == stop


def test_it_is_no_part_of_our_own_events():
    """They can be told again from the row, which does not have it."""
    assert "stop_sequence" not in Numbered("0-1", 1, an_end(stop_sequence="END")).as_dict()


@pytest.mark.django_db(transaction=True)
async def test_it_comes_all_the_way(alice, models, settled):
    await ChatModelConfig.objects.filter(alias="echo").aupdate(provider="scripted")
    finished = base.Finished("stop", base.Usage(1, 1), stop_sequence="END")

    async def stream(self, request, take):
        take(base.TextDelta("Hi"))
        take(finished)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripted.ScriptedProvider, "stream", stream)
        answer = await AsyncClient().post(
            "/v1/messages",
            {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
            content_type="application/json",
            headers=await sync_to_async(bearer)(alice),
        )
    assert answer.status_code == 200, answer.content
    assert (answer.json()["stop_reason"], answer.json()["stop_sequence"]) == ("stop_sequence", "END")
