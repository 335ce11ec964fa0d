"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from accounts.credentials import Credential, arequire_caller
from accounts.models import Scope
from inference.anthropic_api.answers import MessageWriter, message, ping
from inference.anthropic_api.descriptions import (
    COUNT_TOKENS_REQUEST,
    MESSAGE,
    MESSAGES_REQUEST,
    TAG,
    TOKENS,
)
from inference.anthropic_api.questions import (
    FIELD_NAMES,
    MessagesQuestion,
    Prompt,
    read_prompt,
    read_question,
)
from inference.catalogue import catalogue
from inference.context import shape_tokens
from inference.descriptions import ANSWER_HEADERS, ASKING
from inference.events import Finished, Started
from inference.providers.base import BYTES_PER_TOKEN, ChatMessage
from inference.question import provider_of
from inference.replies import llmsite_headers
from inference.together import (
    BrokenOff,
    SideBySide,
    naming_fields,
    stream_response,
    whole,
)
from llmsite.core.errors import ModelNotAllowed, told
from llmsite.core.outlet import Outlet
from llmsite.core.rest import envelope, json_door, json_response, read_json
from llmsite.core.schema import EVENT_STREAM, documented, events

EVENTS = events("With `stream`: `message_start` to `message_stop`, or `error`.", "event", "data")
PROMPT = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "What is a fox?"}]}


@documented(
    "Ask a model",
    tag=TAG,
    scope=Scope.CHAT,
    takes=MESSAGES_REQUEST,
    example={**PROMPT, "max_tokens": 100},
    gives={200: MESSAGE, (200, EVENT_STREAM): EVENTS},
    fails=ASKING,
    headers=ANSWER_HEADERS,
)
@json_door("POST")
async def create_message(request: HttpRequest) -> HttpResponseBase:
    """The answer, whole or as named events. A client that leaves cancels it."""
    credential = await arequire_caller(request, Scope.CHAT)
    cache_control = request.META.get("HTTP_CACHE_CONTROL")
    question = read_question(read_json(request), credential, cache_control=cache_control)
    with naming_fields(FIELD_NAMES):
        return await (_streamed if question.stream else _whole)(question, credential)


async def _whole(question: MessagesQuestion, credential: Credential) -> HttpResponseBase:
    try:
        [completion] = await whole([question.ask], credential)
    except BrokenOff as broken:
        return envelope(told(broken.failed.code, broken.failed.message))
    end = completion.end
    assert isinstance(end, Finished)
    headers = llmsite_headers([completion.started], cost=end.cost)
    return json_response(message(completion, end), headers=headers)


async def _streamed(question: MessagesQuestion, credential: Credential) -> HttpResponseBase:
    answers = SideBySide([question.ask], credential)
    [started] = await answers.begin()
    outlet = Outlet()
    response = stream_response(_chunks(answers, started, outlet), answers, outlet)
    for name, value in llmsite_headers([started]).items():
        response[name] = value
    return response


async def _chunks(answers: SideBySide, started: Started, outlet: Outlet) -> AsyncGenerator[bytes, None]:
    writer = MessageWriter(started)
    telling = answers.told(at_once=lambda told: writer.is_in_text and outlet.write(writer.write(told.event)))
    async with aclosing(answers), aclosing(telling):
        yield writer.begin()
        async for ready in telling:
            yield b"".join(writer.write(told.event) for told in ready) if ready else ping()


@documented(
    "Count the tokens of a prompt",
    tag=TAG,
    scope=Scope.CHAT,
    takes=COUNT_TOKENS_REQUEST,
    example=PROMPT,
    gives=TOKENS,
    fails=ASKING,
)
@json_door("POST")
async def count_tokens(request: HttpRequest) -> HttpResponseBase:
    """How many tokens the prompt takes, as the model's provider counts or estimates them."""
    credential = await arequire_caller(request, Scope.CHAT)
    prompt = read_prompt(read_json(request))
    return JsonResponse({"input_tokens": await _count(prompt, credential)})


async def _count(prompt: Prompt, credential: Credential) -> int:
    model = (await catalogue.current()).named(prompt.model)
    if credential.api_key is not None and not credential.api_key.allows_model(model.alias):
        raise ModelNotAllowed(model=model.alias)
    provider = await provider_of(model)
    # As it is asked: without a system prompt of the caller's the model's own one is sent.
    words = model.system_prompt if prompt.system is None else prompt.system
    system = [ChatMessage("system", words)] if words else []
    counts = await provider.count_tokens(model.upstream_model, [*system, *prompt.messages])
    return sum(counts) + shape_tokens(prompt.shape.given()) // BYTES_PER_TOKEN
