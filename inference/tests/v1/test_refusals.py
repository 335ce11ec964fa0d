"""What the doors below `/v1/` refuse: each status in the vendor's form, with the field, and nothing done."""

import json

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from conftest import bearer
from inference.models import Generation, Message
from inference.openai_api import models as models_door
from inference.providers import scripted
from inference.tests.v1.calling import CHAT, MESSAGES, ask, post
from llmsite.core.errors import TABLE
from llmsite.core.rates import Rate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

COUNT = f"{MESSAGES}/count_tokens"


def openai_error(answer):
    """The error, once the answer is all that OpenAI's clients read of one."""
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["message"]
    assert answer["x-request-id"]
    assert answer["openai-version"]
    assert int(answer["openai-processing-ms"]) >= 0
    assert "Location" not in answer.headers
    return body["error"]


def anthropic_error(answer):
    body = answer.json()
    assert list(body) == ["type", "error", "request_id"]
    assert body["type"] == "error"
    assert body["request_id"] == answer["request-id"]
    assert body["error"]["message"]
    return body["error"]


# --- Every status ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat/completions/", "/v1/models/", "/v1/", "/v1/chat"])
@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_an_unknown_address(path, verb):
    answer = await AsyncClient().generic(verb, path, b"{}", content_type="application/json")
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"]) == (404, "invalid_request_error", "not_found")


