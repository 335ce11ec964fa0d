"""`POST /v1/chat/completions`, as it is on the wire."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from accounts.watch import credential_watch
from conftest import bearer, sign_in_client
from inference import together
from inference.models import Generation, Status
from inference.providers import scripted
from inference.providers.base import ToolCallDelta, Usage
from inference.providers.scripted import Script
from inference.tests.v1.calling import CHAT, MESSAGES, ask, chunks_of, lines_of, post
from llmsite.core import errors

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def completion_of(answer):
    """The body, once OpenAI's own type has taken it without changing anything."""
    assert answer.status_code == 200, answer.content
    body = answer.json()
    ChatCompletion.model_validate(body, strict=True)
    for choice in body["choices"]:
        # Both may be null, and neither may be missing.
        assert choice["logprobs"] is None
        assert choice["message"]["refusal"] is None
    return body


async def valid_chunks_of(answer):
    chunks = await chunks_of(answer)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return chunks


async def test_a_whole_answer(alice, models):
    scripted.play(Script(pieces=("Hel", "lo"), usage=Usage(9, 2)))
    answer = await post(alice, CHAT, ask())

    body = completion_of(answer)
    row = await Generation.objects.select_related("message").aget()
    assert body["id"] == f"chatcmpl-{row.pk.hex}"
    assert body["object"] == "chat.completion"
    assert body["model"] == "scripted"
    assert body["choices"][0]["message"]["content"] == "Hello"
    assert body["usage"] == {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    assert (row.door, row.status, row.request_id) == ("openai", Status.FINISHED, answer["x-request-id"])


@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_stream_is_exactly_as_the_format_has_it(alice, models, include_usage):
    scripted.play(Script(pieces=("Hel", "lo"), usage=Usage(9, 2)))
    answer = await post(
        alice,
        CHAT,
        ask(stream=True, stream_options={"include_usage": include_usage, "include_obfuscation": False}),
    )
    chunks = await valid_chunks_of(answer)

    assert answer["Content-Type"] == "text/event-stream"
    assert answer["X-Accel-Buffering"] == "no"
    *told, last = chunks if include_usage else [*chunks, None]
    deltas = [chunk["choices"][0]["delta"] for chunk in told]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in told] == [None, None, None, "stop"]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    if include_usage:
        assert [chunk["usage"] for chunk in told] == [None] * 4
        assert last["choices"] == []
        assert last["usage"] == {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    else:
        assert not any("usage" in chunk for chunk in chunks)


async def test_each_block_of_a_stream_is_one_line_of_data(alice, models):
    scripted.play(Script(pieces=("one\n\ntwo\r\n", "data: [DONE]\n\n", "\u2028ñ")))
    blocks = await lines_of(await post(alice, CHAT, ask(stream=True)))

    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    told = [json.loads(block[6:]) for block in blocks[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in told)
    assert text == "one\n\ntwo\r\ndata: [DONE]\n\n\u2028ñ"


async def test_a_failure_in_mid_stream_is_the_last_thing_told(alice, models):
    scripted.play(Script(pieces=("Hel",), error=errors.UpstreamCut(provider="scripted")))
    *_, last = await lines_of(await post(alice, CHAT, ask(stream=True)))

    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "upstream_cut")
    assert (await Generation.objects.aget()).status == Status.CUT


async def test_a_failure_before_the_first_piece_is_a_status(alice, models):
    answer = await post(alice, CHAT, ask(model="unavailable", stream=True))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "provider_unavailable")


