"""What every provider keeps to, whoever is behind it.

Those that speak HTTP are held against the stand-in, with the real SDKs.
"""

import asyncio
import json
import logging
import traceback
from collections.abc import Callable
from contextlib import aclosing

import pytest

from inference.providers import provider_names, scripted
from inference.providers.anthropic import AnthropicProvider
from inference.providers.base import (
    ALL_PARAMETERS,
    TOOL_PARAMETERS,
    ChatMessage,
    ChatProvider,
    Finished,
    TextDelta,
    Timeouts,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from inference.providers.deadlines import Deadlines
from inference.providers.echo import EchoProvider
from inference.providers.local import LocalProvider
from inference.providers.openai import OpenAIProvider
from inference.providers.scripted import Script, ScriptedProvider
from inference.providers.words import words
from inference.tests.providers.asking import (
    a_request,
    collect,
    collect_until_error,
    end_of,
    stream,
    text_of,
)
from inference.tests.standin import Answer, End, StandIn
from inference.tests.wire import AnthropicFormat, OpenAIFormat
from llmsite.core import errors

KEY = "sk-canary-4fJ2mQ9x"

# One line for each provider: how to make it for a server at `url`.
OVER_HTTP: dict[str, Callable[..., ChatProvider]] = {
    "anthropic": lambda url, **options: AnthropicProvider(api_key=KEY, base_url=url, **options),
    "local": lambda url, **options: LocalProvider(base_url=url, embedded=True, **options),
    "openai": lambda url, **options: OpenAIProvider(api_key=KEY, base_url=f"{url}/v1", **options),
}
KEYLESS: dict[str, Callable[..., ChatProvider]] = {
    "echo": lambda url: EchoProvider(),
    "scripted": lambda url: ScriptedProvider(),
}
ALL = {**OVER_HTTP, **KEYLESS}

TEXT = "Paris is the capital — ¡así es! 🗼 日本語"


def test_every_provider_is_under_contract() -> None:
    assert sorted(ALL) == provider_names()


class TestEveryProvider:
    @pytest.fixture(params=ALL)
    def provider(self, request: pytest.FixtureRequest, standin: StandIn) -> ChatProvider:
        """One that will answer `TEXT`, where that is what it is asked to say."""
        standin.script(Answer(pieces=tuple(words(TEXT))))
        scripted.play(Script(pieces=tuple(words(TEXT))))
        return ALL[request.param](standin.url)

    async def test_pieces_join_to_the_text_and_one_end_comes_last(self, provider: ChatProvider) -> None:
        events = await collect(provider, a_request(TEXT))
        assert text_of(events) == TEXT
        assert [type(event) for event in events] == [TextDelta] * len(words(TEXT)) + [Finished]
        assert end_of(events).finish_reason == "stop"

    async def test_tokens_are_reported(self, provider: ChatProvider) -> None:
        usage = end_of(await collect(provider, a_request(TEXT))).usage
        assert usage is not None
        assert usage.output_tokens == len(words(TEXT))
        assert usage.input_tokens > 0

    async def test_no_parameter_is_a_type_error(self, provider: ChatProvider) -> None:
        request = a_request(TEXT, temperature=0.5, top_p=0.9, stop=("\n\n",), seed=7, request_id="abc")
        assert text_of(await collect(provider, request)) == TEXT

    async def test_declared_parameters_are_known_ones(self, provider: ChatProvider) -> None:
        assert provider.parameters <= ALL_PARAMETERS

    async def test_closing_ends_the_answer(self, provider: ChatProvider) -> None:
        events = stream(provider, a_request(TEXT))
        async with aclosing(events):
            assert isinstance(await anext(events), TextDelta)
        with pytest.raises(StopAsyncIteration):
            await anext(events)

    async def test_tokens_are_counted_for_each_message(self, provider: ChatProvider) -> None:
        messages = a_request("one two three").messages
        counts = await provider.count_tokens("stand-in", messages)
        assert len(counts) == len(messages)
        assert all(count > 0 for count in counts)

    def test_one_instance_serves_several_loops(self, provider: ChatProvider, standin: StandIn) -> None:
        standin.reset()
        scripted.reset()
        ends = [end_of(asyncio.run(collect(provider))) for _ in range(3)]
        assert [end.finish_reason for end in ends] == ["stop"] * 3


@pytest.fixture(params=OVER_HTTP)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider(name: str, standin: StandIn) -> ChatProvider:
    return OVER_HTTP[name](standin.url)


class TestWire:
    async def test_any_split_of_the_bytes_gives_the_same_answer(
        self, provider: ChatProvider, standin: StandIn
    ) -> None:
        standin.script(Answer(pieces=("¡", "é🗼", "\n\n", "日本\u2028語"), drip=True))
        events = await collect(provider)
        assert [event.text for event in events[:-1] if isinstance(event, TextDelta)] == [
            "¡",
            "é🗼",
            "\n\n",
            "日本\u2028語",
        ]

    async def test_usage_is_what_the_server_counted(self, provider: ChatProvider, standin: StandIn) -> None:
        standin.script(Answer(usage=(123, 45)), Answer(reports_usage=False))
        assert end_of(await collect(provider)).usage == Usage(123, 45)
        assert end_of(await collect(provider)).usage is None

    async def test_the_limit_of_tokens_is_sent(self, provider: ChatProvider, standin: StandIn) -> None:
        await collect(provider, a_request(max_tokens=17))
        body = standin.calls[-1].body
        assert 17 in (body.get("max_tokens"), body.get("max_completion_tokens"))

    async def test_only_declared_parameters_are_sent(self, provider: ChatProvider, standin: StandIn) -> None:
        await collect(provider, a_request(temperature=0.0, top_p=0.5, stop=("END",), seed=0))
        sent = standin.calls[-1].body
        expected = {"temperature": 0.0, "top_p": 0.5, "stop": ["END"], "seed": 0}
        names = {"stop": "stop_sequences"} if provider.name == "anthropic" else {}
        for parameter, value in expected.items():
            wire_name = names.get(parameter, parameter)
            assert sent.get(wire_name) == (value if parameter in provider.parameters else None)

    async def test_unset_parameters_are_left_out(self, provider: ChatProvider, standin: StandIn) -> None:
        await collect(provider)
        assert not {*ALL_PARAMETERS, "stop_sequences", "output_config"} & set(standin.calls[-1].body)


class TestStopping:
    async def test_closing_closes_the_connection_upstream(
        self, provider: ChatProvider, standin: StandIn
    ) -> None:
        standin.script(Answer(pieces=("word ",) * 1000, gap=0.05))
        events = stream(provider)
        async with aclosing(events):
            assert await anext(events) == TextDelta("word ")
        assert await asyncio.to_thread(standin.calls[-1].client_left.wait, 1)

    @pytest.mark.parametrize(
        "answer",
        [Answer(delay=30), Answer(head_start=30), Answer(pieces=("a", "b"), gap=30), Answer(end="hang")],
        ids=["before the head", "before a piece", "between pieces", "before the end"],
    )
    async def test_cancelling_the_task_closes_the_connection_upstream(
        self, provider: ChatProvider, standin: StandIn, answer: Answer
    ) -> None:
        await collect(provider)  # The SDK is imported and the client built: the next call goes straight out.
        standin.script(answer)
        task = asyncio.create_task(collect(provider))
        assert await asyncio.to_thread(standin.wait_for_calls, 2)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(standin.calls[-1].client_left.wait, 1)

    async def test_nothing_goes_on_after_an_answer(self, provider: ChatProvider) -> None:
        await collect(provider)
        assert asyncio.all_tasks() == {asyncio.current_task()}


# status, headers, the error, the data it carries beside provider and detail
STATUSES = [
    (400, {}, errors.RequestRejected, {"status": 400}),
    (401, {}, errors.ProviderRejected, {"status": 401}),
    (403, {}, errors.ProviderRejected, {"status": 403}),
    (404, {}, errors.ProviderRejected, {"status": 404}),
    (413, {}, errors.RequestRejected, {"status": 413}),
    (307, {"location": "http://127.0.0.1:9/"}, errors.ProviderRejected, {"status": 307}),
    (408, {}, errors.ProviderError, {"status": 408}),
    (429, {}, errors.ProviderRateLimited, {}),
    (429, {"retry-after": "2"}, errors.ProviderRateLimited, {"retry_after": 2.0}),
    (429, {"retry-after": "600"}, errors.ProviderRateLimited, {"retry_after": 600.0}),
    (500, {}, errors.ProviderError, {"status": 500}),
    (502, {}, errors.ProviderError, {"status": 502}),
    (503, {}, errors.ProviderUnavailable, {}),
    (503, {"retry-after": "7"}, errors.ProviderUnavailable, {"retry_after": 7.0}),
    (503, {"retry-after": "0"}, errors.ProviderUnavailable, {"retry_after": 0.0}),
    (529, {}, errors.ProviderUnavailable, {}),
]


class TestFailures:
    @pytest.mark.parametrize(("status", "headers", "kind", "data"), STATUSES)
    async def test_each_status_has_its_error_and_no_retry(
        self,
        provider: ChatProvider,
        standin: StandIn,
        settings,
        status: int,
        headers: dict[str, str],
        kind: type[errors.SiteError],
        data: dict[str, object],
    ) -> None:
        settings.LOG_PROMPTS = True
        standin.script(Answer(status=status, headers=headers))
        events, error = await collect_until_error(provider)
        assert events == []
        assert isinstance(error, kind)
        carried = {key: value for key, value in error.data.items() if key != "detail"}
        assert carried == {"provider": provider.name, **data}
        assert f"scripted {status}" in error.data["detail"]
        assert len(standin.calls) == 1

    async def test_a_prompt_over_the_window_is_told_with_both_numbers(
        self, provider: ChatProvider, standin: StandIn
    ) -> None:
        said = "prompt is too long: 5000 tokens > 4096 maximum"
        standin.script(Answer(status=400, body={"error": {"type": "invalid_request_error", "message": said}}))
        _, error = await collect_until_error(provider)
        assert isinstance(error, errors.ContextLengthExceeded)
        assert error.data == {"tokens": 5000, "limit": 4096}

    async def test_an_error_as_the_first_event_is_no_answer(
        self, provider: ChatProvider, standin: StandIn
    ) -> None:
        standin.script(Answer(pieces=(), error={"type": "overloaded_error", "message": "Overloaded"}))
        events, error = await collect_until_error(provider)
        assert events == []
        assert isinstance(error, errors.ProviderUnavailable)
        assert len(standin.calls) == 1

    async def test_an_error_in_mid_stream_keeps_the_pieces(
        self, provider: ChatProvider, standin: StandIn
    ) -> None:
        standin.script(Answer(pieces=("Hel", "lo"), error={"type": "api_error", "message": "boom"}))
        events, error = await collect_until_error(provider)
        assert text_of(events) == "Hello"
        assert isinstance(error, errors.ProviderError)

    @pytest.mark.parametrize("end", ["no_end_mark", "fin", "rst"])
    async def test_a_cut_keeps_the_pieces_and_has_no_end(
        self, provider: ChatProvider, standin: StandIn, end: End
    ) -> None:
        standin.script(Answer(pieces=("Hel", "lo"), end=end))
        events, error = await collect_until_error(provider)
        assert text_of(events) == "Hello"
        assert not any(isinstance(event, Finished) for event in events)
        assert isinstance(error, errors.UpstreamCut)
        assert len(standin.calls) == 1

    @pytest.mark.parametrize("end", ["no_end_mark", "fin", "rst"])
    async def test_a_cut_before_the_first_piece_is_a_failure_to_retry(
        self, provider: ChatProvider, standin: StandIn, end: End
    ) -> None:
        standin.script(Answer(pieces=(), end=end))
        _, error = await collect_until_error(provider)
        assert isinstance(error, errors.ProviderFailure)
        assert error.retryable

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b": keepalive\n\n",
            b"data: [DONE]\n\n",
            b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
            b"<html>Sign in to this network</html>",
            b"data: {not json}\n\n",
            b"event: message_start\ndata: {not json}\n\n",
            b'data: {"choices": [7]}\n\n',
            b'event: content_block_delta\ndata: {"type": "content_block_delta"}\n\n',
            b'data: {"choices": [{"delta": {"content": ["list"]}}]}\n\n',
            b"data: \xff\xfe\n\n",
            b"data: []\n\n",
        ],
    )
    async def test_a_stream_without_an_answer_is_never_a_success(
        self, provider: ChatProvider, standin: StandIn, raw: bytes
    ) -> None:
        standin.script(Answer(raw=raw))
        events, error = await collect_until_error(provider)
        assert events == []
        assert isinstance(error, errors.ProviderError)

    async def test_nobody_at_the_address(self, name: str, closed_url: str) -> None:
        _, error = await collect_until_error(OVER_HTTP[name](closed_url))
        expected = errors.LocalModelUnavailable if name == "local" else errors.ProviderUnavailable
        assert type(error) is expected

    async def test_a_connection_that_is_never_accepted(self, name: str, deaf_url: str) -> None:
        _, error = await collect_until_error(OVER_HTTP[name](deaf_url, connect_timeout=0.2))
        assert isinstance(error, errors.ProviderTimeout)
        assert error.data["phase"] == "connect"

    @pytest.mark.parametrize(
        ("answer", "timeouts", "phase", "text"),
        [
            (Answer(delay=30), Timeouts(first_token=0.2), "first_token", ""),
            (Answer(head_start=30), Timeouts(first_token=0.2), "first_token", ""),
            (Answer(pieces=("Hel", "lo"), end="hang"), Timeouts(idle=0.2), "idle", "Hel"),
            (Answer(pieces=("x",) * 1000, gap=0.01), Timeouts(total=0.4), "total", ""),
        ],
        ids=["no head", "no piece", "silence", "endless"],
    )
    async def test_deadlines(
        self,
        provider: ChatProvider,
        standin: StandIn,
        answer: Answer,
        timeouts: Timeouts,
        phase: str,
        text: str,
    ) -> None:
        await collect(provider)  # The import of the SDK is no part of the deadline here.
        standin.script(answer)
        events, error = await collect_until_error(Deadlines(provider, timeouts))
        assert isinstance(error, errors.ProviderTimeout)
        assert error.data == {"provider": provider.name, "phase": phase}
        assert text_of(events).startswith(text)
        assert await asyncio.to_thread(standin.calls[-1].client_left.wait, 1)


