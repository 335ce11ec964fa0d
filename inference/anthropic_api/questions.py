"""From the body of `POST /v1/messages` to a question for the pipeline."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from accounts.credentials import Credential
from inference.ask import Ask, Sampling, Shape
from inference.openai_api.questions import read_grounding
from inference.providers.base import ChatMessage, ToolCall
from inference.together import heed_cache_control, split_prompt
from llmsite.core.errors import UnsupportedParameter
from llmsite.core.json_fields import Fields, refuse
from llmsite.core.logs import request_id

MOST_STOP_STRINGS = 8
MOST_TOKENS = 1_000_000
MOST_TOOLS = 128

FIELD_NAMES = {
    "prompt": "messages",
    "stop": "stop_sequences",
    "response_format": "output_config",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}
"""What this API calls the fields that the pipeline may refuse or drop, where the name is another."""

_IGNORED = ("cache_control", "metadata", "service_tier")
_THOUGHTS = ("thinking", "redacted_thinking")
"""Blocks that come back with the turns of a model that thinks aloud; they are no part of what was said."""
_IGNORED_IN_BLOCKS = ("cache_control", "citations", "caller")
"""How the vendor runs or bills a call, and what comes back with the blocks of an answer."""
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_MOST_NAME, _MOST_ID = 200, 200


@dataclass(frozen=True, slots=True)
class MessagesQuestion:
    """What a body asks for."""

    ask: Ask
    stream: bool


def read_question(data: Any, credential: Credential, *, cache_control: str | None = None) -> MessagesQuestion:
    """The question in a body, and in the header Cache-Control.

    Raises InvalidInput, TooLarge, UnsupportedParameter or UnknownParameter, with the field.
    """
    fields = Fields(data)
    most_tokens = fields.whole("max_tokens", least=1, most=MOST_TOKENS)
    if most_tokens is None:
        refuse("max_tokens", _("This field is required."))
    use_cache = fields.flag("use_cache")
    prompt = _read_prompt(fields)
    history, question = split_prompt(prompt.messages)
    ask = Ask(
        user=credential.user,
        api_key=credential.api_key,
        door="anthropic",
        model=prompt.model,
        system=prompt.system,
        prompt=question,
        history=history,
        sampling=Sampling(
            max_tokens=most_tokens,
            temperature=fields.number("temperature", least=0, most=1),
            top_p=fields.number("top_p", least=1e-6, most=1),
            stop=fields.texts("stop_sequences", most=MOST_STOP_STRINGS, most_characters=200),
        ),
        shape=prompt.shape,
        grounding=read_grounding(fields),
        use_cache=use_cache is not False,
        listed=False,
        request_id=request_id.get() or "",
    )
    stream = bool(fields.flag("stream"))
    _refuse_the_rest(fields)
    return MessagesQuestion(heed_cache_control(ask, cache_control), stream)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be answered, by which model, in which shape."""

    model: str
    system: str | None
    messages: tuple[ChatMessage, ...]
    shape: Shape


def read_prompt(data: Any) -> Prompt:
    """The part of a body that `count_tokens` takes. Raises as `read_question`."""
    fields = Fields(data)
    prompt = _read_prompt(fields)
    _refuse_the_rest(fields)
    return prompt


def _read_prompt(fields: Fields) -> Prompt:
    model = fields.required_text("model", most=_MOST_NAME)
    system = _text(fields, "system") if "system" in fields else None
    fields.ignore("system")
    messages = tuple(turn for message in fields.objects("messages") for turn in _turns(message))
    if not messages:
        refuse("messages", _("There must be at least one message."))
    if messages[-1].role == "user" and not messages[-1].content.strip():
        refuse("messages", _("The last message may not be empty."))
    return Prompt(model, system, messages, _shape(fields))


def _refuse_the_rest(fields: Fields) -> None:
    fields.ignore(*_IGNORED)
    fields.not_supported("thinking", unless=({"type": "disabled"},))
    fields.not_supported("top_k", "container", "mcp_servers")
    fields.refuse_others()


# --- Turns -----------------------------------------------------------------------------------------


def _turns(fields: Fields) -> Iterator[ChatMessage]:
    """One message as turns of ours, in which what a tool said is a turn of its own, before what is asked."""
    role = fields.choice("role", ("user", "assistant"), required=True)
    if isinstance(fields.raw("content"), list):
        blocks = list(fields.objects("content"))
        yield from _user_turns(blocks) if role == "user" else _assistant_turns(blocks)
    else:
        text = fields.text("content", most=settings.MAX_PROMPT_CHARACTERS, required=True) or ""
        yield ChatMessage("user" if role == "user" else "assistant", text)
    fields.refuse_others()


def _user_turns(blocks: list[Fields]) -> Iterator[ChatMessage]:
    texts = []
    for block in blocks:
        kind = block.text("type", most=_MOST_NAME, required=True)
        if kind == "text":
            texts.append(_block_text(block))
        elif kind == "tool_result":
            yield _tool_result(block)
        else:
            raise UnsupportedParameter(field=block.at("type"))
    if texts or not blocks:
        yield ChatMessage("user", "\n\n".join(texts))