async def test_an_answer_that_breaks_off_is_none(alice, models):
    answer = await post(alice, CHAT, ask(model="cut"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_cut")


# --- Choices ---------------------------------------------------------------------------------------


async def test_each_choice_is_an_answer_of_its_own(alice, models):
    scripted.play(*(Script(pieces=(word,), usage=Usage(3, 1)) for word in ("One", "Two", "Three")))
    body = completion_of(await post(alice, CHAT, ask(n=3)))

    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in body["choices"]} == {"One", "Two", "Three"}
    assert body["usage"] == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    assert await Generation.objects.filter(status=Status.FINISHED).acount() == 3


async def test_of_choices_some_of_which_were_kept_body_and_headers_tell_the_same(alice, models):
    kept = await post(alice, CHAT, ask())
    scripted.play(Script(pieces=("Two",)))
    answer = await post(alice, CHAT, ask(n=2))

    assert completion_of(kept)["llmsite"]["cache"] is None
    body = completion_of(answer)
    assert body["choices"][0]["message"]["content"] == completion_of(kept)["choices"][0]["message"]["content"]
    assert (answer["x-llmsite-cache"], body["llmsite"]["cache"]) == ("miss", None)
    again = await post(alice, CHAT, ask(n=2))
    assert (again["x-llmsite-cache"], completion_of(again)["llmsite"]["cache"]) == ("hit-l1", "l1")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_choice_that_fails_early_ends_the_others(alice, models, stream):
    scripted.play(
        Script(pieces=("One",), hang=True),
        Script(pieces=(), error=errors.ProviderRejected(provider="scripted", status=400)),
        Script(pieces=("Three",), hang=True),
    )
    answer = await post(alice, CHAT, ask(n=3, stream=stream))

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "provider_rejected")
    assert not await Generation.objects.running().aexists()
    assert {call.outcome for call in scripted.calls} <= {"closed", "failed"}


async def test_a_choice_that_breaks_off_ends_the_others(alice, models):
    scripted.play(
        Script(pieces=("One",), hang=True),
        Script(pieces=("Two",), delay=0.05, error=errors.UpstreamCut(provider="scripted")),
    )
    blocks = await lines_of(await post(alice, CHAT, ask(n=2, stream=True)))

    assert json.loads(blocks[-1].removeprefix("data: "))["error"]["code"] == "upstream_cut"
    assert not await Generation.objects.running().aexists()
    assert {row.status async for row in Generation.objects.all()} == {Status.CUT, Status.STOPPED}


# --- What the model is asked -------------------------------------------------------------------------


async def test_turns_and_parameters_go_upstream(alice, models):
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": " two"}]},
        {"role": "assistant", "content": "Three"},
        {"role": "user", "content": "Four", "name": "Ana"},
    ]
    wanted = {"temperature": 0.5, "top_p": 0, "seed": 7, "presence_penalty": 1, "frequency_penalty": -1}
    answer = await post(
        alice,
        CHAT,
        ask(stop=["a", "b"], max_completion_tokens=5, max_tokens=9, **wanted) | {"messages": turns},
    )

    completion_of(answer)
    sent = scripted.calls[-1].request
    assert [(turn.role, turn.content) for turn in sent.messages] == [
        ("system", "Be brief."),
        ("user", "One two"),
        ("assistant", "Three"),
        ("user", "Four"),
    ]
    assert (sent.max_tokens, sent.stop, sent.temperature, sent.seed) == (5, ("a", "b"), 0.5, 7)
    assert (sent.top_p, sent.presence_penalty, sent.frequency_penalty) == (1e-6, 1.0, -1.0)


async def test_what_changes_no_answer_is_taken(alice, models):
    harmless = {
        "user": "u-1",
        "metadata": {"a": "b"},
        "store": True,
        "safety_identifier": "x",
        "prompt_cache_key": "y",
        "service_tier": "auto",
        "logprobs": False,
        "logit_bias": {},
        "modalities": ["text"],
        "reasoning_effort": None,
        "tools": [],
        "n": 1,
        "response_format": {"type": "text"},
    }
    completion_of(await post(alice, CHAT, ask(**harmless)))


async def test_a_form_of_answer_goes_upstream(alice, models):
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
    completion_of(await post(alice, CHAT, ask(response_format=form)))
    assert scripted.calls[-1].request.response_format == form


@pytest.mark.parametrize(
    ("shape", "field"),
    [({"tools": [TOOL]}, "tools"), ({"response_format": {"type": "json_object"}}, "response_format")],
)
async def test_a_form_that_the_model_does_not_have_is_refused(alice, models, shape, field):
    answer = await post(alice, CHAT, ask(model="echo", **shape))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", field)