class TestKeys:
    """A provider that repeats the key it was sent must not bring it into our logs."""

    @pytest.fixture(params=["anthropic", "openai"])
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(status=401, body={"error": {"message": f"Incorrect API key provided: {KEY}"}}),
            Answer(status=400, body=f"Authorization: Bearer {KEY}".encode()),
            Answer(status=429, body={"error": {"message": f"slow down, {KEY}"}}),
            Answer(status=500, body={"error": {"message": KEY * 300}}),
            Answer(pieces=(), error={"type": "api_error", "message": KEY}),
            Answer(pieces=("a",), error={"type": "api_error", "message": KEY}),
            Answer(raw=f"event: message_start\ndata: {KEY}\n\n".encode()),
            Answer(raw=f"data: {KEY}\n\n".encode()),
            Answer(pieces=(), end="rst"),
        ],
    )
    async def test_the_key_shows_nowhere(
        self, provider: ChatProvider, standin: StandIn, answer: Answer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        standin.script(answer)
        _, error = await collect_until_error(provider)
        assert isinstance(error, errors.ProviderFailure)
        sent = standin.calls[-1].headers
        assert KEY in sent.get("authorization", "") + sent.get("x-api-key", "")
        shown = [str(error), repr(error), *traceback.format_exception(error), caplog.text]
        assert not [text for text in shown if KEY in text or KEY[3:] in text]
        # What it was made from is not shown either, by whatever prints errors with more detail.
        assert error.__cause__ is None
        assert error.__context__ is None or error.__suppress_context__

    @pytest.mark.parametrize("key", ["", " ", "sk-ünïcode", "sk-two\nlines"])
    def test_a_key_that_cannot_be_sent_counts_as_none(self, name: str, key: str) -> None:
        kind = {"anthropic": AnthropicProvider, "openai": OpenAIProvider}[name]
        with pytest.raises(errors.ProviderNotConfigured) as caught:
            kind(api_key=key)
        assert caught.value.data == {"provider": name, "setting": f"{name.upper()}_API_KEY"}


TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}},
}
RAW_CALLS = {
    "anthropic": AnthropicFormat().begin((5, 0))
    + AnthropicFormat().piece("Well.")
    + b'event: content_block_start\ndata: {"type": "content_block_start", "index": 1, "content_block": '
    b'{"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}}\n\n'
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 1, "delta": '
    b'{"type": "input_json_delta", "partial_json": ""}}\n\n'
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 1, "delta": '
    b'{"type": "input_json_delta", "partial_json": "{\\"city\\": "}}\n\n'
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 1, "delta": '
    b'{"type": "input_json_delta", "partial_json": "1}"}}\n\n'
    b'event: content_block_stop\ndata: {"type": "content_block_stop", "index": 1}\n\n'
    b'event: content_block_start\ndata: {"type": "content_block_start", "index": 2, "content_block": '
    b'{"type": "tool_use", "id": "call_2", "name": "weather", "input": {}}}\n\n'
    b'event: content_block_stop\ndata: {"type": "content_block_stop", "index": 2}\n\n'
    + AnthropicFormat().end("tool_use", (5, 9)),
    "openai": OpenAIFormat().begin(None)
    + OpenAIFormat().piece("Well.")
    + b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "call_1", '
    b'"type": "function", "function": {"name": "weather", "arguments": ""}}]}, "finish_reason": null}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": '
    b'{"arguments": "{\\"city\\": "}}]}, "finish_reason": null}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": '
    b'{"arguments": "1}"}}]}, "finish_reason": null}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "call_2", '
    b'"type": "function", "function": {"name": "weather", "arguments": "{}"}}]}, "finish_reason": null}]}\n\n'
    + OpenAIFormat().end("tool_calls", (5, 9)),
}
WITH_TOOLS = {
    "anthropic": OVER_HTTP["anthropic"],
    "openai": OVER_HTTP["openai"],
    "another local server": lambda url: LocalProvider(base_url=url, embedded=False),
}


