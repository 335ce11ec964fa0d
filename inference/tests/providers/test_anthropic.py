import pytest

from inference.providers.anthropic import AnthropicProvider
from inference.providers.base import ChatMessage, ToolCall, Usage
from inference.providers.messages import arguments_of, request_body, turns
from inference.tests.providers.asking import a_request, collect, end_of
from inference.tests.standin import Answer, StandIn
from inference.tests.wire import AnthropicFormat
from llmsite.core.errors import UnsupportedParameter


@pytest.fixture
def provider(standin: StandIn) -> AnthropicProvider:
    return AnthropicProvider(api_key="sk-test", base_url=standin.url)


def test_a_request() -> None:
    request = a_request("Hi", temperature=1.0, top_p=0.5, seed=1, stop=("END",))
    assert request_body(request) == {
        "model": "stand-in",
        "max_tokens": 100,
        "system": "You are brief.",
        "messages": [{"role": "user", "content": "Hi"}],
        "stop_sequences": ["END"],
        "stream": True,
    }


def test_without_a_system_prompt_there_is_none() -> None:
    assert "system" not in request_body(a_request(messages=(ChatMessage("user", "Hi"),)))


def test_turns() -> None:
    conversation = [
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "One"),
        ChatMessage("assistant", " \n"),
        ChatMessage("user", "Two"),
        ChatMessage("assistant", "Three"),
        ChatMessage("system", "Be kind."),
        ChatMessage("assistant", "Four"),
        ChatMessage("user", "Five"),
    ]
    assert turns(conversation) == [
        {"role": "user", "content": "One\n\nTwo"},
        {"role": "assistant", "content": "Three\n\nFour"},
        {"role": "user", "content": "Five"},
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("a new word", "stop"),
    ],
)
async def test_finish_reasons(provider: AnthropicProvider, standin: StandIn, word: str, reason: str) -> None:
    standin.script(Answer(stop_reason=word))
    assert end_of(await collect(provider)).finish_reason == reason


async def test_the_stop_string_that_ended_it_is_told(provider: AnthropicProvider, standin: StandIn) -> None:
    wire = AnthropicFormat()
    end = wire.end("stop_sequence", (3, 2)).replace(b'"stop_sequence": null', b'"stop_sequence": "END"')
    standin.script(Answer(raw=wire.begin((3, 0)) + wire.piece("a") + end))
    assert end_of(await collect(provider)).stop_sequence == "END"


def test_a_tool_that_failed_says_so() -> None:
    said = (ChatMessage("tool", "No.", tool_call_id="1", is_error=True), ChatMessage("tool", "Yes.", (), "2"))
    [turn] = turns(said)
    assert turn["content"] == [
        {"type": "tool_result", "tool_use_id": "1", "content": "No.", "is_error": True},
        {"type": "tool_result", "tool_use_id": "2", "content": "Yes."},
    ]


async def test_tokens_that_the_cache_wrote_or_read_are_tokens_of_the_prompt(
    provider: AnthropicProvider, standin: StandIn
) -> None:
    wire = AnthropicFormat()
    begin = wire.begin((3, 0)).replace(
        b'"input_tokens": 3',
        b'"input_tokens": 3, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100',
    )
    standin.script(Answer(raw=begin + wire.piece("a") + wire.end("end_turn", (0, 7))))
    assert end_of(await collect(provider)).usage == Usage(113, 7)


async def test_thinking_is_no_part_of_the_answer(provider: AnthropicProvider, standin: StandIn) -> None:
    wire = AnthropicFormat()
    thinking = wire.piece("hm").replace(b'"text_delta", "text"', b'"thinking_delta", "thinking"')
    standin.script(Answer(raw=wire.begin((3, 0)) + thinking + wire.piece("a") + wire.end("end_turn", (3, 2))))
    events = await collect(provider)
    assert len(events) == 2


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("none", {"type": "none"}),
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        (None, None),
        ({"type": "function", "function": {"name": "a"}}, {"type": "tool", "name": "a"}),
    ],
)
def test_choices_of_tools(choice: object, sent: object) -> None:
    tool = {"type": "function", "function": {"name": "a"}}
    assert request_body(a_request(tools=(tool,), tool_choice=choice)).get("tool_choice") == sent


def test_any_json_has_no_counterpart() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        request_body(a_request(response_format={"type": "json_object"}))
    assert caught.value.field == "response_format"
    assert "output_config" not in request_body(a_request(response_format={"type": "text"}))


def test_a_system_prompt_alone_is_the_question() -> None:
    body = request_body(a_request(messages=(ChatMessage("system", "Say hello."),)))
    assert body["messages"] == [{"role": "user", "content": "Say hello."}]
    assert "system" not in body


@pytest.mark.parametrize("written", ["", "{", "[1]", "7"])
def test_arguments_that_are_no_object_are_passed_on_as_one(written: str) -> None:
    assert isinstance(arguments_of(ToolCall("x", "a", written)), dict)
