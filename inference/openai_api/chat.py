"""`POST /v1/chat/completions`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.credentials import Credential, arequire_caller
from accounts.models import Scope
from inference.descriptions import ANSWER_HEADERS, ASKING
from inference.events import Finished, Started
from inference.openai_api.answers import DONE, HEARTBEAT, Frame, cost
from inference.openai_api.descriptions import CHAT_COMPLETION, CHAT_COMPLETION_REQUEST, TAG
from inference.openai_api.questions import FIELD_NAMES, ChatQuestion, read_question
from inference.replies import llmsite_headers
from inference.together import (
    BrokenOff,
    SideBySide,
    Told,
    naming_fields,
    stream_response,
    whole,
)
from llmsite.core.errors import told
from llmsite.core.outlet import Outlet
from llmsite.core.rest import envelope, json_door, json_response, read_json
from llmsite.core.schema import EVENT_STREAM, documented, events

CHUNKS = events(
    "With `stream`: chunks of the answer, then `[DONE]`. An error is told as a last chunk.", "data"
)


@documented(
    "Ask a model",
    tag=TAG,
    scope=Scope.CHAT,
    takes=CHAT_COMPLETION_REQUEST,
    example={"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "What is a fox?"}]},
    gives={200: CHAT_COMPLETION, (200, EVENT_STREAM): CHUNKS},
    fails=ASKING,
    headers=ANSWER_HEADERS,
)
@json_door("POST")
async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    """The answer, whole or in pieces. A client that leaves cancels it: nobody could come back for it."""
    credential = await arequire_caller(request, Scope.CHAT)
    cache_control = request.META.get("HTTP_CACHE_CONTROL")
    question = read_question(read_json(request), credential, cache_control=cache_control)
    with naming_fields(FIELD_NAMES):
        return await (_streamed if question.stream else _whole)(question, credential)


async def _whole(question: ChatQuestion, credential: Credential) -> HttpResponseBase:
    try:
        completions = await whole(question.asks, credential)
    except BrokenOff as broken:
        return envelope(told(broken.failed.code, broken.failed.message))
    ends = [completion.end for completion in completions if isinstance(completion.end, Finished)]
    started = [completion.started for completion in completions]
    headers = llmsite_headers(started, cost=cost(ends))
    return json_response(Frame(started[0]).completion(completions), headers=headers)


async def _streamed(question: ChatQuestion, credential: Credential) -> HttpResponseBase:
    answers = SideBySide(question.asks, credential)
    started = await answers.begin()
    outlet = Outlet()
    chunks = _chunks(answers, started, outlet, include_usage=question.include_usage)
    response = stream_response(chunks, answers, outlet)
    for name, value in llmsite_headers(started).items():
        response[name] = value
    return response


async def _chunks(
    answers: SideBySide, started: list[Started], outlet: Outlet, *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The events on the wire. Behind an error comes no [DONE], which would make it look like an end."""
    frame, ends = Frame(started[0]), []

    def write(told: Told) -> bytes:
        return frame.chunk(told.choice, told.event, usage_follows=include_usage)

    telling = answers.told(at_once=lambda told: outlet.write(write(told)))
    async with aclosing(answers), aclosing(telling):
        for choice, event in enumerate(started):
            yield frame.chunk(choice, event, usage_follows=include_usage)
        async for ready in telling:
            ends += [told.event for told in ready if isinstance(told.event, Finished)]
            yield b"".join(map(write, ready)) if ready else HEARTBEAT
    if len(ends) < len(started):
        return
    if include_usage:
        yield frame.usage_chunk(ends)
    yield DONE
