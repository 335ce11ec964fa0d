"""What the doors below `/v1/` refuse: each status in the vendor's form, and nothing done."""

import json
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

import inference
from conftest import bearer
from inference.openai_api import models as models_door
from inference.tests.v1.calling import CHAT, MESSAGES, anthropic_error, ask, openai_error, post
from llmsite.core.errors import TABLE
from llmsite.core.rates import Rate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

COUNT = f"{MESSAGES}/count_tokens"


# --- Every status ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat/completions/", "/v1/models/", "/v1/", "/v1/chat"])
@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_an_unknown_address(path, verb):
    answer = await AsyncClient().generic(verb, path, b"{}", content_type="application/json")
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"]) == (404, "invalid_request_error", "not_found")


@pytest.mark.parametrize("path", ["/v1/messages/", "/v1/messages/x"])
async def test_an_unknown_address_of_anthropics(path):
    answer = await AsyncClient().post(path, {}, content_type="application/json")
    assert (answer.status_code, anthropic_error(answer)["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("verb", ["GET", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_method_it_does_not_take(verb, path, alice):
    headers = await sync_to_async(bearer)(alice)
    answer = await AsyncClient().generic(verb, path, headers=headers)
    error = openai_error(answer) if path == CHAT else anthropic_error(answer)
    assert (answer.status_code, error["type"]) == (405, "invalid_request_error")


async def test_another_kind_of_body(alice):
    for path, read in ((CHAT, openai_error), (MESSAGES, anthropic_error)):
        headers = {**await sync_to_async(bearer)(alice), "Content-Type": "text/plain"}
        answer = await AsyncClient().post(path, "x", content_type="text/plain", headers=headers)
        assert (answer.status_code, read(answer)["type"]) == (415, "invalid_request_error")


async def test_a_body_that_is_too_large(alice, models):
    body = json.dumps(ask("x" * 3_000_000)).encode()
    answer = await post(alice, CHAT, body)
    assert (answer.status_code, openai_error(answer)["code"]) == (413, "request_too_large")
    answer = await post(alice, MESSAGES, body)
    assert (answer.status_code, anthropic_error(answer)["type"]) == (413, "request_too_large")


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Basic YTpi", "Bearer llm_aaaaaaaa_x"])
async def test_nobody(header, db):
    headers = {"Authorization": header} if header else {}
    answer = await AsyncClient().post(CHAT, ask(), content_type="application/json", headers=headers)
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"]) == (
        401,
        "invalid_request_error",
        "invalid_api_key",
    )
    answer = await AsyncClient().post(MESSAGES, ask(), content_type="application/json", headers=headers)
    assert (answer.status_code, anthropic_error(answer)["type"]) == (401, "authentication_error")


async def test_a_key_in_the_address(alice):
    key = (await sync_to_async(bearer)(alice))["Authorization"].removeprefix("Bearer ")
    answer = await AsyncClient().post(f"{CHAT}?api_key={key}", ask(), content_type="application/json")
    assert (answer.status_code, openai_error(answer)["code"]) == (400, "invalid_value")
    assert key not in answer.content.decode()


async def test_the_gate_speaks_the_dialect_of_the_address(alice, settings):
    settings.RATE_LIMIT_ADDRESS = Rate.parse("1/h")
    await AsyncClient().get("/v1/models")
    answer = await AsyncClient().get("/v1/models")
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"]) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    assert answer["x-ratelimit-limit-requests"] == "1"
    assert answer["x-ratelimit-remaining-requests"] == "0"
    assert answer["x-ratelimit-reset-requests"].endswith("s")
    assert int(answer["retry-after-ms"]) > int(answer["Retry-After"]) * 1000 - 1001
    answer = await AsyncClient().post(MESSAGES, {}, content_type="application/json")
    assert anthropic_error(answer)["type"] == "rate_limit_error"
    assert answer["anthropic-ratelimit-requests-remaining"] == "0"


async def test_a_fault_of_ours(alice, monkeypatch):
    async def fail(request):
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(models_door, "_models", fail)
    headers = await sync_to_async(bearer)(alice)
    answer = await AsyncClient(raise_request_exception=False).get("/v1/models", headers=headers)
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"]) == (500, "server_error", "internal_error")
    assert "secret" not in answer.content.decode()


async def test_plain_http_in_production_is_no_redirect(alice, settings):
    settings.SECURE_SSL_REDIRECT = True
    answer = await AsyncClient().post(CHAT, ask(), content_type="application/json")
    assert answer.status_code == 400
    assert "https" in openai_error(answer)["message"]


def test_no_error_of_the_site_can_make_a_client_repeat_a_conflict():
    """The SDKs repeat a 409; those of our errors that have this status belong to other doors."""
    conflicts = {kind.__name__ for kind, row in TABLE.items() if row.status == 409}
    sources = [path.read_text() for path in Path(inference.__file__).parent.glob("**/*.py")]
    raised = {name for name in conflicts if any(f"raise {name}" in source for source in sources)}
    assert raised <= {"IdempotencyConflict", "IdempotencyRunning"}


# --- Refused behind the door ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_does_not_fit_is_told_by_the_name_of_the_vendor(alice, models, stream):
    await models["scripted"].__class__.objects.filter(alias="scripted").aupdate(context_window=20)
    body = ask("x " * 500, max_tokens=5, stream=stream)

    error = openai_error(await post(alice, CHAT, body))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert anthropic_error(await post(alice, MESSAGES, body))["message"].startswith("messages: ")


SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("refused", "fields", "name"),
    [
        ("response_format", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, None),
        (
            "parallel_tool_calls",
            {
                "tools": [{"name": "a", "input_schema": SCHEMA}],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            },
            "tool_choice.disable_parallel_tool_use",
        ),
    ],
)
async def test_what_a_model_does_not_take_is_told_by_the_name_of_the_vendor(
    alice, models, refused, fields, name
):
    await models["scripted"].__class__.objects.filter(alias="scripted").aupdate(refused_parameters=[refused])
    error = anthropic_error(await post(alice, MESSAGES, ask(max_tokens=5, **fields)))

    name = name or "output_config"
    assert error["message"].startswith(f"{name}: ")
    assert f"“{name}”" in error["message"]
    assert refused not in error["message"]


async def test_what_a_model_drops_is_told_by_the_name_of_the_vendor(alice, models):
    await models["scripted"].__class__.objects.filter(alias="scripted").aupdate(refused_parameters=["stop"])
    answer = await post(alice, MESSAGES, ask(max_tokens=5, stop_sequences=["x"]))
    assert answer.json()["llmsite"]["dropped_parameters"] == ["stop_sequences"]
    answer = await post(alice, CHAT, ask(stop=["x"]))
    assert answer.json()["llmsite"]["dropped_parameters"] == ["stop"]
