"""From the body of `POST /v1/chat/completions` to questions for the pipeline."""

import re
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext as _

from accounts.credentials import Credential
from inference.ask import Ask, Grounding, Sampling, Shape
from inference.providers.base import ChatMessage, Role, ToolCall
from inference.together import heed_cache_control, split_prompt
from llmsite.core.errors import UnsupportedParameter
from llmsite.core.json_fields import Fields, refuse
from llmsite.core.logs import request_id

MOST_CHOICES = 8
MOST_TOOLS = 128
MOST_STOP_STRINGS = 8
MOST_TOKENS = 1_000_000
MOST_SEED = 2**63 - 1
LEAST_TOP_P = 1e-6
"""Stands for 0, which OpenAI takes and model servers do not: only the likeliest token."""

_IGNORED = (
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
)
_NOT_TAKEN = (
    "audio",
    "function_call",
    "functions",
    "moderation",
    "prediction",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
)
FIELD_NAMES = {"prompt": "messages"}
"""What this API calls the fields that the pipeline may refuse, where the name is another."""
_ROLES: dict[str, Role] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_NAME, _MOST_ID = 200, 200


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """What a body asks for: `asks`, one for each choice, and how they are to be answered."""

    asks: tuple[Ask, ...]
    stream: bool
    include_usage: bool


def read_question(data: Any, credential: Credential, *, cache_control: str | None = None) -> ChatQuestion:
    """The question in a body, and in the header Cache-Control.

    Raises InvalidInput, TooLarge, UnsupportedParameter or UnknownParameter, with the field.
    """
    fields = Fields(data)
    model = fields.required_text("model", most=_MOST_NAME)
    history, prompt = split_prompt(_messages(fields))
    use_cache = fields.flag("use_cache")
    choices = fields.whole("n", least=1, most=MOST_CHOICES) or 1
    ask = Ask(
        user=credential.user,
        api_key=credential.api_key,
        door="openai",
        model=model,
        prompt=prompt,
        history=history,
        sampling=_sampling(fields),
        shape=_shape(fields),
        grounding=read_grounding(fields),
        use_cache=use_cache is not False,
        listed=False,
        request_id=request_id.get() or "",
    )
    ask = heed_cache_control(ask, cache_control)
    stream, include_usage = bool(fields.flag("stream")), _include_usage(fields)
    _refuse_the_rest(fields)
    return ChatQuestion(tuple(replace(ask, choice=at) for at in range(choices)), stream, include_usage)


def read_grounding(fields: Fields) -> Grounding | None:
    """The documents that are to answer, by the field `collection` of our own."""
    given = fields.text("collection", most=_MOST_ID)
    if not given:
        return None
    try:
        return Grounding(collection=UUID(given))
    except ValueError:
        refuse("collection", _("This is no id."))


def _refuse_the_rest(fields: Fields) -> None:
    fields.ignore(*_IGNORED)
    fields.not_supported("logprobs", unless=(False,))
    fields.not_supported("top_logprobs", unless=(0,))
    fields.not_supported("logit_bias", unless=({},))
    fields.not_supported("modalities", unless=(["text"],))
    fields.not_supported(*_NOT_TAKEN)
    fields.refuse_others()


def _include_usage(fields: Fields) -> bool:
    options = fields.object("stream_options")
    if options is None:
        return False
    include_usage = bool(options.flag("include_usage"))
    options.ignore("include_obfuscation")
    options.refuse_others()
    return include_usage


def _sampling(fields: Fields) -> Sampling:
    most_tokens = fields.whole("max_completion_tokens", least=1, most=MOST_TOKENS)
    most_tokens_before = fields.whole("max_tokens", least=1, most=MOST_TOKENS)
    top_p = fields.number("top_p", least=0, most=1)
    return Sampling(
        max_tokens=most_tokens or most_tokens_before,
        temperature=fields.number("temperature", least=0, most=2),
        top_p=LEAST_TOP_P if top_p == 0 else top_p,
        stop=fields.texts("stop", most=MOST_STOP_STRINGS, most_characters=200),
        seed=fields.whole("seed", least=-MOST_SEED, most=MOST_SEED),
        presence_penalty=fields.number("presence_penalty", least=-2, most=2),
        frequency_penalty=fields.number("frequency_penalty", least=-2, most=2),
    )


# --- Turns -----------------------------------------------------------------------------------------


def _messages(fields: Fields) -> tuple[ChatMessage, ...]:
    messages = tuple(_message(fields) for fields in fields.objects("messages"))
    if not messages:
        refuse("messages", _("There must be at least one message."))
    if messages[-1].role == "user" and not messages[-1].content.strip():
        refuse(f"messages[{len(messages) - 1}].content", _("This field may not be empty."))
    return messages


