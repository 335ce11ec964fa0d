"""Fields that the doors below `/v1/` refuse: told by their name in the vendor's form, and nothing done."""

import pytest

from inference.models import Generation, Message
from inference.providers import scripted
from inference.tests.v1.calling import CHAT, MESSAGES, anthropic_error, ask, openai_error, post

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

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
    (with_fields('"collection": "docs"'), VALUE, "collection"),
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


async def test_what_is_no_id_of_a_collection_is_told_so(alice, models):
    answer = await post(alice, CHAT, with_fields('"collection": "nope"'))

    assert openai_error(answer)["message"] == "This is no id."


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


async def test_of_a_key_that_comes_twice_the_last_counts(alice, models):
    answer = await post(alice, CHAT, b'{"model": "nobody", ' + with_messages(f"[{USER}]")[1:])
    assert (answer.status_code, answer.json()["model"]) == (200, "scripted")
