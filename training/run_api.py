"""Training runs and what they log, as REST resources, for operators."""

from dataclasses import fields
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import user_of
from llmsite.core.errors import DatasetDamaged, DatasetWithdrawn, InvalidInput, NotFound, RunRefused
from llmsite.core.paging import KeysetPagination
from llmsite.core.schema import documented
from llmsite.core.serializers import StrictSerializer
from training import failures
from training.datasets import access_dataset, version_of
from training.models import Metric, RunStatus, TrainingRun
from training.progress import progress_of
from training.promotion_api import TAG_TRAINING, NewestFirst, TrainingView, run_of
from training.settings import LIMITS, RunSettings
from training.starting import cancel, start_run

# --- What programs send and get ----------------------------------------------------------------------


def _setting(name: str, kind: Any) -> serializers.Field[Any, Any, Any, Any]:
    default = getattr(RunSettings(), name)
    text = f"{default} by default."
    if kind is bool:
        return serializers.BooleanField(required=False, help_text=text)
    least, most = LIMITS[name]
    if kind is int:
        return serializers.IntegerField(
            required=False, min_value=int(least), max_value=int(most), help_text=text
        )
    return serializers.FloatField(required=False, min_value=least, max_value=most, help_text=text)


RunSettingsSerializer = type(
    "RunSettingsSerializer",
    (StrictSerializer,),
    {field.name: _setting(field.name, field.type) for field in fields(RunSettings)},
)
"""A field for each of RunSettings, with its limits."""


class NewRunSerializer(StrictSerializer):
    dataset = serializers.UUIDField()
    version = serializers.IntegerField(
        required=False, min_value=1, help_text="Its number; without, the newest that may be used."
    )
    name = serializers.CharField(required=False, max_length=100)
    settings = RunSettingsSerializer(required=False)


class RunSerializer(serializers.ModelSerializer[TrainingRun]):
    dataset = serializers.UUIDField(source="version.dataset_id")
    version = serializers.IntegerField(source="version.number")
    eta_seconds = serializers.SerializerMethodField(help_text="Seconds that are left, where that is known.")
    error = serializers.SerializerMethodField(help_text="Why it failed.")

    class Meta:
        model = TrainingRun
        fields = (
            "id",
            "name",
            "dataset",
            "version",
            "base_model",
            "base_sha256",
            "settings",
            "estimate",
            "status",
            "step",
            "total_steps",
            "eta_seconds",
            "error",
            "created_at",
            "started_at",
            "cancel_requested_at",
            "ended_at",
        )

    def get_eta_seconds(self, run: TrainingRun) -> float | None:
        left = progress_of(run).left
        return None if left is None else round(left.total_seconds(), 1)

    def get_error(self, run: TrainingRun) -> dict[str, Any] | None:
        if not run.error_code:
            return None
        return {"code": run.error_code, "message": failures.sentence(run.error_code, run.error_data)}


class MetricSerializer(serializers.ModelSerializer[Metric]):
    class Meta:
        model = Metric
        fields = (
            "step",
            "loss",
            "eval_loss",
            "learning_rate",
            "gradient_norm",
            "tokens_per_second",
            "logged_at",
        )


class MetricPageSerializer(serializers.Serializer[Any]):
    run = serializers.UUIDField()
    status = serializers.ChoiceField(RunStatus.choices)
    step = serializers.IntegerField()
    total_steps = serializers.IntegerField()
    eta_seconds = serializers.FloatField(allow_null=True)
    results = MetricSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class Steps(KeysetPagination):
    ordering = ("step", "id")
    page_size = 1000
    max_page_size = 5000


# --- Doors -------------------------------------------------------------------------------------------


class RunListView(TrainingView, generics.ListAPIView[TrainingRun]):
    serializer_class = RunSerializer
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[TrainingRun]:
        return TrainingRun.objects.select_related("version")

    @documented("Training runs, newest first", tag=TAG_TRAINING, gives=RunSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @documented(
        "Start a training run",
        tag=TAG_TRAINING,
        takes=NewRunSerializer,
        example={"dataset": "01920000-0000-7000-8000-000000000000", "settings": {"epochs": 3}},
        gives={201: RunSerializer},
        fails=(RunRefused, DatasetWithdrawn, DatasetDamaged, NotFound),
    )
    def post(self, request: Request) -> Response:
        """It waits until a trainer takes it. What cannot fit into memory, disk or time is refused."""
        values = NewRunSerializer.read(request.data)
        version = version_of(access_dataset(values["dataset"]), values.get("version"))
        run = start_run(
            version,
            name=values.get("name", ""),
            chosen=RunSettings.read(values.get("settings", {})),
            user=user_of(request),
        )
        return Response(RunSerializer(run).data, status=status.HTTP_201_CREATED)


class RunView(TrainingView):
    @documented("One training run", tag=TAG_TRAINING, gives=RunSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(RunSerializer(run_of(pk)).data)


class CancelView(TrainingView):
    @documented("Call a training run off", tag=TAG_TRAINING, gives=RunSerializer, fails=(RunRefused,))
    def post(self, request: Request, pk: UUID) -> Response:
        """One that waits has ended with this, one that is under way within five seconds."""
        return Response(RunSerializer(cancel(run_of(pk), user=user_of(request))).data)


_OF_RUN = OpenApiParameter("run", UUID, required=True, description="The run whose curve it is.")
_AFTER = OpenApiParameter("after", int, description="Only what was logged at later steps than this one.")
_PAGING = (
    OpenApiParameter("cursor", str, description="Where the page begins; `next` of the page before has it."),
    OpenApiParameter("limit", int, description="How many rows; 1000 by default, 5000 at most."),
)


class MetricListView(TrainingView):
    @documented(
        "What a training run has logged, by step",
        tag=TAG_TRAINING,
        gives=MetricPageSerializer,
        parameters=[_OF_RUN, _AFTER, *_PAGING],
        fails=(NotFound,),
    )
    def get(self, request: Request) -> Response:
        """What was not measured at a step is null. The same after a restart of anything."""
        run = run_of(_id(request.query_params.get("run", "")))
        rows = Metric.objects.filter(run=run)
        if (after := request.query_params.get("after")) is not None:
            rows = rows.filter(step__gt=_whole(after))
        pages = Steps()
        found = pages.paginate_queryset(rows, request, view=self)
        state = RunSerializer(run).data
        return Response(
            {
                "run": state["id"],
                **{name: state[name] for name in ("status", "step", "total_steps", "eta_seconds")},
                "results": MetricSerializer(found, many=True).data,
                "next": pages.get_next_link(),
            }
        )


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInput(field="run", reason=_("This is no id of a run.")) from error


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(field="after", reason=_("This must be a whole number."))
    return int(text)
