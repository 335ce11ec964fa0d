"""Evaluations, promotions and roll-backs as REST resources, for operators."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import HasScope, credential_of, user_of
from accounts.forms import PASSWORD_LENGTH
from accounts.models import Scope
from accounts.passwords import confirm_in_form
from inference.models import ChatModelConfig
from llmsite.core.errors import (
    EvaluationRefused,
    InvalidInput,
    ModelNotFound,
    NotFound,
    PromotionRefused,
    ProviderNotConfigured,
)
from llmsite.core.paging import KeysetPagination
from llmsite.core.schema import documented
from llmsite.core.serializers import StrictSerializer
from training import gate
from training.evaluation import ask_for, failure_sentence, state_of
from training.models import Evaluation, Promotion, TrainingRun
from training.promotion import converge, promote, rollback

TAG_TRAINING = "Training"


class TrainingView(APIView):
    permission_classes = (HasScope,)
    scope = Scope.TRAIN

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """A method that the address does not take is told so before anybody is asked for their rights."""
        if request.method not in self.allowed_methods:
            self.http_method_not_allowed(request)
        super().initial(request, *args, **kwargs)


class NewestFirst(KeysetPagination):
    ordering = ("-created_at", "-id")


# --- What programs send and get ------------------------------------------------------------------------


class NewEvaluationSerializer(StrictSerializer):
    run = serializers.UUIDField()
    judge = serializers.CharField(
        required=False, max_length=100, help_text="The alias of a model that compares answers to corrections."
    )
    thresholds = serializers.DictField(
        required=False, help_text="What the gate asks for, in place of its usual numbers."
    )


class ReasonSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()


class EvaluationSerializer(serializers.ModelSerializer[Evaluation]):
    status = serializers.SerializerMethodField()
    reasons = serializers.SerializerMethodField(help_text="What keeps it back.")
    error = serializers.SerializerMethodField(help_text="Why it could not be made.")

    class Meta:
        model = Evaluation
        fields = (
            "id",
            "run",
            "judge",
            "status",
            "passed",
            "results",
            "thresholds",
            "reasons",
            "error",
            "created_at",
            "ended_at",
        )
        extra_kwargs = {"passed": {"allow_null": True}}

    def get_status(self, evaluation: Evaluation) -> str:
        return state_of(evaluation)

    def get_reasons(self, evaluation: Evaluation) -> list[dict[str, Any]]:
        return [{**reason, "message": gate.sentence(reason)} for reason in evaluation.reasons]

    def get_error(self, evaluation: Evaluation) -> dict[str, Any] | None:
        if not evaluation.error_code:
            return None
        return {"code": evaluation.error_code, "message": failure_sentence(evaluation)}


class ModelNameSerializer(StrictSerializer):
    model = serializers.CharField(
        required=False, max_length=100, help_text="The alias that is moved; without, the first that fits."
    )


class PromoteSerializer(ModelNameSerializer):
    password = serializers.CharField(
        required=False,
        max_length=PASSWORD_LENGTH,
        trim_whitespace=False,
        write_only=True,
        help_text="Yours once more, where you have signed in with it; a key needs none.",
    )


class PromotionSerializer(serializers.ModelSerializer[Promotion]):
    model = serializers.CharField(source="model.alias")
    adapter = serializers.CharField(
        source="adapter.name", default=None, allow_null=True, help_text="Null is the base model alone."
    )
    previous = serializers.CharField(source="previous.name", default=None, allow_null=True)
    run = serializers.UUIDField(source="adapter.run", default=None, allow_null=True)
    error = serializers.CharField(source="reason", help_text="Why it failed, or why nobody has asked for it.")

    class Meta:
        model = Promotion
        fields = (
            "id",
            "model",
            "adapter",
            "previous",
            "run",
            "is_rollback",
            "status",
            "error",
            "created_at",
            "live_at",
        )


# --- Doors ---------------------------------------------------------------------------------------------


class EvaluationListView(TrainingView, generics.ListAPIView[Evaluation]):
    serializer_class = EvaluationSerializer
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[Evaluation]:
        rows = Evaluation.objects.all()
        if (run := self.request.query_params.get("run")) is not None:
            rows = rows.filter(run=_uuid(run, field="run"))
        return rows

    @documented("Evaluations", tag=TAG_TRAINING, gives=EvaluationSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The newest first; `?run=` are those of one run."""
        return super().get(request, *args, **kwargs)

    @documented(
        "Evaluate a run",
        tag=TAG_TRAINING,
        takes=NewEvaluationSerializer,
        example={"run": "0198f4d2-6f3c-7c3e-8a50-000000000000", "judge": "claude-sonnet"},
        gives={202: EvaluationSerializer},
        fails=(EvaluationRefused, ModelNotFound, ProviderNotConfigured, NotFound),
    )
    def post(self, request: Request) -> Response:
        """The trainer's process makes it: the model before and after the run, and what the gate says."""
        values = NewEvaluationSerializer.read(request.data)
        run = run_of(values["run"])
        made = ask_for(
            run,
            user=user_of(request),
            judge=values.get("judge", ""),
            thresholds=values.get("thresholds"),
        )
        return Response(EvaluationSerializer(made).data, status=status.HTTP_202_ACCEPTED)


