"""What a provider says of a failure may repeat the prompt: it is not in the log unless LOG_PROMPTS is on."""

import logging

import pytest
from django.core.cache import cache

from inference import fallback
from inference.circuits import circuits
from inference.models import ChatModelConfig, Generation
from inference.tests.doors import post
from inference.tests.standin import Answer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

PROMPT = "My canary is called Tweety 4711"
SAYS_IT = {"error": {"message": f"Cannot answer: {PROMPT}", "type": "invalid_request_error", "code": PROMPT}}
FAULTS = {
    "at fault": Answer(status=400, body=SAYS_IT),
    "refused": Answer(status=401, body=SAYS_IT),
    "limited": Answer(status=429, body=SAYS_IT),
    "broken": Answer(status=500, body=PROMPT.encode()),
    "overloaded": Answer(status=503, body={"error": PROMPT}),
    "redirected": Answer(status=302, headers={"location": f"https://evil.example/?q={PROMPT}"}),
    "error event": Answer(pieces=("a",), error={"type": "api_error", "message": PROMPT}),
    "first event": Answer(pieces=(), error={"type": PROMPT, "message": PROMPT}),
    "nonsense": Answer(raw=f"data: {PROMPT}\n\n".encode()),
    "another shape": Answer(
        raw=f'event: message_start\ndata: {{"usage": {{"prompt_tokens": "{PROMPT}"}}, "message": "{PROMPT}",'
        ' "type": "message_start"}\n\n'.encode()
    ),
    "bad header": Answer(headers={"x": f"\x01\x02{PROMPT}"}),
    "cut": Answer(pieces=("a", PROMPT), end="rst"),
}


@pytest.fixture(params=["openai", "anthropic", "local"])
def model(request, db, standin, settings, monkeypatch):
    settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = "sk-test"
    settings.OPENAI_BASE_URL, settings.ANTHROPIC_BASE_URL = f"{standin.url}/v1", standin.url
    settings.LOCAL_BASE_URL = standin.url
    monkeypatch.setattr(fallback, "FIRST_WAIT_SECONDS", 0.01)
    ChatModelConfig.objects.all().delete()
    return ChatModelConfig.objects.create(
        alias="m", provider=request.param, provider_model="m", is_default=True
    )


async def ask_with_each_fault(alice, standin):
    for fault, answer in FAULTS.items():
        standin.choose = lambda body, answer=answer: answer
        before = len(standin.calls)
        for path in ("/api/predict", "/api/predict/stream"):
            circuits.forget()
            cache.clear()
            told = await post(alice, path, {"prompt": f"{PROMPT} {fault} {path}", "model": "m"})
            if told.streaming:
                assert [chunk async for chunk in told.streaming_content]
        assert len(standin.calls) >= before + 2


async def test_the_log_has_the_kind_and_not_the_words(model, alice, standin, caplog, capfd):
    caplog.set_level(logging.DEBUG)

    await ask_with_each_fault(alice, standin)

    told = capfd.readouterr()
    log = caplog.text + told.out + told.err
    # Some clients take the header that the others refuse.
    assert await Generation.objects.filter(status="finished").acount() <= 2
    assert await Generation.objects.acount() == 2 * len(FAULTS)
    assert all(
        word in log for word in ("ProviderRejected", "provider_rejected", "'status': 400", model.provider)
    )
    assert "Tweety" not in log
    assert "Tweety" not in log


async def test_with_the_setting_it_has_both(model, alice, standin, caplog, settings):
    settings.LOG_PROMPTS = True
    standin.choose = lambda body: FAULTS["at fault"]

    await post(alice, "/api/predict", {"prompt": PROMPT, "model": "m"})

    assert PROMPT in caplog.text
