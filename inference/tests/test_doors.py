"""The same question through every door: the same text, and one row each."""

import pytest

from inference.models import Generation, Status
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.doors import DOORS
from llmsite.core.errors import ModelNotFound

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.flows,
    pytest.mark.usefixtures("settled"),
]

PIECES = ("Paris", " is", " the", " capital", " of", " France", ". ¿Sí? 日本 🦊")


@pytest.mark.parametrize("door", DOORS)
async def test_it_answers_alike_through_every_door(door, alice, models):
    scripted.play(Script(pieces=PIECES))

    text = await DOORS[door](alice, "What is the capital of France?", "scripted")

    assert text == "".join(PIECES)
    row = await Generation.objects.select_related("message__parent").aget()
    assert row.status == Status.FINISHED
    assert row.finish_reason == "stop"
    assert row.message.content == text
    assert row.message.parent.content == "What is the capital of France?"
    assert row.delta_lengths == [len(piece) for piece in PIECES]
    assert (row.user_id, row.model_alias, row.provider) == (alice.pk, "scripted", "scripted")
    assert row.input_tokens
    assert row.output_tokens
    assert row.latency_ms is not None
    assert not row.usage_estimated


@pytest.mark.parametrize("door", [door for door in DOORS if door != "command"])
async def test_an_unknown_model_costs_nothing_at_any_door(door, alice, models):
    with pytest.raises((AssertionError, ModelNotFound)) as refusal:
        await DOORS[door](alice, "Hello", "no-such-model")

    assert "no-such-model" in str(refusal.value)
    assert not scripted.calls
    assert not await Generation.objects.aexists()