class EvaluationView(TrainingView):
    @documented("One evaluation", tag=TAG_TRAINING, gives=EvaluationSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        found = Evaluation.objects.filter(pk=pk).first()
        if found is None:
            raise NotFound
        return Response(EvaluationSerializer(found).data)


class PromotionListView(TrainingView, generics.ListAPIView[Promotion]):
    serializer_class = PromotionSerializer
    pagination_class = NewestFirst
    queryset = Promotion.objects.select_related("model", "adapter", "previous")

    @documented("Promotions and roll-backs", tag=TAG_TRAINING, gives=PromotionSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The newest first. `loading` waits for the engine processes, `live` is in force."""
        # Where no model process lives, whoever looks is the one to see that it took too long.
        converge()
        return super().get(request, *args, **kwargs)


class PromoteView(TrainingView):
    @documented(
        "Put what a run has learned before users",
        tag=TAG_TRAINING,
        takes=PromoteSerializer,
        example={"model": "smollm2-135m-instruct"},
        gives={202: PromotionSerializer},
        fails=(PromotionRefused, ModelNotFound),
    )
    def post(self, request: Request, pk: UUID) -> Response:
        """The model answers with it as soon as every engine process has loaded it."""
        values = PromoteSerializer.read(request.data)
        if credential_of(request).session is not None:
            confirm_in_form(user_of(request), values.get("password", ""))
        model = _model(values)
        made = promote(run_of(pk), user=user_of(request), model=model)
        return Response(PromotionSerializer(made).data, status=status.HTTP_202_ACCEPTED)


class RollbackView(TrainingView):
    @documented(
        "Put back what stood behind a model before",
        tag=TAG_TRAINING,
        takes=ModelNameSerializer,
        example={"model": "smollm2-135m-instruct"},
        gives={202: PromotionSerializer},
        fails=(PromotionRefused, ModelNotFound),
    )
    def post(self, request: Request) -> Response:
        """A promotion that is under way is called off; its answer is that promotion, `failed`."""
        model = _model(ModelNameSerializer.read(request.data))
        made = rollback(user=user_of(request), model=model)
        return Response(PromotionSerializer(made).data, status=status.HTTP_202_ACCEPTED)


def run_of(pk: UUID) -> TrainingRun:
    """Raises NotFound."""
    run = TrainingRun.objects.select_related("version__dataset").filter(pk=pk).first()
    if run is None:
        raise NotFound
    return run


def _model(values: dict[str, Any]) -> ChatModelConfig | None:
    return ChatModelConfig.objects.named(values["model"]) if "model" in values else None


def _uuid(text: str, *, field: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(field=field, reason=_("This is no id.")) from None
