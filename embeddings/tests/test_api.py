"""`POST /api/embed`, from the key to the encoder."""

import pytest
from django.test import AsyncClient

from accounts.models import Scope
from conftest import bearer
from embeddings.tests.fakes import vector_of
from embeddings.texts import MOST_TEXTS
from llmsite.testing.site import free_port

pytestmark = pytest.mark.django_db(transaction=True)


def ask(headers, body, *, content_type="application/json"):
    return AsyncClient().post("/api/embed", body, content_type=content_type, headers=headers)


@pytest.mark.flows
async def test_texts_become_vectors(model_process, alice_headers):
    answer = await ask(alice_headers, {"input": ["one two", "three"]})

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer.json() == {
        "model": "scripted",
        "dimensions": 4,
        "embeddings": [vector_of("one two").tolist(), vector_of("three").tolist()],
    }


async def test_one_text_of_a_kind(model_process, encoder, alice_headers):
    answer = await ask(alice_headers, {"input": " one ", "kind": "query"})

    assert len(answer.json()["embeddings"]) == 1
    assert (encoder.batches, encoder.kinds) == ([[" one "]], ["query"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": ["a", None]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["x"] * (MOST_TEXTS + 1)}, "input"),
        ({"input": "\ud800"}, "input"),
        ({"input": "a", "kind": "poem"}, "kind"),
        ({"input": "a", "api_base": "http://x"}, "api_base"),
    ],
)
async def test_a_wrong_value_is_refused_with_its_name(alice_headers, body, field):
    answer = await ask(alice_headers, body)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_a_key_for_something_else_is_refused(model_process, alice, make_header):
    assert (await ask(await make_header(alice, Scope.CHAT), {"input": "a"})).status_code == 403
    assert (await ask(await make_header(alice, Scope.EMBED), {"input": "a"})).status_code == 200


@pytest.fixture
def make_header():
    from asgiref.sync import sync_to_async

    return sync_to_async(lambda user, scope: bearer(user, scopes=[scope]))


async def test_nobody_is_answered_without_a_credential(model_process, encoder):
    assert (await ask({}, {"input": "a"})).status_code == 401
    assert encoder.batches == []


async def test_without_an_encoder_it_says_when_to_come_back(settings, alice_headers):
    settings.MODEL_URL = f"http://127.0.0.1:{free_port()}"

    answer = await ask(alice_headers, {"input": "a"})

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json()["error"]["code"] == "embedder_unavailable"