@pytest.mark.parametrize("path", ["/v1/messages/", "/v1/messages/x"])
async def test_an_unknown_address_of_anthropics(path):
    answer = await AsyncClient().post(path, {}, content_type="application/json")
    assert (answer.status_code, anthropic_error(answer)["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("verb", ["GET", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_method_it_does_not_take(verb, path, alice):
    headers = await sync_to_async(bearer)(alice)
    answer = await AsyncClient().generic(verb, path, headers=headers)
    error = openai_error(answer) if path == CHAT else anthropic_error(answer)
    assert (answer.status_code, error["type"]) == (405, "invalid_request_error")


async def test_another_kind_of_body(alice):
    for path, read in ((CHAT, openai_error), (MESSAGES, anthropic_error)):
        headers = {**await sync_to_async(bearer)(alice), "Content-Type": "text/plain"}
        answer = await AsyncClient().post(path, "x", content_type="text/plain", headers=headers)
        assert (answer.status_code, read(answer)["type"]) == (415, "invalid_request_error")


async def test_a_body_that_is_too_large(alice, models):
    body = json.dumps(ask("x" * 3_000_000)).encode()
    answer = await post(alice, CHAT, body)
    assert (answer.status_code, openai_error(answer)["code"]) == (413, "request_too_large")
    answer = await post(alice, MESSAGES, body)
    assert (answer.status_code, anthropic_error(answer)["type"]) == (413, "request_too_large")


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Basic YTpi", "Bearer llm_aaaaaaaa_x"])
async def test_nobody(header, db):
    headers = {"Authorization": header} if header else {}
    answer = await AsyncClient().post(CHAT, ask(), content_type="application/json", headers=headers)
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"]) == (
        401,
        "invalid_request_error",
        "invalid_api_key",
    )
    answer = await AsyncClient().post(MESSAGES, ask(), content_type="application/json", headers=headers)
    assert (answer.status_code, anthropic_error(answer)["type"]) == (401, "authentication_error")


async def test_a_key_in_the_address(alice):
    key = (await sync_to_async(bearer)(alice))["Authorization"].removeprefix("Bearer ")
    answer = await AsyncClient().post(f"{CHAT}?api_key={key}", ask(), content_type="application/json")
    assert (answer.status_code, openai_error(answer)["code"]) == (400, "invalid_value")
    assert key not in answer.content.decode()


async def test_the_gate_speaks_the_dialect_of_the_address(alice, settings):
    settings.RATE_LIMIT_ADDRESS = Rate.parse("1/h")
    await AsyncClient().get("/v1/models")
    answer = await AsyncClient().get("/v1/models")
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"]) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    assert answer["x-ratelimit-limit-requests"] == "1"
    assert answer["x-ratelimit-remaining-requests"] == "0"
    assert answer["x-ratelimit-reset-requests"].endswith("s")
    assert int(answer["retry-after-ms"]) > int(answer["Retry-After"]) * 1000 - 1001
    answer = await AsyncClient().post(MESSAGES, {}, content_type="application/json")
    assert anthropic_error(answer)["type"] == "rate_limit_error"
    assert answer["anthropic-ratelimit-requests-remaining"] == "0"


async def test_a_fault_of_ours(alice, monkeypatch):
    async def fail(request):
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(models_door, "_models", fail)
    headers = await sync_to_async(bearer)(alice)
    answer = await AsyncClient(raise_request_exception=False).get("/v1/models", headers=headers)
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"]) == (500, "server_error", "internal_error")
    assert "secret" not in answer.content.decode()


async def test_plain_http_in_production_is_no_redirect(alice, settings):
    settings.SECURE_SSL_REDIRECT = True
    answer = await AsyncClient().post(CHAT, ask(), content_type="application/json")
    assert answer.status_code == 400
    assert "https" in openai_error(answer)["message"]


def test_no_error_of_the_site_can_make_a_client_repeat_a_conflict():
    """The SDKs repeat a 409; those of our errors that have this status belong to other doors."""
    conflicts = {kind.__name__ for kind, row in TABLE.items() if row.status == 409}
    assert conflicts <= {"LastAdministrator", "IdempotencyConflict", "IdempotencyRunning"}


# --- Fields ------------------------------------------------------------------------------------------

DEEP = b"[" * 200 + b"]" * 200
USER = '{"role": "user", "content": "Hi"}'


def with_messages(messages: str) -> bytes:
    return b'{"model": "scripted", "messages": ' + messages.encode() + b"}"


TUNE = ', "tune": 1'


def called(*, more: str = "", in_function: str = "") -> bytes:
    """A question behind a turn that calls a function."""
    function = f'{{"name": "f", "arguments": "{{}}"{in_function}}}'
    call = f'{{"id": "1", "type": "function", "index": 0, "function": {function}{more}}}'
    return with_messages(f'[{{"role": "assistant", "content": null, "tool_calls": [{call}]}}, {USER}]')


def with_fields(fields: str) -> bytes:
    return b'{"model": "scripted", "messages": [' + USER.encode() + b"], " + fields.encode() + b"}"


VALUE, PARAMETER, UNKNOWN = "invalid_value", "unsupported_parameter", "unknown_parameter"

BAD = [
    (b"not json", VALUE, None),
    (b"[" * 100_000, VALUE, None),
    (b"[]", VALUE, None),
    (b"null", VALUE, None),
    (b'{"model": "scripted"}', VALUE, "messages"),
    (b'{"messages": [' + USER.encode() + b"]}", VALUE, "model"),
    (b'{"model": 7, "messages": [' + USER.encode() + b"]}", VALUE, "model"),
    (with_messages("[]"), VALUE, "messages"),
    (with_messages("{}"), VALUE, "messages"),
    (with_messages('"Hi"'), VALUE, "messages"),
    (with_messages("[7]"), VALUE, "messages[0]"),
    (with_messages('[{"content": "Hi"}]'), VALUE, "messages[0].role"),
    (with_messages('[{"role": "alien", "content": "Hi"}]'), VALUE, "messages[0].role"),
    (with_messages('[{"role": "user"}]'), VALUE, "messages[0].content"),
    (with_messages('[{"role": "user", "content": 7}]'), VALUE, "messages[0].content"),
    (with_messages('[{"role": "user", "content": " \\n"}]'), VALUE, "messages[0].content"),
    (with_messages('[{"role": "user", "content": []}]'), VALUE, "messages[0].content"),
    (with_messages('[{"role": "user", "content": "a\\u0000b"}]'), VALUE, "messages[0].content"),
    (with_messages('[{"role": "user", "content": "\\ud800"}]'), VALUE, "messages[0].content"),
    (
        with_messages('[{"role": "user", "content": [{"type": "text"}]}]'),
        VALUE,
        "messages[0].content[0].text",
    ),
    (
        with_messages('[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]'),
        PARAMETER,
        "messages[0].content[0].type",
    ),
    (
        with_messages('[{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]'),
        PARAMETER,
        "messages[0].content[0].type",
    ),
    (with_messages('[{"role": "tool", "content": "Rain."}]'), VALUE, "messages[0].tool_call_id"),
    (with_messages('[{"role": "user", "content": "Hi", "cards": 1}]'), UNKNOWN, "messages[0].cards"),
    (
        with_messages('[{"role": "user", "content": "Hi", "tool_calls": [{"id": "x"}]}]'),
        PARAMETER,
        "messages[0].tool_calls",
    ),
    (
        with_messages('[{"role": "assistant", "content": null, "tool_calls": [{"id": "x"}]}]'),
        VALUE,
        "messages[0].tool_calls[0].type",
    ),
    (with_fields('"temperature": "hot"'), VALUE, "temperature"),
    (with_fields('"temperature": true'), VALUE, "temperature"),
    (with_fields('"temperature": 1' + "0" * 400), VALUE, "temperature"),
    (with_fields('"temperature": NaN'), VALUE, None),
    (with_fields('"top_p": 1.5'), VALUE, "top_p"),
    (with_fields('"max_tokens": 0'), VALUE, "max_tokens"),
    (with_fields('"max_tokens": 9' + "9" * 30), VALUE, "max_tokens"),
    (with_fields('"max_completion_tokens": 1.5'), VALUE, "max_completion_tokens"),
    (with_fields('"n": 0'), VALUE, "n"),
    (with_fields('"n": 9'), VALUE, "n"),
    (with_fields('"n": true'), VALUE, "n"),
    (with_fields('"stop": [""]'), VALUE, "stop"),
    (with_fields('"stop": [1]'), VALUE, "stop"),
    (with_fields('"stop": ["a","b","c","d","e","f","g","h","i"]'), VALUE, "stop"),
    (with_fields('"seed": "x"'), VALUE, "seed"),
    (with_fields('"seed": 1' + "0" * 30), VALUE, "seed"),
    (with_fields('"stream": "yes"'), VALUE, "stream"),
    (with_fields('"stream_options": []'), VALUE, "stream_options"),
    (with_fields('"stream_options": {"x": 1}'), UNKNOWN, "stream_options.x"),
    (with_fields('"presence_penalty": 3'), VALUE, "presence_penalty"),
    (with_fields('"use_cache": 1'), VALUE, "use_cache"),
    (with_fields('"logprobs": true'), PARAMETER, "logprobs"),
    (with_fields('"logit_bias": {"1": 5}'), PARAMETER, "logit_bias"),
    (with_fields('"modalities": ["audio"]'), PARAMETER, "modalities"),
    (with_fields('"reasoning_effort": "high"'), PARAMETER, "reasoning_effort"),
    (with_fields('"functions": []'), PARAMETER, "functions"),
    (with_fields('"collection": "docs"'), PARAMETER, "collection"),
    (with_fields('"api_base": "http://evil"'), UNKNOWN, "api_base"),
    (with_fields('"base_url": "http://evil"'), UNKNOWN, "base_url"),
    (with_fields('"api_key": "sk-x"'), UNKNOWN, "api_key"),
    (with_fields('"extra_headers": {"X": "y"}'), UNKNOWN, "extra_headers"),
    (with_fields('"ü\\u0000\\ud800": null'), UNKNOWN, "???"),
    (with_fields('"prompt": "x"'), UNKNOWN, "prompt"),
    (
        with_messages('[{"role": "user", "content": [{"type": "text", "text": "Hi", "tune": 1}]}]'),
        UNKNOWN,
        "messages[0].content[0].tune",
    ),
    (called(more=TUNE), UNKNOWN, "messages[0].tool_calls[0].tune"),
    (called(in_function=TUNE), UNKNOWN, "messages[0].tool_calls[0].function.tune"),
    (
        with_fields(
            '"tools": [{"type": "function", "function": {"name": "a"}}], '
            '"tool_choice": {"type": "function", "function": {"name": "a", "tune": 1}}'
        ),
        UNKNOWN,
        "tool_choice.function.tune",
    ),
    (with_fields('"tools": {}'), VALUE, "tools"),
    (with_fields('"tools": [{"type": "web_search"}]'), PARAMETER, "tools[0].type"),
    (with_fields('"tools": [{"type": "function"}]'), VALUE, "tools[0].function"),
    (
        with_fields('"tools": [{"type": "function", "function": {"name": "a b"}}]'),
        VALUE,
        "tools[0].function.name",
    ),
    (
        with_fields('"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]'),
        VALUE,
        "tools[0].function.parameters",
    ),
    (
        with_fields(
            '"tools": [{"type": "function", "function": {"name": "a", "parameters": {"x": '
            + DEEP.decode()
            + "}}}]"
        ),
        VALUE,
        "tools[0].function.parameters",
    ),
    (
        with_fields(
            '"tools": [{"type": "function", "function": {"name": "a", "parameters": {"\\ud800": 1}}}]'
        ),
        VALUE,
        "tools[0].function.parameters",
    ),
    (with_fields('"tool_choice": "auto"'), VALUE, "tool_choice"),
    (with_fields('"parallel_tool_calls": true'), VALUE, "parallel_tool_calls"),
    (
        with_fields(
            '"tools": [{"type": "function", "function": {"name": "a"}}], '
            '"tool_choice": {"type": "function", "function": {"name": "b"}}'
        ),
        VALUE,
        "tool_choice",
    ),
    (with_fields('"response_format": {"type": "xml"}'), VALUE, "response_format.type"),
    (with_fields('"response_format": {"type": "json_schema"}'), VALUE, "response_format.json_schema"),
]


@pytest.mark.parametrize(("body", "code", "param"), BAD, ids=[str(at) for at in range(len(BAD))])
async def test_a_bad_question_is_refused_by_its_field(alice, models, body, code, param):
    answer = await post(alice, CHAT, body)

    error = openai_error(answer)
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert not scripted.calls
    assert not await Message.objects.aexists()


BAD_MESSAGES = [
    ({"max_tokens": None}, "max_tokens: "),
    ({"max_tokens": 0}, "max_tokens: "),
    ({"messages": []}, "messages: "),
    ({"messages": [{"role": "system", "content": "Hi"}]}, "messages[0].role: "),
    ({"messages": [{"role": "user", "content": []}]}, "messages: "),
    ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type: "),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b"}]}]},
        "messages[0].content[0].input: ",
    ),
    ({"system": 7}, "system: "),
    ({"temperature": 1.5}, "temperature: "),
    ({"stop_sequences": [""]}, "stop_sequences: "),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type: "),
    ({"tools": [{"name": "a"}]}, "tools[0].input_schema: "),
    ({"tool_choice": {"type": "auto"}}, "tool_choice: "),
    ({"output_config": {"effort": "high"}}, "output_config.effort: "),
    ({"n": 2}, "n: "),
    ({"mcp_servers": []}, "mcp_servers: "),
    ({"stop": ["x"]}, "stop: "),
    ({"system": [{"type": "text", "text": "Hi", "tune": 1}]}, "system[0].tune: "),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "tune": 1}]}]},
        "messages[0].content[0].tune: ",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x", "tune": 1}],
                }
            ]
        },
        "messages[0].content[0].tune: ",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x", "is_error": 1}],
                }
            ]
        },
        "messages[0].content[0].is_error: ",
    ),
    (
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}, "tune": 1}],
                }
            ]
        },
        "messages[0].content[0].tune: ",
    ),
]