def _tool_result(block: Fields) -> ChatMessage:
    turn = ChatMessage(
        "tool",
        _text(block, "content"),
        tool_call_id=block.required_text("tool_use_id", most=_MOST_ID),
        is_error=bool(block.flag("is_error")),
    )
    _refuse_the_rest_of_a_block(block)
    return turn


def _assistant_turns(blocks: list[Fields]) -> Iterator[ChatMessage]:
    texts, calls = [], []
    for block in blocks:
        kind = block.text("type", most=_MOST_NAME, required=True)
        if kind == "text":
            texts.append(_block_text(block))
        elif kind == "tool_use":
            calls.append(_tool_use(block))
        elif kind not in _THOUGHTS:
            raise UnsupportedParameter(field=block.at("type"))
    yield ChatMessage("assistant", "\n\n".join(texts), tuple(calls))


def _tool_use(block: Fields) -> ToolCall:
    arguments = block.raw("input")
    if not isinstance(arguments, dict):
        refuse(block.at("input"), _("This must be a JSON object."))
    call = ToolCall(
        id=block.required_text("id", most=_MOST_ID),
        name=block.required_text("name", most=_MOST_NAME),
        arguments=json.dumps(arguments, ensure_ascii=False),
    )
    _refuse_the_rest_of_a_block(block)
    return call


def _text(fields: Fields, name: str) -> str:
    """A text, or a list of blocks of text."""
    if not isinstance(fields.raw(name), list):
        return fields.text(name, most=settings.MAX_PROMPT_CHARACTERS) or ""
    texts = []
    for block in fields.objects(name):
        if block.text("type", most=_MOST_NAME, required=True) != "text":
            raise UnsupportedParameter(field=block.at("type"))
        texts.append(_block_text(block))
    return "\n\n".join(texts)


def _block_text(block: Fields) -> str:
    text = block.text("text", most=settings.MAX_PROMPT_CHARACTERS, required=True) or ""
    _refuse_the_rest_of_a_block(block)
    return text


def _refuse_the_rest_of_a_block(block: Fields) -> None:
    block.ignore(*_IGNORED_IN_BLOCKS)
    block.refuse_others()


# --- What the answer has to be ---------------------------------------------------------------------


def _shape(fields: Fields) -> Shape:
    tools = tuple(_tool(tool) for tool in fields.objects("tools"))
    if len(tools) > MOST_TOOLS:
        refuse("tools", _("At most %(most)s are taken.") % {"most": MOST_TOOLS})
    choice = fields.object("tool_choice")
    if choice is None:
        return Shape(tools=tools, response_format=_response_format(fields))
    if not tools:
        refuse("tool_choice", _("This is taken only together with tools."))
    one_at_a_time = choice.flag("disable_parallel_tool_use")
    return Shape(
        tools=tools,
        tool_choice=_tool_choice(choice, {tool["function"]["name"] for tool in tools}),
        parallel_tool_calls=False if one_at_a_time else None,
        response_format=_response_format(fields),
    )


def _tool(fields: Fields) -> dict[str, Any]:
    """A tool of the caller's in OpenAI's form; those that the vendor runs itself are not here."""
    if fields.text("type", most=_MOST_NAME) not in (None, "custom"):
        raise UnsupportedParameter(field=fields.at("type"))
    schema = fields.raw("input_schema")
    if not isinstance(schema, dict):
        refuse(fields.at("input_schema"), _("This must be a JSON object."))
    values = {
        "name": fields.required_text("name", most=_MOST_NAME),
        "description": fields.text("description", most=settings.MAX_PROMPT_CHARACTERS),
        "parameters": schema,
        "strict": fields.flag("strict"),
    }
    fields.ignore("cache_control")
    fields.refuse_others()
    return {
        "type": "function",
        "function": {name: value for name, value in values.items() if value is not None},
    }


def _tool_choice(choice: Fields, names: set[str]) -> str | dict[str, Any]:
    kind = choice.choice("type", (*_CHOICES, "tool"), required=True) or ""
    name = choice.text("name", most=_MOST_NAME)
    choice.refuse_others()
    if kind != "tool":
        return _CHOICES[kind]
    if name not in names:
        refuse(choice.at("name"), _("This names none of the tools."))
    return {"type": "function", "function": {"name": name}}


def _response_format(fields: Fields) -> dict[str, Any] | None:
    output = fields.object("output_config")
    wanted = output and output.object("format")
    if output is not None:
        output.not_supported("effort")
        output.refuse_others()
    if wanted is None:
        return None
    wanted.choice("type", ("json_schema",), required=True)
    schema = wanted.raw("schema")
    if not isinstance(schema, dict):
        refuse(wanted.at("schema"), _("This must be a JSON object."))
    wanted.refuse_others()
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
