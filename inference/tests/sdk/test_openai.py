"""OpenAI's official SDK, of this major version and the one before, with only its address and key changed."""

import base64
from array import array

import pytest
from asgiref.sync import sync_to_async

from conftest import bearer
from embeddings import client as embedder
from inference import together
from inference.models import ChatModelConfig
from inference.openai_api import embeddings as door
from inference.providers import scripted
from inference.providers.base import ToolCallDelta
from inference.providers.scripted import Script
from llmsite.core import errors

CHAT = "chat.completions.create"
ASK = {"model": "scripted", "messages": [{"role": "user", "content": "Hello?"}]}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}},
}
CALLS = (
    ToolCallDelta(0, "call_1", "weather"),
    ToolCallDelta(0, arguments='{"city": '),
    ToolCallDelta(0, arguments='"Paris"}'),
    ToolCallDelta(1, "call_2", "weather", '{"city": "Lima"}'),
)


@pytest.fixture
async def key(alice, models):
    return await key_of(alice)


async def key_of(user, **limits):
    headers = await sync_to_async(bearer)(user, **limits)
    return headers["Authorization"].removeprefix("Bearer ")


def text_of(seen):
    return "".join(
        choice["delta"].get("content") or "" for item in seen["items"] for choice in item["choices"]
    )


async def test_a_whole_answer(sdk, key):
    scripted.play(Script(pieces=("Hel", "lo")))
    seen = await sdk.openai(CHAT, key, **ASK)

    assert seen["error"] is None
    [choice] = seen["result"]["choices"]
    assert choice["message"]["content"] == "Hello"
    assert choice["finish_reason"] == "stop"
    assert seen["request_id"] == seen["headers"]["x-request-id"]


async def test_a_stream_with_a_heartbeat(sdk, key, monkeypatch):
    """No `id:` line ever: with a comment between the chunks both majors would stumble over it."""
    monkeypatch.setattr(together, "HEARTBEAT_SECONDS", 0.02)
    scripted.play(Script(pieces=("Hel", "lo"), delay=0.1))
    seen = await sdk.openai(CHAT, key, how="stream", stream_options={"include_usage": True}, **ASK)

    assert seen["error"] is None
    assert text_of(seen) == "Hello"
    assert seen["items"][0]["choices"][0]["delta"]["role"] == "assistant"
    assert seen["items"][-1]["choices"] == []
    assert seen["items"][-1]["usage"]["total_tokens"] > 0
    assert len({item["id"] for item in seen["items"]}) == 1


@pytest.mark.parametrize("retries", [0, 2])
async def test_an_error_in_mid_stream_is_an_error(sdk, key, retries):
    """A stream that was merely cut would look like success to both majors."""
    scripted.play(Script(pieces=("Hel",), error=errors.UpstreamCut(provider="scripted")))
    seen = await sdk.openai(CHAT, key, how="stream", retries=retries, **ASK)

    assert text_of(seen) == "Hel"
    assert seen["error"]["class"] == "APIError"
    assert seen["error"]["code"] == "upstream_cut"
    assert seen["attempts"] == 1


async def test_an_early_failure_is_tried_again_after_the_wait_we_name(sdk, key):
    failing = Script(pieces=(), error=errors.ProviderRateLimited(provider="scripted", retry_after=30.0))
    scripted.play(failing)
    seen = await sdk.openai(CHAT, key, **ASK)
    assert seen["error"]["status_code"] == 503
    assert seen["headers"]["retry-after"] == "30"
    assert seen["headers"]["retry-after-ms"] == "30000"


