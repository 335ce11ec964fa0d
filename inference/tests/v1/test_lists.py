"""`/v1/models` and `/v1/embeddings`, as they are on the wire."""

from array import array

import pytest
from anthropic.types import ModelInfo
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from openai.types import CreateEmbeddingResponse, Model

from conftest import bearer
from embeddings.client import Embeddings
from inference.models import ChatModelConfig
from inference.openai_api import embeddings as door
from inference.tests.v1.calling import post
from llmsite.core.errors import EmbedderUnavailable

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

EMBEDDINGS, EMBEDDER = "/v1/embeddings", "all-MiniLM-L6-v2"


async def get(user, path, **limits):
    return await AsyncClient().get(path, headers=await sync_to_async(bearer)(user, **limits))


async def test_the_models_are_those_that_answer_and_the_one_that_embeds(alice, models):
    await ChatModelConfig.objects.filter(alias="slow").aupdate(is_active=False)
    body = (await get(alice, "/v1/models")).json()

    assert body["object"] == "list"
    for model in body["data"]:
        Model.model_validate(model, strict=True)
    assert {model["id"] for model in body["data"]} == models.keys() - {"slow"} | {EMBEDDER}
    assert {model["parent"] for model in body["data"]} == {None}


async def test_a_key_sees_what_it_may_ask(alice, models):
    body = (await get(alice, "/v1/models", allowed_models=["echo"])).json()
    assert {model["id"] for model in body["data"]} == {"echo", EMBEDDER}
    hidden = await get(alice, "/v1/models/scripted", allowed_models=["echo"])
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "model_not_found")


ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def key_in_its_header(user, **limits):
    key = (await sync_to_async(bearer)(user, **limits))["Authorization"].removeprefix("Bearer ")
    return {**ANTHROPIC, "x-api-key": key}


async def test_anthropics_clients_get_the_models_in_their_form(alice, models):
    headers = await key_in_its_header(alice, allowed_models=["echo", "scripted"])
    body = (await AsyncClient().get("/v1/models", headers=headers)).json()

    assert {model["id"] for model in body["data"]} == {"echo", "scripted"}
    for model in body["data"]:
        ModelInfo.model_validate(model)
    assert body["has_more"] is False
    assert (body["first_id"], body["last_id"]) == (body["data"][0]["id"], body["data"][-1]["id"])
    one = await AsyncClient().get("/v1/models/echo", headers=headers)
    assert one.json() == next(model for model in body["data"] if model["id"] == "echo")


async def test_and_errors_in_their_form(alice, models):
    headers = await key_in_its_header(alice, allowed_models=["echo"])
    missing = await AsyncClient().get("/v1/models/scripted", headers=headers)
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    nobody = await AsyncClient().get("/v1/models", headers={**ANTHROPIC, "x-api-key": "nonsense"})
    assert (nobody.status_code, nobody.json()["error"]["type"]) == (401, "authentication_error")


async def test_a_key_in_its_header_without_a_version_is_answered_in_openais_form(alice, models):
    headers = await key_in_its_header(alice)
    answer = await AsyncClient().get("/v1/models", headers={"x-api-key": headers["x-api-key"]})
    assert answer.json()["object"] == "list"


async def test_an_adapter_names_its_model(alice, db):
    await ChatModelConfig.objects.acreate(
        alias="team/ours", provider="local", provider_model="base", adapter="ours-v2"
    )
    model = (await get(alice, "/v1/models/team/ours")).json()
    assert (model["id"], model["root"], model["parent"]) == ("team/ours", "ours-v2", "base")


@pytest.fixture
def encoder(monkeypatch):
    """Stands for the model process: what it was asked, and one vector for each text."""
    asked = []

    async def embed(texts, *, kind):
        asked.append((tuple(texts), kind))
        return Embeddings(EMBEDDER, 2, [array("f", [0.5, -1.0])] * len(texts), 4, 1)

    monkeypatch.setattr(door, "embed", embed)
    return asked


@pytest.mark.parametrize("given", ["one", ["one"]])
async def test_a_text_or_a_list(alice, encoder, given):
    answer = await post(alice, EMBEDDINGS, {"model": EMBEDDER, "input": given, "user": "u", "dimensions": 2})
    body = answer.json()
    CreateEmbeddingResponse.model_validate(body, strict=True)
    assert body["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]
    assert body["llmsite"] == {"truncated": 1}
    assert encoder == [(("one",), "passage")]


async def test_a_question_is_told_apart(alice, encoder):
    await post(alice, EMBEDDINGS, {"model": EMBEDDER, "input": "one", "kind": "query"})
    assert encoder == [(("one",), "query")]


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"input": None}, 400, "invalid_value", "input"),
        ({"input": []}, 400, "invalid_value", "input"),
        ({"input": ""}, 400, "invalid_value", "input"),
        ({"input": ["a", ""]}, 400, "invalid_value", "input"),
        ({"input": ["a", 7]}, 400, "invalid_value", "input"),
        ({"input": {"a": 1}}, 400, "invalid_value", "input"),
        ({"input": ["a"] * 2049}, 400, "invalid_value", "input"),
        ({"input": [1, 2, 3]}, 400, "unsupported_parameter", "input"),
        ({"input": [[1, 2], [3]]}, 400, "unsupported_parameter", "input"),
        ({"model": "text-embedding-3-small"}, 404, "model_not_found", "model"),
        ({"encoding_format": "int8"}, 400, "invalid_value", "encoding_format"),
        ({"kind": "poem"}, 400, "invalid_value", "kind"),
        ({"dimensions": 3}, 400, "invalid_value", "dimensions"),
        ({"task": "x"}, 400, "unknown_parameter", "task"),
    ],
)
async def test_what_is_refused(alice, encoder, fields, status, code, param):
    answer = await post(alice, EMBEDDINGS, {"model": EMBEDDER, "input": "one", **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


async def test_a_key_for_other_things_is_refused(alice, encoder):
    headers = await sync_to_async(bearer)(alice, scopes=["chat"])
    body = {"model": EMBEDDER, "input": "one"}
    answer = await AsyncClient().post(EMBEDDINGS, body, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
    assert not encoder


async def test_without_its_process_there_are_no_embeddings(alice, monkeypatch):
    async def embed(texts, *, kind):
        raise EmbedderUnavailable(detail="nobody there")

    monkeypatch.setattr(door, "embed", embed)
    answer = await post(alice, EMBEDDINGS, {"model": EMBEDDER, "input": "one"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    assert "Retry-After" in answer.headers
