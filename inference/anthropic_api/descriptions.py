"""Bodies and answers of Anthropic's API as JSON schemas: the part of them that these doors take and give."""

from inference.anthropic_api.questions import MOST_STOP_STRINGS, MOST_TOKENS, MOST_TOOLS
from inference.openai_api.descriptions import COLLECTION, OURS
from llmsite.core.json_schema import (
    COUNT,
    FLAG,
    FREE_OBJECT,
    IGNORED,
    NULL,
    TEXT,
    TEXT_OR_NULL,
    answer,
    body,
    constant,
    list_of,
    number,
    one_of,
    part,
    text,
)

TAG = "Anthropic's API"

_NAME = text(most=200)
_PASSED_OVER = {"cache_control": IGNORED, "citations": IGNORED, "caller": IGNORED}
_TEXT_BLOCK = body("type", "text", type=constant("text"), text=TEXT, **_PASSED_OVER)
_TOOL_RESULT = body(
    "type",
    "tool_use_id",
    type=constant("tool_result"),
    tool_use_id=_NAME,
    content=one_of(TEXT_OR_NULL, list_of(_TEXT_BLOCK)),
    is_error=FLAG,
    **_PASSED_OVER,
)
_TOOL_USE = body(
    "type",
    "id",
    "name",
    "input",
    type=constant("tool_use"),
    id=_NAME,
    name=_NAME,
    input=FREE_OBJECT,
    **_PASSED_OVER,
)
_THOUGHT = part("type", type=constant("thinking", "redacted_thinking"))
_MESSAGE = one_of(
    body(
        "role",
        "content",
        role=constant("user"),
        content=one_of(TEXT, list_of(one_of(_TEXT_BLOCK, _TOOL_RESULT))),
    ),
    body(
        "role",
        "content",
        role=constant("assistant"),
        content=one_of(TEXT, list_of(one_of(_TEXT_BLOCK, _TOOL_USE, _THOUGHT))),
    ),
)
_TOOL = body(
    "name",
    "input_schema",
    name=_NAME,
    input_schema=FREE_OBJECT,
    description=TEXT_OR_NULL,
    type=constant("custom", None),
    strict=FLAG,
    cache_control=IGNORED,
)
_TOOL_CHOICE = one_of(
    NULL,
    body(
        "type",
        type=constant("auto", "any", "none", "tool"),
        name={**TEXT_OR_NULL, "maxLength": 200},
        disable_parallel_tool_use=FLAG,
    ),
)
_OUTPUT = one_of(
    NULL,
    body(
        format=one_of(NULL, body("type", "schema", type=constant("json_schema"), schema=FREE_OBJECT)),
        effort=NULL,
    ),
)
_PROMPT = {
    "model": {**_NAME, "description": "An `id` of `GET /v1/models`."},
    "messages": list_of(_MESSAGE, least=1),
    "system": one_of(TEXT_OR_NULL, list_of(_TEXT_BLOCK)),
    "tools": list_of(_TOOL, most=MOST_TOOLS, may_be_null=True),
    "tool_choice": _TOOL_CHOICE,
    "output_config": _OUTPUT,
    "thinking": constant(None, {"type": "disabled"}),
    "metadata": IGNORED,
    "service_tier": IGNORED,
    "cache_control": IGNORED,
}

MESSAGES_REQUEST = body(
    "model",
    "messages",
    "max_tokens",
    **_PROMPT,
    max_tokens={"type": "integer", "minimum": 1, "maximum": MOST_TOKENS},
    temperature=number(0, 1),
    top_p=number(1e-6, 1),
    stop_sequences=one_of(NULL, text(most=200), list_of(text(most=200), most=MOST_STOP_STRINGS)),
    stream=FLAG,
    collection=COLLECTION,
    use_cache={**FLAG, "description": "`false` asks for a fresh answer, as `Cache-Control: no-cache` does."},
)
COUNT_TOKENS_REQUEST = body("model", "messages", **_PROMPT)

MESSAGE = answer(
    id=TEXT,
    type=constant("message"),
    role=constant("assistant"),
    model=TEXT,
    content=list_of(
        one_of(
            answer(type=constant("text"), text=TEXT),
            answer(type=constant("tool_use"), id=TEXT, name=TEXT, input=FREE_OBJECT),
        )
    ),
    stop_reason=constant("end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"),
    stop_sequence=TEXT_OR_NULL,
    usage=answer(
        input_tokens=COUNT,
        output_tokens=COUNT,
        cache_creation_input_tokens=COUNT,
        cache_read_input_tokens=COUNT,
    ),
    llmsite=OURS,
)
TOKENS = answer(input_tokens=COUNT)
