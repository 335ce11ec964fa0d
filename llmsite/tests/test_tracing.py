"""Traces: off without the setting, and with it the spans of a question, its calls and its searches."""

import json
import subprocess
import sys

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as site_settings
from django.test import AsyncClient
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from conftest import bearer
from embeddings.search import search
from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.indexes.library import add_document, make_collection
from embeddings.tests.serving import serving
from inference import fallback
from inference.circuits import circuits
from inference.models import ChatModelConfig
from inference.tests.doors import post
from inference.tests.engine.fakes import ScriptedRunner, saying
from inference.tests.engine.serving import scripted_model
from inference.tests.standin import Answer
from inference.tests.waiting import until
from llmsite.core import tracing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

CANARY = "sk-canary-0123456789abcdef"
PROMPT = "My canary is called Tweety"
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Spans:
    def __init__(self, exporter):
        self._exporter = exporter

    def __iter__(self):
        return iter(self._exporter.get_finished_spans())

    def named(self, name):
        return [span for span in self if span.name == name]

    def text(self):
        return "\n".join(span.to_json() for span in self)


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    tracing.begin(SimpleSpanProcessor(exporter))
    yield Spans(exporter)
    tracing.end()


def without_tracing(program):
    """What a process says that has no setting for traces."""
    code = f"import json, sys\n{program}\nprint(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=site_settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    return json.loads(ended.stdout.splitlines()[-1])


def test_without_the_setting_nothing_of_it_is_there():
    modules = without_tracing("import llmsite.asgi")

    assert "llmsite.core.tracing" in modules
    assert not [
        name for name in modules if name.startswith(("opentelemetry.exporter", "opentelemetry.sdk.trace"))
    ]
    assert tracing.server("GET", None) is tracing.chat("p", "", None) is tracing.retrieval(5)
    assert tracing.headers() == {}


def test_with_the_setting_spans_go_there(settings, monkeypatch):
    settings.OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:9"
    begun = []
    monkeypatch.setattr(tracing, "begin", begun.append)
    tracing.set_up()

    [processor] = begun
    assert processor.span_exporter._endpoint == "http://127.0.0.1:9/v1/traces"
    processor.shutdown()


async def test_a_question_is_a_request_and_a_call(alice, models, spans):
    given = {"prompt": PROMPT, "model": "scripted", "max_tokens": 40, "temperature": 0.5, "stop": ["END"]}
    headers = await sync_to_async(bearer)(alice)
    answer = await AsyncClient().post(
        "/api/predict",
        given,
        content_type="application/json",
        headers={**headers, "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
    )

    [request], [call] = spans.named("POST /api/predict"), spans.named("chat scripted")
    assert request.kind is SpanKind.SERVER
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/api/predict",
        "http.response.status_code": 200,
    }
    usage = answer.json()["usage"]
    assert call.kind is SpanKind.CLIENT
    assert dict(call.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 40,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": usage["input_tokens"],
        "gen_ai.usage.output_tokens": usage["output_tokens"],
    }
    assert call.parent.span_id == request.context.span_id
    assert f"{request.context.trace_id:032x}" == TRACE
    assert "Tweety" not in spans.text()
    assert "END" not in spans.text()


async def test_an_answer_from_the_cache_calls_nobody(alice, models, spans):
    for _ in range(2):
        await post(alice, "/api/predict", {"prompt": PROMPT, "model": "scripted"})

    assert len(spans.named("chat scripted")) == 1
    assert len(spans.named("POST /api/predict")) == 2


async def test_each_failure_is_told_by_its_code_alone(alice, models, spans):
    await models["unavailable"].chain.acreate(fallback=models["echo"])
    answer = await post(alice, "/api/predict", {"prompt": PROMPT, "model": "unavailable"})

    assert answer.status_code == 200
    failed, [answered] = spans.named("chat unavailable"), spans.named("chat echo")
    assert len(failed) == fallback.RETRIES + 1
    for span in failed:
        assert span.attributes["error.type"] == "provider_unavailable"
        assert span.status.status_code is StatusCode.ERROR
        assert not span.status.description
        assert not span.events
    assert "error.type" not in answered.attributes


async def test_no_key_and_no_word_of_a_provider_is_in_a_span(alice, standin, settings, spans, monkeypatch):
    settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL = CANARY, f"{standin.url}/v1"
    monkeypatch.setattr(fallback, "FIRST_WAIT_SECONDS", 0.01)
    await ChatModelConfig.objects.all().adelete()
    await ChatModelConfig.objects.acreate(alias="m", provider="openai", provider_model="m", is_default=True)
    says = {"error": {"message": f"{CANARY} may not ask: {PROMPT}"}}
    for answer in (Answer(status=401, body=says), Answer(status=429, body=says), Answer(raw=PROMPT.encode())):
        standin.choose = lambda body, answer=answer: answer
        circuits.forget()
        await post(alice, "/api/predict", {"prompt": PROMPT, "model": "m"})

    assert {span.attributes["error.type"] for span in spans.named("chat m")} >= {"provider_rejected"}
    assert CANARY not in spans.text()
    assert "Tweety" not in spans.text()
    metrics = (await AsyncClient().get("/metrics")).content.decode()
    assert CANARY not in metrics


async def test_the_model_process_goes_on_with_the_trace(alice, settings, spans):
    model = scripted_model(ScriptedRunner(saying("Hi.")))
    with serving(lambda: ScriptedEncoder(), model=model) as served:
        settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
        await ChatModelConfig.objects.all().adelete()
        await ChatModelConfig.objects.acreate(
            alias="local", provider="local", provider_model="scripted", is_default=True
        )
        answer = await post(alice, "/api/predict", {"prompt": "Hello"})
        assert answer.status_code == 200, answer.content
        await post(alice, "/api/embed", {"input": "A fox"})
        # The served end of a call is told a moment after its answer has come.
        await until(lambda: spans.named("POST /v1/chat/completions"))

    [call], [served_call] = spans.named("chat scripted"), spans.named("POST /v1/chat/completions")
    assert served_call.parent.span_id == call.context.span_id
    assert served_call.context.trace_id == call.context.trace_id
    [embedded] = spans.named(f"embeddings {settings.EMBEDDING_MODEL}")
    assert embedded.attributes["gen_ai.usage.input_tokens"] > 0
    assert embedded.attributes["server.address"] == "127.0.0.1"


async def test_a_search_has_no_words_in_its_span(alice, settings, spans):
    def library():
        collection = make_collection(alice)
        add_document(collection, "Tweety is a canary")
        return collection

    await sync_to_async(library)()
    with serving(lambda: ScriptedEncoder()) as served:
        settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
        found = await search(alice, "Tweety", top_k=3, mode="lexical")

    assert found.passages
    [span] = spans.named("retrieval")
    assert dict(span.attributes) == {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.top_k": 3}
    assert "Tweety" not in spans.text()
