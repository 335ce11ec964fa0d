"""What programs send and get: input checked into typed values, rows turned into JSON."""

from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.validators import ProhibitSurrogateCharactersValidator

from accounts.models import ApiKey, User
from inference.ask import Ask, Grounding, Idempotency, Sampling
from inference.grounding.rows import grounds_of
from inference.models import ChatModelConfig, Conversation, Generation, Message, Role
from inference.providers import is_configured, provider_name
from inference.replies import told_grounds
from llmsite.core.errors import TooLarge
from llmsite.core.json_schema import list_of, one_of, text
from llmsite.core.logs import request_id
from llmsite.core.serializers import RefusesUnknownFields, StrictSerializer

MAX_STOP_STRINGS = 8
_STOP_STRING = text(most=200)


class QuickSurrogates(ProhibitSurrogateCharactersValidator):
    """The same check without a step of Python for each character, of which a prompt may have 200,000."""

    def __call__(self, value: Any) -> None:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            super().__call__(value)


def _is_slow(validator: object) -> bool:
    return type(validator) is ProhibitSurrogateCharactersValidator


class PromptField(serializers.CharField):
    """A question: not empty, of limited length, text as it was written."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)
        self.validators = [QuickSurrogates() if _is_slow(one) else one for one in self.validators]

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        text = super().to_internal_value(data)
        if not text.strip():
            self.fail("blank")
        if len(text) > settings.MAX_PROMPT_CHARACTERS:
            raise TooLarge(field=self.field_name, limit=settings.MAX_PROMPT_CHARACTERS, unit=_("characters"))
        return text


@extend_schema_field(one_of(_STOP_STRING, list_of(_STOP_STRING, most=MAX_STOP_STRINGS)))
class StopField(serializers.ListField):
    """One stop string or a list of them."""

    child = serializers.CharField(max_length=200, trim_whitespace=False)

    def to_internal_value(self, data: Any) -> list[str]:
        return super().to_internal_value([data] if isinstance(data, str) else data)


class SamplingSerializer(StrictSerializer):
    max_tokens = serializers.IntegerField(required=False, min_value=1, max_value=1_000_000)
    temperature = serializers.FloatField(required=False, min_value=0, max_value=2)
    top_p = serializers.FloatField(required=False, min_value=1e-6, max_value=1)
    stop = StopField(required=False, max_length=MAX_STOP_STRINGS)
    seed = serializers.IntegerField(required=False, min_value=-(2**63), max_value=2**63 - 1)


def sampling_of(values: dict[str, Any]) -> Sampling:
    """The part of a serializer's values that is sampling."""
    return Sampling(
        max_tokens=values.get("max_tokens"),
        temperature=values.get("temperature"),
        top_p=values.get("top_p"),
        stop=tuple(values.get("stop", ())),
        seed=values.get("seed"),
    )


def grounding_of(values: dict[str, Any]) -> Grounding | None:
    """The documents that are to answer; None where no collection is named."""
    collection = values.get("collection")
    return Grounding(collection=collection) if collection else None


class PredictSerializer(SamplingSerializer):
    prompt = PromptField()
    model = serializers.CharField(required=False, max_length=100)
    provider = serializers.CharField(required=False, max_length=50)
    system = serializers.CharField(
        required=False, max_length=100_000, allow_blank=True, trim_whitespace=False
    )
    conversation = serializers.UUIDField(required=False)
    collection = serializers.UUIDField(required=False, allow_null=True)
    use_cache = serializers.BooleanField(required=False)

    def to_internal_value(self, data: Any) -> Any:
        # The name that older clients use for the same thing.
        if isinstance(data, dict) and "max_length" in data:
            data = {"max_tokens": data["max_length"], **data}
            del data["max_length"]
        return super().to_internal_value(data)

    def validate_provider(self, value: str) -> str:
        return provider_name(value)


def read_ask(
    data: Any,
    user: User,
    *,
    door: str,
    listed: bool,
    api_key: ApiKey | None = None,
    idempotency: Idempotency | None = None,
) -> Ask:
    """The question in `data`, with the fields of `PredictSerializer`. Raises ValidationError, TooLarge."""
    values = PredictSerializer.read(data)
    return Ask(
        user=user,
        api_key=api_key,
        door=door,
        prompt=values["prompt"],
        model=values.get("model"),
        provider=values.get("provider"),
        system=values.get("system"),
        conversation=values.get("conversation"),
        grounding=grounding_of(values),
        sampling=sampling_of(values),
        use_cache=values.get("use_cache", True),
        idempotency=idempotency,
        listed=listed,
        request_id=request_id.get() or "",
    )


class NewMessageSerializer(SamplingSerializer):
    prompt = PromptField(required=False)
    model = serializers.CharField(required=False, max_length=100)
    parent = serializers.UUIDField(required=False, allow_null=True)  # type: ignore[assignment]
    regenerate = serializers.UUIDField(required=False)
    collection = serializers.UUIDField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("prompt" in attrs) == ("regenerate" in attrs):
            raise serializers.ValidationError(
                {"prompt": _("Send either a prompt or the answer to regenerate.")}
            )
        return attrs


