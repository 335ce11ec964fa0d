"""What is refused, with one clear line and nothing half-done."""

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import AsyncClient, Client

from conftest import bearer
from inference.models import Generation, Message
from inference.providers import scripted
from inference.tests.doors import post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b'{"prompt": ""}', 400, "invalid_value", "prompt"),
        (b'{"prompt": "  \\n "}', 400, "invalid_value", "prompt"),
        (b"{}", 400, "invalid_value", "prompt"),
        (b'{"prompt": "a\\u0000b"}', 400, "invalid_value", "prompt"),
        (b'{"prompt": "\\ud800"}', 400, "invalid_value", "prompt"),
        (b'{"prompt": ["x"]}', 400, "invalid_value", "prompt"),
        (b'{"prompt": 12}', 400, "invalid_value", "prompt"),
        (b'{"prompt": "x", "top_p": 0}', 400, "invalid_value", "top_p"),
        (b'{"prompt": "x", "stop": [""]}', 400, "invalid_value", "stop"),
        (b'{"prompt": "\xff"}', 400, "invalid_value", None),
        (b"not json", 400, "invalid_value", None),
        (b"[" * 100_000, 400, "invalid_value", None),
        (b'["prompt"]', 400, "invalid_value", None),
        (b'{"prompt": "x", "temperature": NaN}', 400, "invalid_value", None),
        (b'{"prompt": "x", "temperature": 3}', 400, "invalid_value", "temperature"),
        (b'{"prompt": "x", "max_tokens": 0}', 400, "invalid_value", "max_tokens"),
        (b'{"prompt": "x", "api_base": "http://evil"}', 400, "invalid_value", "api_base"),
        (b'{"prompt": "x", "provider": "nobody"}', 400, "invalid_value", "provider"),
        (b'{"prompt": "x", "conversation": "1"}', 400, "invalid_value", "conversation"),
        (b'{"prompt": "x", "model": "nobody"}', 404, "model_not_found", "model"),
        (b'{"prompt": "' + b"x" * 200_001 + b'"}', 413, "too_large", "prompt"),
        (b'{"prompt": "' + b"x" * 3_000_000 + b'"}', 413, "too_large", None),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
@pytest.mark.parametrize("path", ["/api/predict", "/api/predict/stream"])
def test_a_bad_question_is_refused(path, body, status, code, field, alice, models):
    answer = Client(headers=bearer(alice)).post(path, body, content_type="application/json")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (status, code, field)
    assert error["message"]
    assert error["request_id"] == answer["X-Request-ID"]
    assert not scripted.calls
    assert not Message.objects.exists()


def test_the_limit_is_named(alice, models):
    body = {"prompt": "x" * (settings.MAX_PROMPT_CHARACTERS + 1)}

    answer = Client(headers=bearer(alice)).post("/api/predict", body, content_type="application/json")

    assert "200,000" in answer.json()["error"]["message"] or "200000" in answer.json()["error"]["message"]


def test_a_missing_key_names_the_setting(alice, transactional_db):
    from inference.models import ChatModelConfig

    ChatModelConfig.objects.create(alias="paid", provider="anthropic", provider_model="claude")

    answer = Client(headers=bearer(alice)).post(
        "/api/predict", {"prompt": "x", "provider": "claude"}, content_type="application/json"
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "provider_not_configured")
    assert "ANTHROPIC_API_KEY" in answer.json()["error"]["message"]
    assert not Generation.objects.exists()


@pytest.mark.parametrize("path", ["/api/predict", "/api/predict/stream"])
def test_it_is_closed_to_people_without_a_sign_in(path, models):
    answer = Client().post(path, {"prompt": "x"}, content_type="application/json")

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_authenticated")


def test_a_method_it_does_not_take(alice, models):
    answer = Client(headers=bearer(alice)).get("/api/predict")

    assert (answer.status_code, answer["Allow"]) == (405, "POST")


def test_another_type_of_body(alice, models):
    answer = Client(headers=bearer(alice)).post("/api/predict", "prompt=x", content_type="text/plain")

    assert answer.status_code == 415


def test_an_unknown_address_below_api_is_json():
    answer = Client().get("/api/nothing/here")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("cursor", ["x", "-2", "1.5", "9" * 30])
async def test_a_cursor_is_the_number_of_an_event(cursor, alice, models, settled):
    asked = (await post(alice, "/api/predict", {"prompt": "x"})).json()
    headers = {**await sync_to_async(bearer)(alice), "Last-Event-ID": cursor}

    answer = await AsyncClient().get(f"/api/generations/{asked['id']}/events", headers=headers)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "Last-Event-ID")
