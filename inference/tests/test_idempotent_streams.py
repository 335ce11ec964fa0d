"""A stream that is asked for again with the same `Idempotency-Key` tells the answer that is there."""

import json

import pytest
from django.test import AsyncClient

from inference.models import Generation
from inference.providers import scripted
from inference.providers.scripted import Script
from llmsite.core.errors import ContextLengthExceeded, ProviderTimeout

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

BODY = {"prompt": "What is a fox?", "use_cache": False}


async def ask(headers, body=BODY, key="once"):
    client = AsyncClient(raise_request_exception=False)
    headers = {**headers, "Idempotency-Key": key}
    answer = await client.post("/api/predict/stream", body, content_type="application/json", headers=headers)
    text = b"".join([part async for part in answer]) if answer.streaming else answer.content
    return answer, text.decode()


def told(text):
    return [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
    ]


async def test_it_asks_once_and_tells_the_same_events(alice_headers):
    first, text = await ask(alice_headers)
    second, again = await ask(alice_headers)

    assert (first.status_code, second.status_code) == (200, 200)
    events, same = told(text), told(again)
    assert [event["type"] for event in same][:: len(same) - 1] == ["started", "finished"]
    assert {event["id"] for event in same} == {events[0]["id"]}
    assert joined(same) == joined(events)
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    assert len(scripted.calls) == await Generation.objects.acount() == 1


async def test_a_plain_request_with_the_key_gets_the_answer_of_the_stream(alice_headers):
    _, text = await ask(alice_headers)
    headers = {**alice_headers, "Idempotency-Key": "once"}
    plain = await AsyncClient().post("/api/predict", BODY, content_type="application/json", headers=headers)

    assert plain.json()["text"] == joined(told(text))
    assert len(scripted.calls) == 1


async def test_another_body_is_refused(alice_headers):
    await ask(alice_headers)
    answer, text = await ask(alice_headers, {**BODY, "prompt": "What is a hare?"})

    assert answer.status_code == 409
    assert json.loads(text)["error"]["code"] == "idempotency_conflict"


async def test_the_key_of_somebody_else_is_another_key(alice_headers, charlie_headers):
    await ask(alice_headers)
    answer, _ = await ask(charlie_headers)

    assert answer.status_code == 200
    assert "Idempotent-Replayed" not in answer
    assert len(scripted.calls) == 2


async def test_a_passing_failure_before_the_first_piece_may_be_tried_again(alice_headers):
    error = ProviderTimeout(provider="scripted", phase="first_token")
    scripted.play(*[Script(pieces=(), error=error)] * 3)
    failed, _ = await ask(alice_headers)
    assert failed.status_code == 504
    scripted.reset()

    answer, text = await ask(alice_headers)

    assert (answer.status_code, told(text)[-1]["type"]) == (200, "finished")
    assert "Idempotent-Replayed" not in answer


async def test_a_refusal_before_the_first_piece_is_the_same_plain_error_again(alice_headers):
    error = ContextLengthExceeded(tokens=9, limit=8)
    scripted.play(*[Script(pieces=(), error=error)] * 3)
    first, text = await ask(alice_headers)
    again, same = await ask(alice_headers)

    assert first.status_code == again.status_code == 400
    assert json.loads(same)["error"]["code"] == json.loads(text)["error"]["code"] == "context_length_exceeded"
    assert again["Idempotent-Replayed"] == "true"
    assert await Generation.objects.acount() == 1


def joined(events):
    return "".join(event.get("text", "") for event in events)