class ConversationSerializer(RefusesUnknownFields, serializers.ModelSerializer[Conversation]):
    model = serializers.CharField(required=False, max_length=100)

    class Meta:
        model = Conversation
        fields = ("id", "title", "model", "created_at", "updated_at")
        read_only_fields = ("id", "created_at", "updated_at")

    def validate_title(self, value: str) -> str:
        if not value and self.instance is not None:
            raise serializers.ValidationError(_("A title has at least one character."))
        return value

    def validate_model(self, value: str) -> str:
        return ChatModelConfig.objects.named(value).alias


class SourceSerializer(serializers.Serializer[Any]):
    """A passage that an answer was given, which it cites as `[n]`.

    Its text is empty once its document is deleted or replaced, and where it is `withheld`: you may
    not read it any more.
    """

    n = serializers.IntegerField()
    document = serializers.UUIDField()
    version = serializers.UUIDField()
    collection = serializers.UUIDField()
    title = serializers.CharField()
    page = serializers.IntegerField(allow_null=True)
    start = serializers.IntegerField()
    end = serializers.IntegerField()
    text = serializers.CharField()
    score = serializers.FloatField()
    withheld = serializers.BooleanField()


class GroundingSerializer(serializers.Serializer[Any]):
    """How documents have answered."""

    answered = serializers.BooleanField()
    extract = serializers.BooleanField()
    confidence = serializers.FloatField()
    sources = SourceSerializer(many=True)


class GenerationSerializer(serializers.ModelSerializer[Generation]):
    model = serializers.CharField(source="model_alias")
    requested_model = serializers.SerializerMethodField()
    usage = serializers.SerializerMethodField()
    cost = serializers.CharField()
    cache = serializers.SerializerMethodField()
    grounding = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = Generation
        fields = (
            "id",
            "status",
            "model",
            "requested_model",
            "provider",
            "finish_reason",
            "usage",
            "cost",
            "cache",
            "latency_ms",
            "time_to_first_token_ms",
            "context_trimmed",
            "dropped_parameters",
            "grounding",
            "error",
        )

    def get_requested_model(self, row: Generation) -> str | None:
        """The model that was asked, where another one has answered in its place."""
        return row.requested_model or None

    def get_usage(self, row: Generation) -> dict[str, int | None] | None:
        return None if row.input_tokens is None else row.usage

    def get_cache(self, row: Generation) -> str | None:
        """The level of the cache that the answer came from."""
        return row.cache or None

    @extend_schema_field(GroundingSerializer(allow_null=True))
    def get_grounding(self, row: Generation) -> dict[str, Any] | None:
        """What it stands on, where documents were asked."""
        grounds = grounds_of(row)
        return told_grounds(grounds) if grounds else None

    def get_error(self, row: Generation) -> dict[str, str] | None:
        return {"code": row.error_code, "message": row.error_message} if row.error_code else None


class MessageSerializer(serializers.ModelSerializer[Message]):
    generation = serializers.SerializerMethodField()

    class Meta:
        model = Message
        fields = ("id", "conversation", "parent", "role", "content", "created_at", "generation")

    @extend_schema_field(GenerationSerializer(allow_null=True))
    def get_generation(self, row: Message) -> dict[str, Any] | None:
        if row.role != Role.ASSISTANT:
            return None
        return GenerationSerializer(row.generation).data


class ModelSerializer(serializers.ModelSerializer[ChatModelConfig]):
    available = serializers.SerializerMethodField()

    class Meta:
        model = ChatModelConfig
        fields = (
            "alias",
            "label",
            "provider",
            "context_window",
            "max_tokens",
            "input_price",
            "output_price",
            "is_default",
            "available",
        )

    def get_available(self, row: ChatModelConfig) -> bool:
        return is_configured(row.provider)


class StaffModelSerializer(ModelSerializer):
    """A model as those see it who look after it. Each row has `circuit` (inference.model_states)."""

    sometimes = ("fallbacks", "circuit")
    fallbacks = serializers.SerializerMethodField()
    circuit = serializers.SerializerMethodField()

    class Meta(ModelSerializer.Meta):
        fields = (*ModelSerializer.Meta.fields, "fallbacks", "circuit")  # type: ignore[assignment]

    def get_fallbacks(self, row: ChatModelConfig) -> list[str]:
        return [link.fallback.alias for link in row.chain.all()]

    def get_circuit(self, row: Any) -> dict[str, Any] | None:
        """Null while nothing has failed lately."""
        if row.circuit is None:
            return None
        retry_at = row.circuit.retry_at
        return {
            "state": row.circuit.state,
            "code": row.circuit.code,
            "failures": row.circuit.failures,
            "retry_at": retry_at and retry_at.isoformat(),
        }


class DefaultModelSerializer(StrictSerializer):
    """The model to be asked where nobody names one."""

    provider = serializers.CharField(max_length=50)
    model = serializers.CharField(max_length=100)

    def validate_provider(self, value: str) -> str:
        return provider_name(value)