@pytest.mark.parametrize(("fields", "begins"), BAD_MESSAGES, ids=[str(at) for at in range(len(BAD_MESSAGES))])
async def test_a_bad_message_is_refused_by_its_field(alice, models, fields, begins):
    answer = await post(alice, MESSAGES, {**ask(max_tokens=5), **fields})

    error = anthropic_error(answer)
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["message"].startswith(begins)
    assert not scripted.calls
    assert not await Generation.objects.aexists()


async def test_a_long_prompt_is_answered_and_a_longer_one_refused(alice, models, settings):
    long = "x" * settings.MAX_PROMPT_CHARACTERS
    await models["scripted"].__class__.objects.filter(alias="scripted").aupdate(context_window=10_000_000)
    assert (await post(alice, CHAT, ask(long))).status_code == 200
    answer = await post(alice, CHAT, ask(long + "x"))
    error = openai_error(answer)
    assert (answer.status_code, error["code"], error["param"]) == (
        413,
        "request_too_large",
        "messages[0].content",
    )


# --- Refused behind the door ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_does_not_fit_is_told_by_the_name_of_the_vendor(alice, models, stream):
    await models["scripted"].__class__.objects.filter(alias="scripted").aupdate(context_window=20)
    body = ask("x " * 500, max_tokens=5, stream=stream)

    error = openai_error(await post(alice, CHAT, body))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert anthropic_error(await post(alice, MESSAGES, body))["message"].startswith("messages: ")


SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("refused", "fields", "name"),
    [
        ("response_format", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, None),
        (
            "parallel_tool_calls",
            {
                "tools": [{"name": "a", "input_schema": SCHEMA}],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            },
            "tool_choice.disable_parallel_tool_use",
        ),
    ],
)
async def test_what_a_model_does_not_take_is_told_by_the_name_of_the_vendor(
    alice, models, refused, fields, name
):
    await models["scripted"].__class__.objects.filter(alias="scripted").aupdate(refused_parameters=[refused])
    error = anthropic_error(await post(alice, MESSAGES, ask(max_tokens=5, **fields)))

    name = name or "output_config"
    assert error["message"].startswith(f"{name}: ")
    assert f"“{name}”" in error["message"]
    assert refused not in error["message"]


async def test_what_a_model_drops_is_told_by_the_name_of_the_vendor(alice, models):
    await models["scripted"].__class__.objects.filter(alias="scripted").aupdate(refused_parameters=["stop"])
    answer = await post(alice, MESSAGES, ask(max_tokens=5, stop_sequences=["x"]))
    assert answer.json()["llmsite"]["dropped_parameters"] == ["stop_sequences"]
    answer = await post(alice, CHAT, ask(stop=["x"]))
    assert answer.json()["llmsite"]["dropped_parameters"] == ["stop"]


async def test_of_a_key_that_comes_twice_the_last_counts(alice, models):
    answer = await post(alice, CHAT, b'{"model": "nobody", ' + with_messages(f"[{USER}]")[1:])
    assert (answer.status_code, answer.json()["model"]) == (200, "scripted")
