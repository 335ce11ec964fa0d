"""How things stand at this moment, providers, what waits, the indexes; and what to do about it.

Each part is read by itself. One that cannot be read says so, and the others are told.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django_tasks_db.models import DBTaskResult

from dashboard import roller, targets
from dashboard.answers import answers_link
from dashboard.figures import Figures, Share
from dashboard.models import FIRST_TOKEN
from dashboard.numbers import Numbers
from embeddings.models import DocumentVersion, SearchIndex
from embeddings.models.chunks import IndexStatus
from inference.circuits import CircuitState, states
from inference.models import Generation
from llmsite.core import http
from llmsite.core.ids import first_id_at
from llmsite.core.worker import standstill
from training.models import ENDED, TrainingRun
from training.models.runs import no_trainer

log = structlog.get_logger("llmsite.dashboard")

MODEL_SECONDS = 0.5
"""How long the page waits for the process `model`."""
AN_HOUR = timedelta(hours=1)
UNCOUNTED = timedelta(minutes=3)
"""The worker looks every 15 seconds for what is to be counted: after so long it does not run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to do. `href` leads to where it is done."""

    text: str
    href: str
    link: str
    is_bad: bool = True


@dataclass(slots=True)
class Provider:
    name: str
    share: Share
    circuits: list[CircuitState] = field(default_factory=list)


@dataclass(slots=True)
class State:
    """For the page: rows of texts, and what is to be done about them."""

    findings: list[Finding] = field(default_factory=list)
    providers: list[dict[str, str]] = field(default_factory=list)
    work: list[dict[str, str]] = field(default_factory=list)
    index: list[dict[str, str]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Which of these parts could not be read."""

    @property
    def is_well(self) -> bool:
        return not self.findings


def state_of(figures: Figures) -> State:
    state, numbers = State(), Numbers()
    _look_at_answers(state, figures, numbers)
    parts: Mapping[str, Callable[[], None]] = {
        "providers": lambda: _look_at_providers(state, figures, numbers),
        "work": lambda: _look_at_work(state, numbers),
        "index": lambda: _look_at_index(state, numbers),
    }
    for name, look in parts.items():
        try:
            look()
        except (DatabaseError, OSError) as error:
            log.warning("state_not_read", part=name, error=type(error).__name__)
            state.unread.append(name)
            text = _("A part of this page could not be read; the log says why.")
            state.findings.append(Finding(text, reverse("dashboard"), _("Try again")))
    return state


# --- Answers --------------------------------------------------------------------------------------


def _look_at_answers(state: State, figures: Figures, numbers: Numbers) -> None:
    rate = figures.now.total.error_rate
    if rate is not None and rate > targets.ERROR_RATE:
        text = _("%(rate)s of the answers failed; the target is %(target)s.") % {
            "rate": numbers.percent(rate),
            "target": numbers.percent(targets.ERROR_RATE, 0),
        }
        state.findings.append(Finding(text, answers_link(figures.now.period, only="errors"), _("See which")))
    first = figures.now.overall(FIRST_TOKEN, 0.95)
    if first is not None and first > targets.FIRST_TOKEN_P95_MS:
        text = _("The first token takes %(time)s for one answer in twenty; the target is %(target)s.") % {
            "time": numbers.duration(first),
            "target": numbers.duration(targets.FIRST_TOKEN_P95_MS),
        }
        state.findings.append(Finding(text, "#chart-first_token", _("See when")))


# --- Providers ------------------------------------------------------------------------------------


def _look_at_providers(state: State, figures: Figures, numbers: Numbers) -> None:
    circuits = async_to_sync(states)()
    shares: dict[str, Share] = {}
    for (_slot, name), share in figures.now.by_provider.items():
        shares.setdefault(name, Share()).add(share)
    for name in sorted({*shares, *(one.provider for one in circuits)}):
        own = [one for one in circuits if one.provider == name]
        state.providers.append(_provider_row(name, shares.get(name, Share()), own, numbers))
    for one in circuits:
        if one.state != "closed":
            text = _("%(name)s has failed and is left alone for now (%(code)s).")
            values = {"name": _circuit_name(one), "code": one.code}
            link = reverse("admin:inference_chatmodelconfig_changelist")
            state.findings.append(Finding(text % values, link, _("To the models")))


def _provider_row(
    name: str, share: Share, circuits: Sequence[CircuitState], numbers: Numbers
) -> dict[str, str]:
    worst = next((one for one in circuits if one.state == "open"), None)
    worst = worst or next((one for one in circuits if one.state == "half-open"), None)
    is_bad = worst is not None or (share.error_rate or 0) > targets.ERROR_RATE
    return {
        "name": name,
        "answers": numbers.fixed(share.answers),
        "errors": numbers.percent(share.error_rate),
        **_circuit_told(worst),
        "level": "failed" if is_bad else "succeeded" if share.answers else "",
    }


