"""Anthropic's official SDK, of this major version and the one before: only address and key are changed."""

import pytest
from asgiref.sync import sync_to_async

from conftest import bearer
from inference import together
from inference.models import ChatModelConfig
from inference.providers import scripted
from inference.providers.base import ToolCallDelta
from inference.providers.scripted import Script
from llmsite.core import errors

CREATE, STREAM = "messages.create", "messages.stream"
ASK = {"model": "scripted", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello?"}]}
TOOL = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}
CALLS = (
    ToolCallDelta(0, "call_1", "weather"),
    ToolCallDelta(0, arguments='{"city": '),
    ToolCallDelta(0, arguments='"Paris"}'),
    ToolCallDelta(1, "call_2", "weather", '{"city": "Lima"}'),
)
INPUTS = [{"city": "Paris"}, {"city": "Lima"}]


@pytest.fixture
async def key(alice, models):
    return await key_of(alice)


async def key_of(user, **limits):
    headers = await sync_to_async(bearer)(user, **limits)
    return headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("how", ["whole", "message"])
async def test_an_answer(sdk, key, how):
    scripted.play(Script(pieces=("Hel", "lo")))
    seen = await sdk.anthropic(CREATE if how == "whole" else STREAM, key, how=how, system="Be brief.", **ASK)

    assert seen["error"] is None
    message = seen["result"]
    assert [block["text"] for block in message["content"]] == ["Hello"]
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["input_tokens"] == 3
    assert message["usage"]["output_tokens"] == 2
    assert seen["headers"]["request-id"] == seen["headers"]["x-request-id"]
    assert scripted.calls[-1].request.messages[0].content == "Be brief."


async def test_a_stream_with_pings(sdk, key, monkeypatch):
    monkeypatch.setattr(together, "HEARTBEAT_SECONDS", 0.02)
    scripted.play(Script(pieces=("Hel", "lo"), delay=0.1))
    seen = await sdk.anthropic(CREATE, key, how="stream", **ASK)

    assert seen["error"] is None
    kinds = [item["type"] for item in seen["items"] if item["type"] != "ping"]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize("how", ["whole", "message"])
async def test_tools(sdk, key, how):
    scripted.play(Script(pieces=("Well.",), tool_calls=CALLS, finish_reason="tool_calls"))
    method = CREATE if how == "whole" else STREAM
    asked = await sdk.anthropic(method, key, how=how, tools=[TOOL], tool_choice={"type": "any"}, **ASK)

    assert asked["error"] is None
    text, *calls = asked["result"]["content"]
    assert text["text"] == "Well."
    assert [call["input"] for call in calls] == INPUTS
    assert asked["result"]["stop_reason"] == "tool_use"
    request = scripted.calls[-1].request
    assert request.tools[0]["function"]["name"] == "weather"
    assert request.tool_choice == "required"

    blocks = [{key: block[key] for key in block if key != "caller"} for block in asked["result"]["content"]]
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "Rain."}]}
        for call in calls
    ]
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": [*results, {"type": "text", "text": "So?"}]},
    ]
    answered = await sdk.anthropic(CREATE, key, **{**ASK, "messages": turns}, tools=[TOOL])
    assert answered["error"] is None
    sent = scripted.calls[-1].request.messages
    assert [message.role for message in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert [message.tool_call_id for message in sent[2:4]] == ["call_1", "call_2"]
    assert sent[4].content == "So?"


async def test_an_error_in_mid_stream_is_an_error(sdk, key):
    scripted.play(Script(pieces=("Hel",), error=errors.UpstreamCut(provider="scripted")))
    seen = await sdk.anthropic(CREATE, key, how="stream", retries=2, **ASK)

    assert [item["type"] for item in seen["items"]][-1] == "content_block_delta"
    assert seen["error"]["body"]["error"]["type"] == "api_error"
    assert seen["attempts"] == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "field"),
    [
        ({"model": "nobody"}, "NotFoundError", "model"),
        ({"extra_body": {"temperature": 7}}, "BadRequestError", "temperature"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "BadRequestError", "thinking"),
        ({"extra_body": {"top_k": 3}}, "BadRequestError", "top_k"),
        ({"extra_body": {"api_base": "http://evil"}}, "BadRequestError", "api_base"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}
                        ],
                    }
                ]
            },
            "BadRequestError",
            "messages[0].content[0].type",
        ),
    ],
)
async def test_errors_have_their_class_and_name_the_field(sdk, key, arguments, kind, field):
    seen = await sdk.anthropic(CREATE, key, retries=2, **{**ASK, **arguments})

    error = seen["error"]
    assert error["class"] == kind
    assert error["body"]["type"] == "error"
    assert error["body"]["error"]["message"].startswith(f"{field}: ")
    assert error["body"]["request_id"] == seen["headers"]["request-id"]
    assert seen["attempts"] == 1


async def test_a_wrong_key(sdk, models):
    seen = await sdk.anthropic(CREATE, "llm_aaaaaaaa_nonsense", **ASK)
    assert seen["error"]["class"] == "AuthenticationError"
    assert seen["error"]["body"]["error"]["type"] == "authentication_error"


async def test_an_exhausted_budget_is_not_tried_again(sdk, alice, models):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(output_price=1_000)
    key = await key_of(alice, monthly_budget_micro=1)
    seen = await sdk.anthropic(CREATE, key, retries=2, **ASK)

    assert seen["error"]["status_code"] == 429
    assert seen["error"]["body"]["error"]["type"] == "billing_error"
    assert seen["attempts"] == 1


async def test_tokens_are_counted(sdk, key):
    ask = {name: ASK[name] for name in ("model", "messages")}
    seen = await sdk.anthropic("messages.count_tokens", key, system="Be brief.", **ask)
    assert seen["result"]["input_tokens"] == 3
    assert not scripted.calls


async def test_the_models_are_listed(sdk, key):
    seen = await sdk.anthropic("models.list", key)
    assert seen["error"] is None
    listed = {model["id"]: model for model in seen["result"]["data"]}
    assert listed["scripted"]["type"] == "model"
    assert listed["scripted"]["display_name"]
    one = await sdk.anthropic("models.retrieve", key, model_id="scripted")
    assert one["result"] == listed["scripted"]


async def test_a_tool_that_failed(sdk, key):
    blocks = [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}]
    failed = {"type": "tool_result", "tool_use_id": "call_1", "content": "No such city.", "is_error": True}
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": [failed]},
    ]
    seen = await sdk.anthropic(CREATE, key, **{**ASK, "messages": turns}, tools=[TOOL])
    assert seen["error"] is None
    sent = scripted.calls[-1].request.messages[-1]
    assert (sent.role, sent.content, sent.is_error) == ("tool", "No such city.", True)


async def test_the_models_own_system_prompt_is_counted(sdk, key):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(system_prompt="One two three four.")
    ask = {name: ASK[name] for name in ("model", "messages")}
    counts = [
        (await sdk.anthropic("messages.count_tokens", key, **more, **ask))["result"]["input_tokens"]
        for more in ({}, {"system": "Be brief."}, {"system": ""})
    ]
    assert counts == [5, 3, 1]
