"""The list of runs, and the form that begins one."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.authentication import user_of
from accounts.pages.operators import for_operators
from inference.models import Adapter, ChatModelConfig
from training.failures import sentence
from training.models import RunStatus, TrainingRun
from training.pages.forms import StartForm
from training.pages.frame import uuid_of
from training.progress import progress_of

SHOWN = 25


@require_GET
@for_operators
def runs(request: HttpRequest) -> HttpResponse:
    return _page(request)


@require_POST
@for_operators
def start(request: HttpRequest) -> HttpResponse:
    form = StartForm(request.POST)
    run = form.save(user_of(request))
    if run is None:
        return _page(request, form=form, status=400)
    messages.success(request, _("%(name)s waits for the trainer.") % {"name": run.name})
    return redirect("training-run", run.pk)


def _page(request: HttpRequest, *, form: StartForm | None = None, status: int = 200) -> HttpResponse:
    before = uuid_of(request.GET.get("before"))
    rows = list(_older_than(before)[: SHOWN + 1])
    page = rows[:SHOWN]
    context = {
        "section": "runs",
        "lines": _lines(page),
        "any_running": any(run.status in (RunStatus.QUEUED, RunStatus.RUNNING) for run in page),
        "older": f"{resolve_url('training')}?before={page[-1].pk}" if len(rows) > SHOWN else "",
        "form": form or StartForm(),
    }
    return render(request, "training/runs.html", context, status=status)


def _older_than(pk: UUID | None) -> QuerySet[TrainingRun]:
    """The newest first; from the one after `pk` on."""
    rows = TrainingRun.objects.select_related("version__dataset", "created_by").order_by("-created_at", "id")
    last = TrainingRun.objects.filter(pk=pk).first() if pk else None
    if last is None:
        return rows
    same_moment = Q(created_at=last.created_at, pk__gt=last.pk)
    return rows.filter(Q(created_at__lt=last.created_at) | same_moment)


def _lines(runs: list[TrainingRun]) -> list[dict[str, Any]]:
    """Each run with how far it is, and the models that stand on what it has learned."""
    adapters = {row.run: row for row in Adapter.objects.filter(run__in=[run.pk for run in runs])}
    names = [row.name for row in adapters.values()]
    models: dict[str, list[str]] = {}
    for name, alias in ChatModelConfig.objects.filter(adapter__in=names).values_list("adapter", "alias"):
        models.setdefault(name, []).append(alias)
    return [
        {
            "run": run,
            "progress": progress_of(run),
            "failure": sentence(run.error_code, run.error_data),
            "models": models.get(adapters[run.pk].name, []) if run.pk in adapters else [],
        }
        for run in runs
    ]