async def test_a_rate_limit(sdk, alice, models):
    key = await key_of(alice, rate_limit="1/h")
    await sdk.openai("models.list", key)
    seen = await sdk.openai("models.list", key)

    assert seen["error"]["class"] == "RateLimitError"
    assert (seen["error"]["code"], seen["error"]["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    assert 3500 < int(seen["headers"]["retry-after"]) <= 3600
    assert int(seen["headers"]["retry-after-ms"]) > 3_500_000
    assert seen["headers"]["x-ratelimit-limit-requests"] == "1"
    assert seen["headers"]["x-ratelimit-remaining-requests"] == "0"


async def test_an_exhausted_budget_is_not_tried_again(sdk, alice, models):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(output_price=1_000)
    key = await key_of(alice, monthly_budget_micro=1)
    seen = await sdk.openai(CHAT, key, retries=2, **ASK)

    assert seen["error"]["class"] == "RateLimitError"
    assert (seen["error"]["code"], seen["error"]["type"]) == ("insufficient_quota", "insufficient_quota")
    assert seen["attempts"] == 1


async def test_what_the_provider_will_never_take_is_not_tried_again(sdk, key):
    scripted.play(Script(pieces=(), error=errors.ProviderRejected(provider="scripted", status=400)))
    seen = await sdk.openai(CHAT, key, retries=2, **ASK)

    assert (seen["error"]["status_code"], seen["error"]["code"]) == (502, "provider_rejected")
    assert seen["attempts"] == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "code", "param"),
    [
        ({"model": "nobody"}, "NotFoundError", "model_not_found", "model"),
        ({"temperature": 7}, "BadRequestError", "invalid_value", "temperature"),
        ({"logprobs": True}, "BadRequestError", "unsupported_parameter", "logprobs"),
        ({"extra_body": {"api_base": "http://evil"}}, "BadRequestError", "unknown_parameter", "api_base"),
        ({"n": 9}, "BadRequestError", "invalid_value", "n"),
    ],
)
async def test_errors_have_their_class_and_name_the_field(sdk, key, arguments, kind, code, param):
    seen = await sdk.openai(CHAT, key, retries=2, **{**ASK, **arguments})

    error = seen["error"]
    assert (error["class"], error["code"], error["param"]) == (kind, code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["request_id"] == seen["headers"]["x-request-id"]
    assert seen["attempts"] == 1


async def test_a_wrong_key(sdk, models):
    seen = await sdk.openai(CHAT, "llm_aaaaaaaa_nonsense", **ASK)
    assert (seen["error"]["class"], seen["error"]["code"]) == ("AuthenticationError", "invalid_api_key")


async def test_a_key_for_other_models(sdk, alice, models):
    seen = await sdk.openai(CHAT, await key_of(alice, allowed_models=["echo"]), **ASK)
    assert (seen["error"]["class"], seen["error"]["code"]) == ("PermissionDeniedError", "model_not_allowed")
    assert seen["error"]["type"] == "permission_error"


async def test_our_own_field_comes_in_a_normal_chunk(sdk, key):
    seen = await sdk.openai(CHAT, key, how="stream", **ASK)
    [last] = [item for item in seen["items"] if item["choices"][0]["finish_reason"]]
    assert last["llmsite"]["cost"] == "0"
    assert all(item["choices"] for item in seen["items"])


async def test_a_fresh_answer(sdk, key):
    await sdk.openai(CHAT, key, **ASK)
    kept = await sdk.openai(CHAT, key, **ASK)
    fresh = await sdk.openai(CHAT, key, extra_body={"use_cache": False}, **ASK)
    by_header = await sdk.openai(CHAT, key, extra_headers={"Cache-Control": "no-cache"}, **ASK)

    assert kept["headers"]["x-llmsite-cache"] == "hit-l1"
    assert fresh["headers"]["x-llmsite-cache"] == by_header["headers"]["x-llmsite-cache"] == "miss"
    assert len(scripted.calls) == 3


async def test_tools(sdk, key):
    scripted.play(Script(pieces=(), tool_calls=CALLS, finish_reason="tool_calls"))
    asked = await sdk.openai(CHAT, key, tools=[TOOL], tool_choice="auto", **ASK)

    [choice] = asked["result"]["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"]["arguments"] for call in choice["message"]["tool_calls"]] == [
        '{"city": "Paris"}',
        '{"city": "Lima"}',
    ]
    assert scripted.calls[-1].request.tools == (TOOL,)

    # What came back goes in again as it is, with what the tools said.
    said = [
        {"role": "tool", "tool_call_id": call["id"], "content": "Rain."}
        for call in choice["message"]["tool_calls"]
    ]
    turns = [*ASK["messages"], choice["message"], *said]
    answered = await sdk.openai(CHAT, key, model="scripted", messages=turns, tools=[TOOL])
    assert answered["error"] is None
    sent = scripted.calls[-1].request.messages
    assert [message.role for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [call.name for call in sent[1].tool_calls] == ["weather", "weather"]
    assert sent[3].tool_call_id == "call_2"


async def test_tools_in_a_stream(sdk, key):
    scripted.play(Script(pieces=("Well.",), tool_calls=CALLS, finish_reason="tool_calls"))
    seen = await sdk.openai(CHAT, key, how="stream", tools=[TOOL], **ASK)

    pieces = [
        call
        for item in seen["items"]
        for choice in item["choices"]
        for call in choice["delta"].get("tool_calls") or ()
    ]
    assert text_of(seen) == "Well."
    assert [piece["index"] for piece in pieces] == [0, 0, 0, 1]
    assert "".join(piece["function"]["arguments"] for piece in pieces[:3]) == '{"city": "Paris"}'
    assert pieces[3]["id"] == "call_2"


async def test_several_choices(sdk, key):
    scripted.play(Script(pieces=("One",)), Script(pieces=("Two",)), Script(pieces=("Three",)))
    seen = await sdk.openai(CHAT, key, how="stream", n=3, **ASK)

    texts = dict.fromkeys(range(3), "")
    for item in seen["items"]:
        for choice in item["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert sorted(texts.values()) == ["One", "Three", "Two"]


async def test_the_models(sdk, key):
    listed = await sdk.openai("models.list", key)
    assert {model["id"] for model in listed["result"]["data"]} >= {"scripted", "echo"}
    one = await sdk.openai("models.retrieve", key, model="scripted")
    assert one["result"]["owned_by"] == "scripted"
    none = await sdk.openai("models.retrieve", key, model="nobody")
    assert (none["error"]["class"], none["error"]["code"]) == ("NotFoundError", "model_not_found")


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
async def test_embeddings(sdk, key, monkeypatch, form):
    vectors = [array("f", [0.5, -0.25]), array("f", [1.0, 0.0])]

    async def embed(texts, *, kind):
        assert list(texts) == ["one", "two"]
        return embedder.Embeddings("all-MiniLM-L6-v2", 2, vectors, 7, 0)

    monkeypatch.setattr(door, "embed", embed)
    seen = await sdk.openai("embeddings.create", key, model="all-MiniLM-L6-v2", input=["one", "two"], **form)

    found = [row["embedding"] for row in seen["result"]["data"]]
    if form.get("encoding_format") == "base64":
        found = [list(array("f", base64.b64decode(row))) for row in found]
    assert found == [[0.5, -0.25], [1.0, 0.0]]
    assert seen["result"]["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
