"""What the descriptions of several doors of answers share."""

from typing import Literal, TypedDict

from drf_spectacular.utils import OpenApiParameter

from llmsite.core.errors import (
    BudgetExhausted,
    ContextLengthExceeded,
    DiskFull,
    EmbedderUnavailable,
    Interrupted,
    ModelNotAllowed,
    ModelNotFound,
    NotFound,
    ProviderFailure,
    SearchIncomplete,
    ServerRestarting,
    UnsupportedParameter,
)
from llmsite.core.schema import events

TAG = "Questions and answers"
TAG_CONVERSATIONS = "Conversations"
TAG_MODELS = "Models"

ASKING = (
    ModelNotFound,
    ModelNotAllowed,
    ContextLengthExceeded,
    UnsupportedParameter,
    BudgetExhausted,
    ServerRestarting,
    Interrupted,
    ProviderFailure,
    NotFound,
    EmbedderUnavailable,
    SearchIncomplete,
    DiskFull,
)
"""How a question to a model may fail."""

EVENTS = events(
    "`started`, `sources` of documents, a `delta` for each piece, and `finished` or `failure` last; "
    "each event's `id` is its number.",
    "id",
    "event",
    "data",
)

ANSWER_HEADERS = {
    "X-Llmsite-Cache": "Where the answer comes from: `hit-verified`, `hit-l1`, `hit-l2`, `hit-l3` or `miss`.",
    "X-Llmsite-Similarity": "With `hit-l3`, the cosine to the question that was answered before.",
    "X-Llmsite-Model": "The model that answers.",
    "X-Llmsite-Fallbacks": "How many models failed before it.",
    "X-Llmsite-Cost": "What a whole answer cost, as a decimal in the site's currency; 0 from the cache.",
}

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description="Of requests with the same key within a day one asks, and all get its answer.",
)
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID",
    {"type": "string", "pattern": "^[0-9]{1,9}$"},
    OpenApiParameter.HEADER,
    description="The number of the last event that you have.",
)

CacheLevel = Literal["verified", "l1", "l2", "l3"]


class Usage(TypedDict):
    input_tokens: int | None
    output_tokens: int | None


class Source(TypedDict):
    """A passage that the answer was given, which it cites as `[n]`.

    Its text is empty once its document is deleted or replaced, and where it is `withheld`: you may
    not read it any more.
    """

    n: int
    document: str
    version: str
    collection: str
    title: str
    page: int | None
    start: int
    end: int
    text: str
    score: float
    withheld: bool


class Reply(TypedDict):
    """A whole answer."""

    id: str
    text: str
    model: str
    provider: str
    cache: CacheLevel | None
    usage: Usage
    cost: str
    latency_ms: int | None
    time_to_first_token_ms: int | None
    finish_reason: str
    dropped_parameters: list[str]
    context_trimmed: bool
    sources: list[Source]
    message: str
    conversation: str


class Stopped(TypedDict):
    id: str
    status: Literal["queued", "streaming", "finished", "stopped", "cut", "interrupted", "failed"]
