"""Bodies and answers of OpenAI's API as JSON schemas: the part of them that these doors take and give."""

from inference.openai_api.questions import (
    MOST_CHOICES,
    MOST_SEED,
    MOST_STOP_STRINGS,
    MOST_TOKENS,
    MOST_TOOLS,
)
from llmsite.core.json_schema import (
    COUNT,
    FLAG,
    FREE_OBJECT,
    IGNORED,
    NULL,
    TEXT,
    TEXT_OR_NULL,
    Json,
    answer,
    body,
    constant,
    list_of,
    number,
    one_of,
    part,
    text,
    whole,
)

TAG = "OpenAI's API"

# --- Chat completions ------------------------------------------------------------------------------

_NAME: Json = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_ID = text(most=200)
_MODEL = {**_ID, "description": "An `id` of `GET /v1/models`."}
_PART = one_of(
    body("type", "text", type=constant("text"), text=TEXT),
    body("type", "refusal", type=constant("refusal"), refusal=TEXT),
)
_PASSED_OVER = {"name": IGNORED, "refusal": IGNORED, "annotations": IGNORED}
_TURN = body(
    "role",
    "content",
    role=constant("developer", "system", "user"),
    content=one_of(TEXT, list_of(_PART)),
    **_PASSED_OVER,
)
_TOOL_TURN = body(
    "role",
    "content",
    "tool_call_id",
    role=constant("tool"),
    content=one_of(TEXT, list_of(_PART)),
    tool_call_id=_ID,
    **_PASSED_OVER,
)
_TOOL_CALL = body(
    "id",
    "type",
    "function",
    id=_ID,
    type=constant("function"),
    function=body("name", name=_NAME, arguments=TEXT_OR_NULL),
    index=IGNORED,
)
_ASSISTANT_TURN = body(
    "role",
    role=constant("assistant"),
    content=one_of(TEXT_OR_NULL, list_of(_PART)),
    tool_calls=list_of(_TOOL_CALL, may_be_null=True),
    audio=NULL,
    function_call=NULL,
    **_PASSED_OVER,
)
_TOOL = body(
    "type",
    "function",
    type=constant("function"),
    function=body(
        "name", name=_NAME, description=TEXT_OR_NULL, parameters={"type": ["object", "null"]}, strict=FLAG
    ),
)
_TOOL_CHOICE = one_of(
    constant(None, "none", "auto", "required"),
    body("type", "function", type=constant("function"), function=body("name", name=_NAME)),
)
_RESPONSE_FORMAT = one_of(
    NULL,
    part("type", type=constant("text")),
    body("type", type=constant("json_object")),
    body(
        "type",
        "json_schema",
        type=constant("json_schema"),
        json_schema=part("name", "schema", name=_ID, schema=FREE_OBJECT),
    ),
)
_STOP_STRING = text(most=200)

COLLECTION = {
    "type": ["string", "null"],
    "format": "uuid",
    "description": "The `id` of a collection: its documents answer, and `llmsite` has `sources`.",
}

CHAT_COMPLETION_REQUEST = body(
    "model",
    "messages",
    model=_MODEL,
    messages=list_of(one_of(_TURN, _ASSISTANT_TURN, _TOOL_TURN), least=1),
    stream=FLAG,
    stream_options=one_of(NULL, body(include_usage=FLAG, include_obfuscation=IGNORED)),
    n=whole(1, MOST_CHOICES),
    max_completion_tokens=whole(1, MOST_TOKENS),
    max_tokens=whole(1, MOST_TOKENS),
    temperature=number(0, 2),
    top_p=number(0, 1),
    presence_penalty=number(-2, 2),
    frequency_penalty=number(-2, 2),
    seed=whole(-MOST_SEED, MOST_SEED),
    stop=one_of(NULL, _STOP_STRING, list_of(_STOP_STRING, most=MOST_STOP_STRINGS)),
    tools=list_of(_TOOL, most=MOST_TOOLS, may_be_null=True),
    tool_choice=_TOOL_CHOICE,
    parallel_tool_calls=FLAG,
    response_format=_RESPONSE_FORMAT,
    use_cache={**FLAG, "description": "`false` asks for a fresh answer, as `Cache-Control: no-cache` does."},
    collection=COLLECTION,
    logprobs=constant(False, None),
    top_logprobs=constant(0, None),
    logit_bias=constant({}, None),
    modalities=constant(["text"], None),
    user=IGNORED,
    metadata=IGNORED,
    store=IGNORED,
    safety_identifier=IGNORED,
    prompt_cache_key=IGNORED,
    prompt_cache_retention=IGNORED,
    service_tier=IGNORED,
)