def _circuit_told(one: CircuitState | None) -> dict[str, str]:
    """Whether the provider is asked: a word, what it means, and why it is not as usual (a code)."""
    if one is None:
        return {"state": _("in use"), "meaning": _("Questions go to it; its circuit is closed."), "why": ""}
    if one.state == "half-open" or one.retry_at is None:
        meaning = _("It has failed, and one question tries it; its circuit is half-open.")
        return {"state": _("being tried"), "meaning": meaning, "why": one.code}
    meaning = _("It has failed and is asked again at %(time)s UTC; its circuit is open.") % {
        "time": date_format(one.retry_at, "EXACT_TIME_FORMAT")
    }
    return {"state": _("paused"), "meaning": meaning, "why": one.code}


def _circuit_name(one: CircuitState) -> str:
    return f"{one.provider}/{one.model}" if one.model else one.provider


# --- What waits -----------------------------------------------------------------------------------


def _look_at_work(state: State, numbers: Numbers) -> None:
    tasks = dict(DBTaskResult.objects.order_by().values_list("status").annotate(Count("pk")))
    runs = TrainingRun.objects.exclude(status__in=ENDED).order_by().values_list("status")
    trainings = dict(runs.annotate(Count("pk")))
    named = {
        _("Answers being written"): _running(),
        _("Tasks that wait"): tasks.get("READY", 0),
        _("Tasks under way"): tasks.get("RUNNING", 0),
        _("Tasks that failed in the last day"): tasks.get("FAILED", 0),
        _("Trainings that wait"): trainings.get("queued", 0),
        _("Trainings under way"): trainings.get("running", 0),
    }
    state.work = [{"name": name, "value": numbers.fixed(count)} for name, count in named.items()]
    if standstill():
        text = _("Tasks wait, and no worker takes them. Start the process worker, or look at its log.")
        state.findings.append(Finding(text, _tasks_link(), _("To the tasks")))
    elif _is_not_counted():
        text = _(
            "The worker does not run: nothing has been counted for minutes. Start it, or look at its log."
        )
        state.findings.append(Finding(text, _tasks_link(), _("To the tasks")))
    if no_trainer():
        text = _("Trainings wait, and no trainer takes them. Start the process trainer, or look at its log.")
        state.findings.append(Finding(text, reverse("training"), _("To the trainings")))


def _running() -> int:
    """How many answers are being written. None takes an hour; SQLite would read all rows to find the few."""
    return Generation.objects.running().filter(pk__gte=first_id_at(timezone.now() - AN_HOUR)).count()


def _is_not_counted() -> bool:
    since = timezone.now() - UNCOUNTED
    return roller.to_count().filter(ended_at__lt=since).exists() and not roller.is_counting(since=since)


def _tasks_link() -> str:
    return reverse("admin:index")


# --- The indexes ----------------------------------------------------------------------------------


def _look_at_index(state: State, numbers: Numbers) -> None:
    rows = SearchIndex.objects.filter(collection__deleting_at=None).order_by()
    indexes = dict(rows.values_list("status").annotate(Count("pk")))
    shown = DocumentVersion.objects.filter(document__deleting_at=None).order_by()
    versions = dict(shown.values_list("status").annotate(Count("pk")))
    building, failed = indexes.get(IndexStatus.BUILDING, 0), versions.get("failed", 0)
    reading = sum(versions.get(status, 0) for status in ("queued", "parsing", "embedding"))
    named = {
        _("Collections that are searched"): indexes.get(IndexStatus.ACTIVE, 0),
        _("Indexes being rebuilt"): building,
        _("Documents being read"): reading,
        _("Documents that could not be read"): failed,
    }
    state.index = [{"name": name, "value": numbers.fixed(count)} for name, count in named.items()]
    encoder = _encoder()
    state.index.append({"name": _("Encoder"), "value": encoder or _("does not answer")})
    if building:
        text = _("Some collections are searched in an index of an older encoder while the new one is built.")
        state.findings.append(Finding(text, reverse("documents"), _("To the documents"), is_bad=False))
    if encoder is None and indexes:
        text = _("The process model does not answer, so documents cannot be searched. Its log says why.")
        state.findings.append(Finding(text, "/health/ready", _("See the parts")))


def _encoder() -> str | None:
    """The name of the encoder; None where the process `model` or its encoder is not ready."""
    told = async_to_sync(_model_health)()
    encoder = (told or {}).get("embedder") or {}
    return str(encoder.get("model", "")) if encoder.get("status") == "ready" else None


async def _model_health() -> dict[str, Any] | None:
    try:
        async with (
            asyncio.timeout(MODEL_SECONDS),
            http.send("GET", f"{settings.MODEL_URL}/health", connect_timeout=MODEL_SECONDS) as response,
        ):
            told = await response.read_json(limit=1 << 20)
    except (OSError, http.BadResponse):  # A time-out is an OSError too.
        return None
    return told if response.status == 200 and isinstance(told, dict) else None
