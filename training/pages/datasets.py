"""The pages of data sets: the list with the forms that make one, and each with its rows and report."""

from pathlib import Path
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_POST

from accounts.authentication import user_of
from accounts.pages.operators import for_operators
from llmsite.core.errors import DatasetDamaged, InvalidInput, SiteError, describe
from training.datasets import access_dataset, delete_dataset, shown_rows, version_of
from training.importing import columns_of, from_feedback, import_file, look_at
from training.lineage import people_in
from training.models import Dataset, DatasetVersion
from training.pages.dataset_forms import FeedbackForm, FileForm
from training.pages.frame import uuid_of
from training.reading import KINDS
from training.versions import Imported

SHOWN = 25
ROLES = {
    "question": gettext_lazy("the question"),
    "answer": gettext_lazy("the answer"),
    "turns": gettext_lazy("the conversation"),
    "system": gettext_lazy("the system message"),
    "chosen": gettext_lazy("the chosen answer"),
    "rejected": gettext_lazy("the rejected answer"),
    "label": gettext_lazy("the thumb"),
    "text": gettext_lazy("the text"),
    "left_out": gettext_lazy("left out"),
}

SHAPES = {
    "openai_preference": gettext_lazy("OpenAI’s preference pairs"),
    "preference_messages": gettext_lazy("preference pairs of messages"),
    "sharegpt_preference": gettext_lazy("ShareGPT preference pairs"),
    "alpaca_preference": gettext_lazy("Alpaca preference pairs"),
    "preference": gettext_lazy("preference pairs"),
    "preference_conversations": gettext_lazy("preference pairs of whole conversations"),
    "rated_messages": gettext_lazy("messages with a thumb"),
    "rated_sharegpt": gettext_lazy("ShareGPT with a thumb"),
    "rated_alpaca": gettext_lazy("Alpaca with a thumb"),
    "rated": gettext_lazy("prompt and completion with a thumb"),
    "sharegpt": "ShareGPT",
    "messages": gettext_lazy("OpenAI messages"),
    "alpaca_instances": gettext_lazy("Alpaca with several examples"),
    "alpaca": "Alpaca",
    "completion": gettext_lazy("prompt and completion"),
    "text": gettext_lazy("plain text"),
}


# --- The list ---------------------------------------------------------------------------------------


@require_GET
@for_operators
def datasets(request: HttpRequest) -> HttpResponse:
    return _page(request)


def _page(request: HttpRequest, *, status: int = 200, **more: Any) -> HttpResponse:
    before = uuid_of(request.GET.get("before"))
    rows = list(_older_than(before)[: SHOWN + 1])
    page = rows[:SHOWN]
    context = {
        "section": "datasets",
        "datasets": page,
        "older": f"{resolve_url('training-datasets')}?before={page[-1].pk}" if len(rows) > SHOWN else "",
        "file_form": FileForm(),
        "feedback_form": FeedbackForm(),
        "accepted": ",".join(KINDS),
        "max_upload_mb": settings.MAX_UPLOAD_MB,
    }
    return render(request, "training/datasets.html", {**context, **more}, status=status)


def _older_than(pk: UUID | None) -> QuerySet[Dataset]:
    """The newest first; from the one after `pk` on."""
    versions = DatasetVersion.objects.defer("origin", "report").order_by("-number")
    rows = Dataset.objects.annotate(runs=Count("versions__runs")).select_related("created_by")
    rows = rows.prefetch_related(Prefetch("versions", versions)).order_by("-created_at", "id")
    last = Dataset.objects.filter(pk=pk).first() if pk else None
    if last is None:
        return rows
    same_moment = Q(created_at=last.created_at, pk__gt=last.pk)
    return rows.filter(Q(created_at__lt=last.created_at) | same_moment)


# --- Making one -------------------------------------------------------------------------------------


@require_POST
@for_operators
def upload(request: HttpRequest) -> HttpResponse:
    form = FileForm(request.POST)
    if not form.is_valid():
        return _page(request, file_form=form, status=400)
    values = form.cleaned_data
    try:
        file = _file_of(request)
        made = import_file(
            Path(file.temporary_file_path()),
            file.name or "",
            dataset=values["name"],
            user=user_of(request),
            columns=columns_of(values["columns"]),
            leave_out_bad=values["leave_out_bad"],
        )
    except SiteError as error:
        return _page(request, status=form.refuse(error), file_form=form)
    return _made(request, made)


