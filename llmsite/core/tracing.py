"""Traces by OpenTelemetry. Without OTEL_EXPORTER_OTLP_ENDPOINT nothing is imported for them, or done.

The names are of the conventions for generative AI, which are still in development: they stand here
and nowhere else. No span has a word of a prompt, an answer or a document, nor what a provider said of a
failure: errors are told by their codes.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings

import llmsite
from llmsite.core.errors import SiteError, describe

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

EXPORT_SECONDS = 5
"""How long an absent collector may hold up the end of a process."""

_tracer: "Tracer | None" = None


class Told:
    """A span that is open, as far as others fill it. This one stands for none."""

    def used(self, *, input_tokens: int, output_tokens: int | None = None) -> None: ...

    def finished(self, reason: str) -> None: ...

    def answered(self, route: str, status: int) -> None: ...


class _TellsSpan(Told):
    def __init__(self, span: "Span") -> None:
        self._span = span

    def used(self, *, input_tokens: int, output_tokens: int | None = None) -> None:
        self._span.set_attribute("gen_ai.usage.input_tokens", input_tokens)
        if output_tokens is not None:
            self._span.set_attribute("gen_ai.usage.output_tokens", output_tokens)

    def finished(self, reason: str) -> None:
        self._span.set_attribute("gen_ai.response.finish_reasons", [reason])

    def answered(self, route: str, status: int) -> None:
        method = self._span.name  # type: ignore[attr-defined]
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            _fail(self._span, str(status))


Opened = AbstractContextManager[Told]
_NONE: Opened = nullcontext(Told())

_REQUEST_PARAMETERS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
}


def server(method: str, traceparent: str | None) -> Opened:
    """A request that this process answers, until the answer begins; the header says of which trace it is."""
    if _tracer is None:
        return _NONE
    return _opened(method, "SERVER", {"http.request.method": method}, {"traceparent": traceparent or ""})


def chat(provider: str, base_url: str, request: Any) -> Opened:
    """One call to a model; `request` has the fields of `inference.providers.base.ChatRequest`."""
    if _tracer is None:
        return _NONE
    wanted = {name: getattr(request, field) for field, name in _REQUEST_PARAMETERS.items()}
    given = {name: value for name, value in wanted.items() if value is not None}
    # The stop strings have a name as well, but they are words of a user.
    return _gen_ai(
        "chat", request.model, provider, {"gen_ai.request.stream": True, **given, **_server(base_url)}
    )


def embeddings(model: str) -> Opened:
    """Texts that become vectors."""
    if _tracer is None:
        return _NONE
    return _gen_ai("embeddings", model, "local", _server(settings.MODEL_URL))


def retrieval(top_k: int) -> Opened:
    """A search in documents."""
    if _tracer is None:
        return _NONE
    values = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.top_k": top_k}
    return _opened("retrieval", "INTERNAL", values)


def headers() -> dict[str, str]:
    """What a request to another process of the site carries, so that its spans belong to the same trace."""
    if _tracer is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


def carry(context: Context) -> None:
    """Let what runs in `context` belong to the span that is open now."""
    if _tracer is None:
        return
    from opentelemetry.context import attach, get_current

    context.run(attach, get_current())


def set_up() -> None:
    """Send traces from here on, where the settings say where to."""
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    endpoint = f"{settings.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces"
    begin(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)))


def begin(processor: "SpanProcessor") -> None:
    """Give all spans to `processor` from here on."""
    global _tracer
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    named = {"service.name": "llmsite", "service.version": llmsite.__version__}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(processor)
    _tracer = provider.get_tracer("llmsite", llmsite.__version__)


def end() -> None:
    """No more spans."""
    global _tracer
    _tracer = None


def _gen_ai(operation: str, model: str, provider: str, values: Mapping[str, Any]) -> Opened:
    named = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
    }
    return _opened(f"{operation} {model}", "CLIENT", {**named, **values})


def _server(base_url: str) -> dict[str, Any]:
    parts = urlsplit(base_url)
    port = {"server.port": parts.port} if parts.port else {}
    return {"server.address": parts.hostname, **port} if parts.hostname else {}


@contextmanager
def _opened(
    name: str, kind: str, values: Mapping[str, Any], sent: Mapping[str, str] | None = None
) -> Iterator[Told]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    assert _tracer is not None
    parent = None if sent is None else TraceContextTextMapPropagator().extract(sent)
    opening = _tracer.start_as_current_span(
        name,
        context=parent,
        kind=SpanKind[kind],
        attributes=values,
        # What an exception says may repeat a prompt or a key.
        record_exception=False,
        set_status_on_exception=False,
    )
    with opening as span:
        try:
            yield _TellsSpan(span)
        except BaseException as error:
            _fail(span, describe(error).code if isinstance(error, SiteError) else type(error).__name__)
            raise


def _fail(span: "Span", what: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", what)
    span.set_status(StatusCode.ERROR)
