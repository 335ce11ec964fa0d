"""A provider's key is sent to the provider and is nowhere else, whatever goes wrong with it."""

import asyncio
import hashlib
import logging
from base64 import b64encode

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.test import Client

from conftest import sign_in_client
from inference import fallback
from inference.circuits import circuits, states
from inference.models import ChatModelConfig, Generation
from inference.tests.doors import post
from inference.tests.standin import Answer
from inference.tests.test_addresses import tls_server
from llmsite.tests.test_leaks import dump_of_redis, dump_of_the_database

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

KEY = "sk-proj-canary-9wQ7hX2mZ4"
FORMS = {
    "the key": KEY,
    "its middle": KEY[8:22],
    "its hash": hashlib.sha256(KEY.encode()).hexdigest(),
    "its short hash": hashlib.sha256(KEY.encode()).hexdigest()[:16],
    "its base64": b64encode(KEY.encode()).decode().rstrip("="),
}
SAYS_IT = {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "invalid_request_error"}}


def crash(*arguments, **values):
    raise RuntimeError("a fault of ours")


FAULTS = {
    "refused": Answer(status=401, body=SAYS_IT),
    "forbidden": Answer(status=403, body=f"Authorization: Bearer {KEY}".encode()),
    "limited": Answer(status=429, body=SAYS_IT, headers={"retry-after": "600", "x-key": KEY}),
    "broken": Answer(status=500, body={"error": {"message": KEY * 50}}),
    "redirected": Answer(status=302, headers={"location": f"https://evil.example/{KEY}"}),
    "error event": Answer(pieces=("a",), error={"type": "api_error", "message": f"key {KEY}"}),
    "nonsense": Answer(raw=f"data: {KEY}\n\n".encode()),
    "cut": Answer(pieces=("a", "b"), end="rst"),
    "silent": Answer(head_start=30),
    "fine": Answer(),
}


@pytest.fixture(params=["openai", "anthropic"])
def model(request, db, standin, settings, monkeypatch):
    settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = KEY
    settings.OPENAI_BASE_URL, settings.ANTHROPIC_BASE_URL = f"{standin.url}/v1", standin.url
    monkeypatch.setattr(fallback, "FIRST_WAIT_SECONDS", 0.01)
    ChatModelConfig.objects.all().delete()
    return ChatModelConfig.objects.create(
        alias="m", provider=request.param, provider_model="m", is_default=True
    )


async def ask(alice, fault):
    """What is told of a fault at two doors, by a site that has seen no other."""
    circuits.forget()
    cache.clear()
    told = []
    for path in ("/api/predict", "/api/predict/stream"):
        answer = await post(alice, path, {"prompt": f"{fault} {path}", "model": "m"})
        body = [chunk async for chunk in answer.streaming_content] if answer.streaming else [answer.content]
        told.append(f"{answer.headers} {b''.join(body).decode()}")
    return "\n".join(told)


async def everywhere(answers, staff, caplog, capfd):
    """All that is told, logged, stored and shown to staff, by place."""
    shown = {
        "the circuits": repr(await states()),
        "the database": await sync_to_async(dump_of_the_database)(),
        "Redis": await sync_to_async(dump_of_redis)(),
        **await sync_to_async(pages_of)(staff),
    }
    told = capfd.readouterr()
    return {**answers, **shown, "the logs": caplog.text + told.out + told.err}


def pages_of(staff):
    client = Client()
    sign_in_client(client, staff)
    row = Generation.objects.first()
    paths = [
        "/api/models",
        "/admin/inference/chatmodelconfig/",
        "/admin/inference/generation/",
        "/api/auth/usage",
    ]
    if row is not None:
        paths.append(f"/admin/inference/generation/{row.pk}/change/")
    return {path: client.get(path, follow=True).content.decode() for path in paths}


def leaks_in(places):
    return [
        f"{name} in {place}" for place, text in places.items() for name, form in FORMS.items() if form in text
    ]


async def test_the_key_shows_nowhere(model, alice, staff, standin, settings, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    answers = {}
    for fault, answer in FAULTS.items():
        standin.choose = lambda body, answer=answer: answer
        if fault == "silent":
            settings.FIRST_TOKEN_TIMEOUT = 0.5
        answers[fault] = await ask(alice, fault)

    places = await everywhere(answers, staff, caplog, capfd)

    sent = [
        call.headers.get("authorization", "") + call.headers.get("x-api-key", "") for call in standin.calls
    ]
    assert len(sent) >= 2 * len(FAULTS)
    assert all(KEY in header for header in sent)
    assert all(fault in places["the database"] for fault in FAULTS)
    assert not leaks_in(places)


async def test_nor_where_no_call_is_made(
    model, alice, staff, standin, settings, caplog, capfd, monkeypatch, tmp_path
):
    caplog.set_level(logging.DEBUG)
    answers = {}
    with monkeypatch.context() as patch:
        patch.setattr(f"inference.providers.{model.provider}.request_body", crash)
        answers["a fault of ours"] = await ask(alice, "crash")
    settings.OPENAI_BASE_URL = settings.ANTHROPIC_BASE_URL = "http://127.0.0.1:1"
    answers["nobody"] = await ask(alice, "nobody")
    with tls_server(tmp_path, "llm.example.org") as (context, _, _):
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            settings.OPENAI_BASE_URL = settings.ANTHROPIC_BASE_URL = f"https://127.0.0.1:{port}"
            answers["a bad certificate"] = await ask(alice, "certificate")

    places = await everywhere(answers, staff, caplog, capfd)

    assert standin.calls == []
    assert "CERTIFICATE_VERIFY_FAILED" in places["the logs"]
    assert "a fault of ours" in places["the logs"]
    assert [fault for fault, answer in answers.items() if "provider_" not in answer] == []
    assert not leaks_in(places)


def hang_up(reader, writer):
    writer.close()