async def test_a_call_of_a_tool(alice, models):
    calls = (ToolCallDelta(0, "call_1", "weather", "{}"),)
    scripted.play(Script(pieces=(), tool_calls=calls, finish_reason="tool_calls"))
    body = completion_of(await post(alice, CHAT, ask(tools=[TOOL], parallel_tool_calls=False)))

    message = body["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    ]
    assert body["choices"][0]["finish_reason"] == "tool_calls"


# --- Who asks ----------------------------------------------------------------------------------------


async def test_a_cookie_counts_for_nothing(alice, models):
    client = AsyncClient()
    await sync_to_async(sign_in_client)(client, alice)
    token = (await client.get("/api/auth/csrf")).json()["csrf_token"]
    headers = {"X-CSRFToken": token, "Origin": "http://testserver"}
    answer = await client.post(CHAT, ask(), content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert not scripted.calls


async def test_a_token_of_a_sign_in_counts(alice, models):
    client = AsyncClient()
    pair = await sync_to_async(sign_in_client)(client, alice)
    headers = {"Authorization": f"Bearer {pair.access}"}
    completion_of(await AsyncClient().post(CHAT, ask(), content_type="application/json", headers=headers))


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
async def test_a_key_for_other_things_is_refused_however_it_comes(alice, models, path, header):
    key = (await sync_to_async(bearer)(alice, scopes=["embed"]))["Authorization"]
    value = key if header == "Authorization" else key.removeprefix("Bearer ")
    answer = await AsyncClient().post(
        path, ask(max_tokens=5), content_type="application/json", headers={header: value}
    )
    counts = header == "Authorization" or path != CHAT
    assert answer.status_code == (403 if counts else 401)
    assert not scripted.calls


async def test_an_authorization_header_counts_alone(alice, models):
    good = (await sync_to_async(bearer)(alice))["Authorization"].removeprefix("Bearer ")
    headers = {"Authorization": "Bearer nonsense", "X-API-Key": good}
    answer = await AsyncClient().post(
        "/v1/messages", ask(max_tokens=5), content_type="application/json", headers=headers
    )
    assert answer.status_code == 401


async def test_a_stream_ends_with_its_key(alice, models, monkeypatch):
    monkeypatch.setattr("accounts.watch.CHECK_SECONDS", 0.05)
    scripted.play(Script(pieces=("One",), hang=True))
    answer = await post(alice, CHAT, ask(stream=True))
    reading = asyncio.ensure_future(lines_of(answer))
    await sync_to_async(lambda: alice.api_keys.revoke())()

    *_, last = await asyncio.wait_for(reading, 5)
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "invalid_api_key"
    assert (await Generation.objects.aget()).status == Status.STOPPED


async def test_a_stream_that_is_read_slowly_ends_with_its_key(alice, models, monkeypatch):
    monkeypatch.setattr("accounts.watch.CHECK_SECONDS", 0.05)
    scripted.play(Script(pieces=("One",), repeat=True))
    answer = await post(alice, CHAT, ask(stream=True))
    chunks = aiter(answer.streaming_content)
    await anext(chunks)
    await sync_to_async(lambda: alice.api_keys.revoke())()
    async with asyncio.timeout(5):
        while credential_watch._open:  # noqa: ASYNC110 - the watch tells nobody but the stream
            await asyncio.sleep(0.01)
        rest = [chunk async for chunk in chunks]

    assert json.loads(rest[-1].removeprefix(b"data: "))["error"]["code"] == "invalid_api_key"


# --- What keeps a connection open ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sign"), [(CHAT, ": keep-alive"), (MESSAGES, 'event: ping\ndata: {"type":"ping"}')]
)
async def test_a_silence_is_filled(alice, models, monkeypatch, path, sign):
    monkeypatch.setattr(together, "HEARTBEAT_SECONDS", 0.02)
    scripted.play(Script(pieces=("Hel", "lo"), delay=0.2))
    blocks = await lines_of(await post(alice, path, ask(stream=True, max_tokens=5)))
    assert blocks.count(sign) >= 2
