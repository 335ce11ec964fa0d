"""`POST /api/query`: a question to documents, and an answer that says how sure it is."""

import json
import time
from typing import Any, TypedDict

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.credentials import Credential, arequire_caller
from accounts.models import Scope
from inference.ask import Ask, Grounding
from inference.descriptions import ANSWER_HEADERS, ASKING, CacheLevel, Source
from inference.events import Failed, Finished
from inference.grounding.grounds import Grounds
from inference.pipeline import Completion
from inference.predict import complete_while_signed_in
from inference.replies import llmsite_headers
from inference.serializers import PromptField
from inference.together import heed_cache_control
from llmsite.core.errors import told
from llmsite.core.json_schema import FREE_OBJECT
from llmsite.core.logs import request_id
from llmsite.core.rest import envelope, json_door, json_response, read_json
from llmsite.core.schema import documented
from llmsite.core.serializers import StrictSerializer

MOST_QUESTION = 500
MOST_METADATA = 4096
"""Characters, as JSON."""
_VERIFIED = Grounds(kind="passages", confidence=1.0)
"""What an answer stands on that a curator has verified: nobody looked for passages."""


@extend_schema_field(FREE_OBJECT)
class MetadataField(serializers.DictField):
    """What a program wants to find with the answer later."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        values = super().to_internal_value(data)
        if len(json.dumps(values, ensure_ascii=False)) > MOST_METADATA:
            reason = _("At most %(most)s characters of JSON are kept.") % {"most": MOST_METADATA}
            raise serializers.ValidationError(reason)
        return values


class QuerySerializer(StrictSerializer):
    question = PromptField(max_length=MOST_QUESTION)
    collection = serializers.UUIDField(required=False, allow_null=True)
    user_id = serializers.CharField(required=False, allow_null=True, max_length=200)
    use_cache = serializers.BooleanField(default=True)
    language = serializers.RegexField(r"^[A-Za-z]{2}([-_][A-Za-z]{2,4})?$", required=False, allow_null=True)
    detail = serializers.ChoiceField(("brief", "full"), default="brief")
    metadata = MetadataField(required=False, allow_null=True)


class Answer(TypedDict):
    """What the documents say. `answered` is false where they say nothing; then there are no sources.

    `confidence_score` is how likely they have an answer. `extract` is true where the answer is sentences of
    theirs, because the model does not speak the language of the question; no model was used then. An answer
    that a curator has verified (`cache_level` is `verified`) comes without sources and without a model.
    """

    id: str
    message: str
    answer: str
    sources: list[Source]
    answered: bool
    extract: bool
    confidence_score: float
    model_used: str | None
    tokens_used: int
    cache_hit: bool
    cache_level: CacheLevel | None
    latency_ms: int
    timestamp: str


@documented(
    "Ask documents",
    tag="Documents",
    scope=(Scope.CHAT, Scope.DOCUMENTS),
    takes=QuerySerializer,
    example={"question": "How many points did the Panthers give up?"},
    gives=Answer,
    fails=ASKING,
    headers=ANSWER_HEADERS,
)
@json_door("POST")
async def query(request: HttpRequest) -> HttpResponseBase:
    """An answer from one collection, or without `collection` from yours and your teams', with its sources.

    `user_id` and `metadata` are kept with the answer, and change nothing.
    """
    began = time.monotonic()
    credential = await arequire_caller(request, Scope.CHAT)
    credential.require(Scope.DOCUMENTS)  # As every door does that names documents, but before it reads.
    completion = await complete_while_signed_in(_read_ask(request, credential), credential)
    if isinstance(completion.end, Failed):
        return envelope(told(completion.end.code, completion.end.message))
    headers = llmsite_headers([completion.started], cost=completion.end.cost)
    latency_ms = round((time.monotonic() - began) * 1000)
    return json_response(_answer(completion, completion.end, latency_ms), headers=headers)


def _read_ask(request: HttpRequest, credential: Credential) -> Ask:
    values = QuerySerializer.read(read_json(request))
    labels = {name: values[name] for name in ("user_id", "metadata") if values.get(name)}
    ask = Ask(
        user=credential.user,
        api_key=credential.api_key,
        door="query",
        prompt=values["question"],
        grounding=Grounding(
            collection=values.get("collection"),
            detail=values["detail"],
            language=(values.get("language") or "").lower(),
        ),
        labels=labels,
        use_cache=values["use_cache"],
        listed=False,
        request_id=request_id.get() or "",
    )
    return heed_cache_control(ask, request.META.get("HTTP_CACHE_CONTROL"))


def _answer(completion: Completion, end: Finished, latency_ms: int) -> Answer:
    started, grounds = completion.started, completion.grounds or _VERIFIED
    asked_a_model = grounds.kind == "passages" and grounds is not _VERIFIED
    return Answer(
        id=started.generation,
        message=started.message,
        answer=completion.text,
        sources=grounds.told_sources(),  # type: ignore[typeddict-item]
        answered=grounds.answered,
        extract=grounds.extract,
        confidence_score=grounds.confidence,
        model_used=started.model if asked_a_model else None,
        tokens_used=0 if end.cache else sum(tokens or 0 for tokens in end.usage.values()),
        cache_hit=end.cache is not None,
        cache_level=end.cache,  # type: ignore[typeddict-item]
        latency_ms=latency_ms,
        timestamp=timezone.now().isoformat(),
    )