OURS = {
    **answer(
        cache={
            **constant("verified", "l1", "l2", "l3", None),
            "description": "The level of the cache it comes from; `verified` where a curator wrote it.",
        },
        cost={**TEXT, "description": "A decimal in the site's currency."},
        dropped_parameters=list_of(TEXT),
        context_trimmed={"type": "boolean", "description": "Old turns were left out, to fit the model."},
    ),
    "description": "How it was answered; with `requested_model` where another model has answered, and with "
    "`sources`, `answered`, `extract` and `confidence` where documents were asked.",
}
_ANSWERED_CALL = answer(id=TEXT, type=constant("function"), function=answer(name=TEXT, arguments=TEXT))
_CHOICE = answer(
    index=COUNT,
    message=part(
        "role",
        "content",
        "refusal",
        role=constant("assistant"),
        content=TEXT_OR_NULL,
        refusal=TEXT_OR_NULL,
        tool_calls=list_of(_ANSWERED_CALL),
    ),
    logprobs=NULL,
    finish_reason=constant("stop", "length", "tool_calls", "content_filter"),
)
CHAT_COMPLETION = answer(
    id=TEXT,
    object=constant("chat.completion"),
    created=COUNT,
    model=TEXT,
    choices=list_of(_CHOICE),
    usage=answer(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT),
    llmsite=OURS,
)

# --- Models and embeddings -------------------------------------------------------------------------

MODEL = answer(
    id=TEXT, object=constant("model"), created=COUNT, owned_by=TEXT, root=TEXT, parent=TEXT_OR_NULL
)
MODELS = answer(object=constant("list"), data=list_of(MODEL))
_MODEL_FOR_ANTHROPIC = answer(
    type=constant("model"),
    id=TEXT,
    display_name=TEXT,
    created_at=TEXT,
    lifecycle=constant("active"),
    max_input_tokens=COUNT,
)
_MODELS_FOR_ANTHROPIC = answer(
    data=list_of(_MODEL_FOR_ANTHROPIC),
    has_more=constant(False),
    first_id=TEXT_OR_NULL,
    last_id=TEXT_OR_NULL,
)
MODEL_OF_BOTH = one_of(MODEL, _MODEL_FOR_ANTHROPIC)
MODELS_OF_BOTH = one_of(MODELS, _MODELS_FOR_ANTHROPIC)

EMBEDDING_REQUEST = body(
    "model",
    "input",
    model=_MODEL,
    input=one_of(text(), list_of(text(), least=1, most=2048)),
    encoding_format=constant("float", "base64", None),
    kind={**constant("query", "passage", None), "description": "What the texts are, for models that ask."},
    dimensions=whole(1, 1_000_000),
    user=IGNORED,
)
EMBEDDINGS = answer(
    object=constant("list"),
    data=list_of(
        answer(
            object=constant("embedding"),
            index=COUNT,
            embedding=one_of(list_of({"type": "number"}), {**TEXT, "contentEncoding": "base64"}),
        )
    ),
    model=TEXT,
    usage=answer(prompt_tokens=COUNT, total_tokens=COUNT),
    llmsite=answer(truncated=COUNT),
)