def _message(fields: Fields) -> ChatMessage:
    role = _ROLES[fields.choice("role", tuple(_ROLES), required=True) or ""]
    calls = tuple(_tool_call(call) for call in fields.objects("tool_calls")) if role == "assistant" else ()
    answered = fields.required_text("tool_call_id", most=_MOST_ID) if role == "tool" else ""
    content = _content(fields, may_be_missing=role == "assistant")
    # What an answer of ours says beside its text comes back with it.
    fields.ignore("name", "refusal", "annotations")
    fields.not_supported("audio", "function_call")
    if role != "assistant":
        fields.not_supported("tool_calls", unless=([],))
    fields.refuse_others()
    return ChatMessage(role, content, calls, answered)


def _content(fields: Fields, *, may_be_missing: bool) -> str:
    most = settings.MAX_PROMPT_CHARACTERS
    if "content" not in fields:
        if not may_be_missing:
            refuse(fields.at("content"), _("This field is required."))
        return ""
    if isinstance(fields.raw("content"), list):
        return "".join(_text_part(part, most) for part in fields.objects("content"))
    return fields.text("content", most=most) or ""


def _text_part(part: Fields, most: int) -> str:
    """Of text and of what was refused; pictures, sounds and files are for other models."""
    kind = part.text("type", most=_MOST_NAME, required=True)
    if kind not in ("text", "refusal"):
        raise UnsupportedParameter(field=part.at("type"))
    text = part.text(kind, most=most, required=True) or ""
    part.refuse_others()
    return text


def _tool_call(fields: Fields) -> ToolCall:
    _require_function(fields)
    function = fields.object("function")
    if function is None:
        refuse(fields.at("function"), _("This field is required."))
    call = ToolCall(
        id=fields.required_text("id", most=_MOST_ID),
        name=_function_name(function),
        arguments=function.text("arguments", most=settings.MAX_PROMPT_CHARACTERS) or "{}",
    )
    # The pieces of a stream are numbered, and programs that put them together keep the number.
    fields.ignore("index")
    function.refuse_others()
    fields.refuse_others()
    return call


# --- What the answer has to be ---------------------------------------------------------------------


def _shape(fields: Fields) -> Shape:
    tools = tuple(_tool(tool) for tool in fields.objects("tools"))
    if len(tools) > MOST_TOOLS:
        refuse("tools", _("At most %(most)s are taken.") % {"most": MOST_TOOLS})
    names = [tool["function"]["name"] for tool in tools]
    if len(set(names)) < len(names):
        refuse("tools", _("Two functions have the same name."))
    if not tools:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in fields:
                refuse(name, _("This is taken only together with tools."))
    return Shape(
        tools=tools,
        tool_choice=_tool_choice(fields, names),
        parallel_tool_calls=fields.flag("parallel_tool_calls"),
        response_format=_response_format(fields),
    )


def _tool(fields: Fields) -> dict[str, Any]:
    _require_function(fields)
    function = fields.object("function")
    if function is None:
        refuse(fields.at("function"), _("This field is required."))
    parameters = function.raw("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        refuse(function.at("parameters"), _("This must be a JSON object."))
    values = {
        "name": _function_name(function),
        "description": function.text("description", most=settings.MAX_PROMPT_CHARACTERS),
        "parameters": parameters,
        "strict": function.flag("strict"),
    }
    function.refuse_others()
    fields.refuse_others()
    return {
        "type": "function",
        "function": {name: value for name, value in values.items() if value is not None},
    }


def _require_function(fields: Fields) -> None:
    if fields.text("type", most=_MOST_NAME, required=True) != "function":
        raise UnsupportedParameter(field=fields.at("type"))


def _function_name(function: Fields) -> str:
    name = function.required_text("name", most=_MOST_NAME)
    if not _FUNCTION_NAME.fullmatch(name):
        refuse(function.at("name"), _("A name has up to 64 letters, digits, hyphens and underscores."))
    return name


def _tool_choice(fields: Fields, names: list[str]) -> str | dict[str, Any] | None:
    if isinstance(fields.raw("tool_choice"), dict):
        choice = fields.object("tool_choice")
        assert choice is not None
        _require_function(choice)
        function = choice.object("function")
        name = function and function.text("name", most=_MOST_NAME)
        if function is None or name not in names:
            refuse("tool_choice", _("This names none of the tools."))
        function.refuse_others()
        choice.refuse_others()
        return {"type": "function", "function": {"name": name}}
    return fields.choice("tool_choice", ("none", "auto", "required"))


def _response_format(fields: Fields) -> dict[str, Any] | None:
    wanted = fields.object("response_format")
    if wanted is None:
        return None
    kind = wanted.choice("type", ("text", "json_object", "json_schema"), required=True)
    if kind == "text":
        return None
    value: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        value["json_schema"] = wanted.raw("json_schema")
        described = wanted.object("json_schema")
        if described is None or described.object("schema") is None:
            refuse("response_format.json_schema", _("This field is required."))
        described.required_text("name", most=_MOST_NAME)
    wanted.refuse_others()
    return value