@require_POST
@for_operators
def build(request: HttpRequest) -> HttpResponse:
    """From feedback."""
    form = FeedbackForm(request.POST)
    if not form.is_valid():
        return _page(request, feedback_form=form, status=400)
    values = form.cleaned_data
    try:
        made = from_feedback(values["format"], dataset=values["name"], user=user_of(request))
    except SiteError as error:
        return _page(request, status=form.refuse(error), feedback_form=form)
    return _made(request, made)


def _made(request: HttpRequest, made: Imported) -> HttpResponse:
    version = made.version
    told = ngettext(
        "%(name)s, version %(number)s: %(count)s row.",
        "%(name)s, version %(number)s: %(count)s rows.",
        version.row_count,
    )
    if not made.is_new:
        told = _("%(name)s has these very rows already, as version %(number)s.")
    values = {"name": version.dataset.name, "number": version.number, "count": version.row_count}
    messages.success(request, told % values)
    return redirect(_address_of(version))


def _address_of(version: DatasetVersion) -> str:
    return f"{resolve_url('training-dataset', version.dataset_id)}?version={version.number}"


@require_POST
@for_operators
def preview(request: HttpRequest) -> HttpResponse:
    """What a file would become, on the page that has the form still; nothing is stored."""
    # Shown as it was typed, and not complained about before it is sent.
    form = FileForm(None)
    form.initial = {name: request.POST.get(name, "") for name in form.fields}
    try:
        file = _file_of(request)
        columns = columns_of(request.POST.get("columns", ""))
        found = look_at(Path(file.temporary_file_path()), file.name or "", columns=columns)
    except SiteError as error:
        public = describe(error)
        return _page(request, status=public.status, file_form=form, refusal=public.message, is_looked_at=True)
    shown: dict[str, Any] = {"preview": found, "mapping": _mapping(found.mapping), "report": found.report}
    shown["shape"] = SHAPES.get(found.shape, found.shape)
    return _page(request, file_form=form, file_name=file.name, is_looked_at=True, **shown)


def _file_of(request: HttpRequest) -> TemporaryUploadedFile:
    files = request.FILES.getlist("file")
    if len(files) != 1:
        raise InvalidInput(field="file", reason=_("Choose a file first."))
    return cast(TemporaryUploadedFile, files[0])


def _mapping(mapping: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, str(ROLES.get(role, role))) for name, role in mapping.items()]


# --- One data set -----------------------------------------------------------------------------------


@require_GET
@for_operators
def dataset(request: HttpRequest, pk: UUID) -> HttpResponse:
    """`?version=N` is a version, `?from=N` the first row that is shown of it."""
    found = access_dataset(pk)
    versions = list(found.versions.defer("report").select_related("created_by").order_by("-number"))
    version = next((row for row in versions if row.withdrawn_at is None), next(iter(versions), None))
    if (number := _number(request, "version")) is not None:
        version = version_of(found, number)
    context = {"section": "datasets", "dataset": found, "versions": versions, "version": version}
    if version is not None:
        context |= _shown(version, (_number(request, "from") or 1) - 1)
    return render(request, "training/dataset.html", context)


def _shown(version: DatasetVersion, start: int) -> dict[str, Any]:
    context: dict[str, Any] = {
        "mapping": _mapping(version.origin.get("mapping", {})),
        "shape": SHAPES.get(version.origin.get("shape", ""), ""),
        "report": version.report,
        "people": people_in(version),
        "runs": version.runs.order_by("-created_at")[:SHOWN],
        "first": start + 1,
    }
    if version.withdrawn_at is not None:
        return context
    try:
        rows, following = shown_rows(version, start)
    except DatasetDamaged as error:
        return context | {"damage": describe(error).message}
    return context | {"rows": rows, "last": start + len(rows), "next": following and following + 1}


def _number(request: HttpRequest, name: str) -> int | None:
    given = request.GET.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and 0 < len(given) < 10 and int(given) else None


@require_POST
@for_operators
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = access_dataset(pk)
    try:
        delete_dataset(found, actor=user_of(request))
    except SiteError as error:
        messages.error(request, describe(error).message)
        return redirect("training-dataset", pk)
    messages.success(request, _("%(name)s is deleted.") % {"name": found.name})
    return redirect("training-datasets")
