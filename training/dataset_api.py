"""`/api/training/datasets`: data sets by file and from feedback, for operators."""

from pathlib import Path
from typing import Any, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import user_of
from accounts.credentials import arequire_caller
from accounts.models import Scope, User
from llmsite.core.errors import (
    DatasetDamaged,
    DatasetInUse,
    DatasetUnreadable,
    DatasetWithdrawn,
    DiskFull,
    InvalidInput,
    NotFound,
    TooLarge,
    UnsupportedDataset,
    UnsupportedMediaType,
)
from llmsite.core.json_schema import TEXT, Json, answer, body, constant, list_of
from llmsite.core.rest import by_method, json_door, read_json, validated
from llmsite.core.schema import documented
from llmsite.core.serializers import StrictSerializer
from llmsite.core.upload_handler import read_form
from training.datasets import access_dataset, delete_dataset, shown_rows, version_of
from training.importing import columns_of, from_feedback, import_file, look_at
from training.models import Dataset, DatasetVersion
from training.promotion_api import TAG_TRAINING, NewestFirst, TrainingView
from training.versions import Imported

FORM_FIELDS = {"name", "columns", "leave_out_bad"}


class DatasetVersionSerializer(serializers.ModelSerializer[DatasetVersion]):
    class Meta:
        model = DatasetVersion
        fields = (
            "id",
            "number",
            "layout",
            "sha256",
            "row_count",
            "origin",
            "report",
            "created_at",
            "withdrawn_at",
        )


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    versions = DatasetVersionSerializer(many=True, help_text="The newest first.")

    class Meta:
        model = Dataset
        fields = ("id", "name", "created_at", "versions")


class FromFeedbackSerializer(StrictSerializer):
    """A data set of what people said of answers, and allowed to be learnt."""

    source = serializers.ChoiceField(["feedback"])  # type: ignore[assignment]  # not the argument of a field
    name = serializers.CharField(max_length=100)
    format = serializers.ChoiceField(["sft", "dpo", "kto"], default="sft")


def with_versions(datasets: QuerySet[Dataset]) -> QuerySet[Dataset]:
    return datasets.prefetch_related(Prefetch("versions", DatasetVersion.objects.order_by("-number")))