class TestTools:
    @pytest.fixture(params=WITH_TOOLS)
    def provider(self, request: pytest.FixtureRequest, standin: StandIn) -> ChatProvider:
        return WITH_TOOLS[request.param](standin.url)

    @staticmethod
    def raw(provider: ChatProvider) -> bytes:
        return RAW_CALLS["anthropic" if provider.name == "anthropic" else "openai"]

    async def test_calls_come_in_pieces(self, provider: ChatProvider, standin: StandIn) -> None:
        standin.script(Answer(raw=self.raw(provider)))
        *pieces, end = await collect(provider, a_request(tools=(TOOL,)))

        assert text_of(pieces) == "Well."
        calls = [piece for piece in pieces if isinstance(piece, ToolCallDelta)]
        assert [(piece.index, piece.id, piece.name) for piece in calls if piece.id] == [
            (0, "call_1", "weather"),
            (1, "call_2", "weather"),
        ]
        written = ["".join(piece.arguments for piece in calls if piece.index == at) for at in (0, 1)]
        assert [json.loads(text) for text in written] == [{"city": 1}, {}]
        assert end == Finished("tool_calls", Usage(5, 9))

    async def test_a_call_that_breaks_off_is_a_cut(self, provider: ChatProvider, standin: StandIn) -> None:
        raw = self.raw(provider)
        standin.script(Answer(raw=raw[: raw.index(b"call_2")].rpartition(b"\n\n")[0] + b"\n\n"))
        events, error = await collect_until_error(provider, a_request(tools=(TOOL,)))
        assert isinstance(error, errors.UpstreamCut)
        assert not any(isinstance(event, Finished) for event in events)

    async def test_tools_and_turns_go_upstream(self, provider: ChatProvider, standin: StandIn) -> None:
        messages = (
            ChatMessage("user", "Rain?"),
            ChatMessage("assistant", "", (ToolCall("call_1", "weather", '{"city": 1}'),)),
            ChatMessage("tool", "Yes.", tool_call_id="call_1"),
            ChatMessage("user", "Really?"),
        )
        choice = {"type": "function", "function": {"name": "weather"}}
        await collect(
            provider,
            a_request(messages=messages, tools=(TOOL,), tool_choice=choice, parallel_tool_calls=False),
        )

        body = standin.calls[-1].body
        if provider.name == "anthropic":
            assert body["messages"] == [
                {"role": "user", "content": "Rain?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": 1}}
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "call_1", "content": "Yes."},
                        {"type": "text", "text": "Really?"},
                    ],
                },
            ]
            assert body["tools"] == [
                {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}
            ]
            assert body["tool_choice"] == {
                "type": "tool",
                "name": "weather",
                "disable_parallel_tool_use": True,
            }
        else:
            call = {"name": "weather", "arguments": '{"city": 1}'}
            assert body["messages"] == [
                {"role": "user", "content": "Rain?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "Yes."},
                {"role": "user", "content": "Really?"},
            ]
            assert (body["tools"], body["tool_choice"], body["parallel_tool_calls"]) == (
                [TOOL],
                choice,
                False,
            )

    async def test_a_schema_of_the_answer_goes_upstream(
        self, provider: ChatProvider, standin: StandIn
    ) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
        await collect(provider, a_request(response_format=form))
        body = standin.calls[-1].body
        if provider.name == "anthropic":
            assert body["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}
        else:
            assert body["response_format"] == form


def test_what_our_own_engine_does_not_do_it_does_not_declare() -> None:
    embedded = LocalProvider(base_url="http://127.0.0.1:9", embedded=True).parameters
    assert not embedded & (TOOL_PARAMETERS | {"response_format", "presence_penalty"})
    assert LocalProvider(base_url="http://127.0.0.1:9", embedded=False).parameters == ALL_PARAMETERS