class DatasetListView(TrainingView, generics.ListAPIView[Dataset]):
    serializer_class = DatasetSerializer
    pagination_class = NewestFirst
    queryset = Dataset.objects.all()

    def get_queryset(self) -> Any:
        return with_versions(super().get_queryset())

    @documented("Data sets, newest first", tag=TAG_TRAINING, gives=DatasetSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


# --- Making one -------------------------------------------------------------------------------------

_FILE = {"type": "string", "format": "binary"}
_COLUMNS = {**TEXT, "description": "Pairs such as `prompt=question, completion=reply`."}
_LEAVE_OUT = {**constant("true", "false"), "description": "Leave out rows that are not right or too long."}
_UPLOAD: Json = body("file", "name", file=_FILE, name=TEXT, columns=_COLUMNS, leave_out_bad=_LEAVE_OUT)
_LOOK: Json = body("file", file=_FILE, columns=_COLUMNS)
_FAILS = (TooLarge, UnsupportedDataset, DatasetUnreadable, DiskFull)


@documented(
    "Make a data set, or a new version of one",
    tag=TAG_TRAINING,
    scope=Scope.TRAIN,
    takes={"multipart/form-data": _UPLOAD, "application/json": FromFeedbackSerializer},
    gives={201: DatasetSerializer, 200: DatasetSerializer},
    fails=(*_FAILS, DatasetWithdrawn),
)
@json_door("POST")
async def _make(request: HttpRequest) -> HttpResponseBase:
    """From a file (JSON, JSONL, CSV, TXT or Parquet), or from feedback.

    A name that is known gets a new version; the same rows again are the same version (200). One row that is
    not right refuses the whole file and is named, unless `leave_out_bad` is given.
    """
    user = (await arequire_caller(request, Scope.TRAIN)).user
    if (request.content_type or "").startswith("multipart/form-data"):
        made = await sync_to_async(_from_form)(request, user)
    elif request.content_type == "application/json":
        made = await sync_to_async(_from_feedback)(read_json(request), user)
    else:
        raise UnsupportedMediaType
    data = await sync_to_async(_shown)(made.version.dataset_id)
    return JsonResponse(data, status=status.HTTP_201_CREATED if made.is_new else status.HTTP_200_OK)


def _shown(pk: UUID) -> dict[str, Any]:
    return dict(DatasetSerializer(with_versions(Dataset.objects.filter(pk=pk)).get()).data)


def _from_form(request: HttpRequest, user: User) -> Imported:
    file = file_of(request, FORM_FIELDS)
    leave_out = request.POST.get("leave_out_bad", "false")
    if leave_out not in ("true", "false"):
        raise InvalidInput(field="leave_out_bad", reason=_("This must be true or false."))
    return import_file(
        Path(file.temporary_file_path()),
        file.name or "",
        dataset=request.POST.get("name", ""),
        user=user,
        columns=columns_of(request.POST.get("columns", "")),
        leave_out_bad=leave_out == "true",
    )


def _from_feedback(data: Any, user: User) -> Imported:
    serializer = FromFeedbackSerializer(data=data)
    values = validated(serializer)
    return from_feedback(values["format"], dataset=values["name"], user=user)


def file_of(request: HttpRequest, fields: set[str]) -> TemporaryUploadedFile:
    """The one file of a form with these fields besides. Raises InvalidInput, and as `read_form` does."""
    read_form(request)
    if others := (set(request.FILES) | set(request.POST)) - {"file", *fields}:
        raise InvalidInput(field=min(others), reason=_("This field is not known here."))
    files = request.FILES.getlist("file")
    if len(files) != 1:
        raise InvalidInput(field="file", reason=_("Send one file."))
    return cast(TemporaryUploadedFile, files[0])


datasets = by_method(GET=DatasetListView.as_view(), POST=_make)


# --- Looking at a file first ------------------------------------------------------------------------

_PROBLEM = answer(line={"type": ["integer", "null"]}, code=TEXT, reason=TEXT)
_PREVIEW: Json = answer(
    layout=TEXT,
    shape=TEXT,
    mapping={"type": "object", "additionalProperties": TEXT},
    rows=list_of({"type": "object"}),
    count={"type": "integer"},
    bad={"type": "integer"},
    tools={"type": "integer", "description": "Rows in which calls of tools become plain chat."},
    problems=list_of(_PROBLEM),
    report={"type": "object"},
)


@documented(
    "What a file would become",
    tag=TAG_TRAINING,
    scope=Scope.TRAIN,
    takes={"multipart/form-data": _LOOK},
    gives=_PREVIEW,
    fails=_FAILS,
)
@json_door("POST")
async def preview(request: HttpRequest) -> HttpResponseBase:
    """Its shape, what becomes of its columns, its first rows, and which are not right. Nothing is stored."""
    await arequire_caller(request, Scope.TRAIN)
    if not (request.content_type or "").startswith("multipart/form-data"):
        raise UnsupportedMediaType
    return JsonResponse(await sync_to_async(_look)(request))


def _look(request: HttpRequest) -> dict[str, Any]:
    file = file_of(request, {"columns"})
    columns = columns_of(request.POST.get("columns", ""))
    found = look_at(Path(file.temporary_file_path()), file.name or "", columns=columns)
    return {
        "layout": found.layout,
        "shape": found.shape,
        "mapping": found.mapping,
        "rows": found.rows,
        "count": found.count,
        "bad": found.bad,
        "tools": found.tools,
        "problems": [problem.as_dict() for problem in found.problems],
        "report": found.report,
    }


# --- One data set -----------------------------------------------------------------------------------


class DatasetView(TrainingView):
    @documented("One data set, with its versions", tag=TAG_TRAINING, gives=DatasetSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(_shown(access_dataset(pk).pk))

    @documented(
        "Delete it",
        tag=TAG_TRAINING,
        gives={204: None},
        fails=(DatasetInUse,),
    )
    def delete(self, request: Request, pk: UUID) -> Response:
        """With all its versions, where no training run stands on any of them."""
        delete_dataset(access_dataset(pk), actor=user_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class DatasetRowsSerializer(serializers.Serializer[Any]):
    """Some rows, and how many there are."""

    version = serializers.IntegerField()
    layout = serializers.CharField()
    rows = serializers.IntegerField()
    results = serializers.ListField(child=serializers.DictField())
    next = serializers.IntegerField(allow_null=True)


class DatasetRowsView(TrainingView):
    @documented(
        "Its rows, as they are trained on",
        tag=TAG_TRAINING,
        gives=DatasetRowsSerializer,
        fails=(DatasetDamaged, NotFound),
        parameters=[
            OpenApiParameter(
                "version",
                {"type": "integer", "minimum": 1},
                description="Without it, the newest.",
            ),
            OpenApiParameter(
                "from",
                {"type": "integer", "minimum": 1, "default": 1},
                description="The first row; `next` is the one after those that are given.",
            ),
        ],
    )
    def get(self, request: Request, pk: UUID) -> Response:
        version = version_of(access_dataset(pk), _number(request, "version"))
        start = _number(request, "from") or 1
        rows, following = shown_rows(version, start - 1)
        return Response(
            {
                "version": version.number,
                "layout": version.layout,
                "rows": version.row_count,
                "results": rows,
                "next": following + 1 if following is not None else None,
            }
        )


def _number(request: Request, name: str) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 0 < len(given) < 10 and int(given) > 0):
        raise InvalidInput(field=name, reason=_("This must be a whole number above 0."))
    return int(given)
