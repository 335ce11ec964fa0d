"""How things stand at the moment of a scrape: read of the database and the model process, never in a request.

Each source gives its metrics by itself, in its time or not at all: with the database away the rest is told.
What was read is told again for `KEPT_SECONDS`, so that nobody makes the database busy by scraping.
"""

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import structlog
from django.conf import settings
from django.db.models import Count, OuterRef, Subquery
from django_tasks_db.models import DBTaskResult
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

import llmsite
from embeddings.models import Chunk
from embeddings.models.chunks import IndexStatus
from inference.catalogue import catalogue
from inference.circuits import Deployment, states
from inference.models import ChatModelConfig, Generation
from llmsite.core import http
from llmsite.core.background import in_any_thread, spawn
from training.models import ENDED, RunStatus, TrainingRun
from training.models import Metric as TrainingMetric

log = structlog.get_logger("llmsite.metrics")

KEPT_SECONDS = 5.0
"""The number of chunks is kept for a minute: counting them takes longer, the more there are."""
MOST_SECONDS = 2.0
"""How long a scrape waits for a source."""

Families = Iterable[Metric]
Read = Callable[[], Awaitable[Families]]

CIRCUIT_VALUES = {"closed": 0, "half-open": 1, "open": 2}


def gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[object], float]]
) -> Metric:
    family = GaugeMetricFamily(f"llmsite_{name}", text, labels=labels)
    for names, value in values:
        family.add_metric([str(one) for one in names], value)
    return family


# --- What is read ---------------------------------------------------------------------------------


def _generations() -> Families:
    running = Generation.objects.running().count()
    yield gauge("generations_in_progress", "Answers being written, in all processes.", [], [((), running)])


def _jobs() -> Families:
    """Tasks of the worker, and trainings, which are in a queue of their own."""
    tasks = DBTaskResult.objects.order_by().values_list("queue_name", "status").annotate(Count("pk"))
    runs = (
        TrainingRun.objects.exclude(status__in=ENDED).order_by().values_list("status").annotate(Count("pk"))
    )
    rows = [((queue, status.lower()), count) for queue, status, count in tasks]
    rows += [(("training", status), count) for status, count in runs]
    yield gauge(
        "jobs", "Tasks by their state; those that ended are counted for a day.", ["queue", "state"], rows
    )


def _chunks() -> Families:
    count = Chunk.objects.filter(index__status=IndexStatus.ACTIVE).count()
    yield gauge("index_chunks", "Pieces of documents in the indexes that are searched.", [], [((), count)])


def _training() -> Families:
    measured = TrainingMetric.objects.filter(run=OuterRef("pk"), loss__isnull=False).order_by("-step")
    running = TrainingRun.objects.filter(status=RunStatus.RUNNING)
    losses = running.annotate(loss=Subquery(measured.values("loss")[:1])).values_list("pk", "loss")
    rows = [((pk,), loss) for pk, loss in losses if loss is not None]
    yield gauge("training_loss", "The last loss of each training that runs.", ["run"], rows)


def _adapters() -> Families:
    rows = ChatModelConfig.objects.active().exclude(adapter="").values_list("alias", "adapter")
    yield gauge(
        "adapter_info",
        "Which adapter stands behind a model.",
        ["alias", "version"],
        [(row, 1) for row in rows],
    )


async def _deployments() -> Families:
    models = (await catalogue.current()).rows
    known = {Deployment(row.provider, row.base_url, row.upstream_model): 0 for row in models}
    for state in await states():
        known[Deployment(state.provider, state.base_url, state.model)] = CIRCUIT_VALUES[state.state]
    rows = [((_deployment_name(one),), value) for one, value in known.items()]
    text = "The circuit of a model, or of an address (no model): 0 closed, 1 half-open, 2 open."
    return [gauge("deployment_state", text, ["deployment"], rows)]


def _deployment_name(one: Deployment) -> str:
    model = f"{one.provider}/{one.model}" if one.model else one.provider
    return f"{model} at {one.base_url}" if one.base_url else model


async def _model_process() -> Families:
    """What the process `model` says of itself. Without the chat model, which another server has: no slots."""
    told = await model_health()
    up, rows = (
        gauge("model_up", "Whether the process `model` answers.", [], [((), float(told is not None))]),
        [],
    )
    if told is not None:
        rows = [((kind,), told[name]) for kind, name in _SLOTS.items() if isinstance(told.get(name), int)]
    return [up, gauge("model_slots", "Places for answers in the process `model`.", ["kind"], rows)]


_SLOTS = {"all": "slots", "in_use": "slots_in_use", "waiting": "queued"}


async def model_health() -> dict[str, Any] | None:
    """The `/health` of the process `model`; None where it does not answer as it should."""
    try:
        url = f"{settings.MODEL_URL}/health"
        async with http.send("GET", url, connect_timeout=MOST_SECONDS) as response:
            told = await response.read_json(limit=1 << 20)
    except (OSError, http.BadResponse):
        return None
    return told if response.status == 200 and isinstance(told, dict) else None


# --- How it is kept -------------------------------------------------------------------------------


class _Source:
    """One of the above. A reading that takes too long goes on, and is told when the next scrape comes."""

    def __init__(self, name: str, read: Read, kept_seconds: float) -> None:
        self.name = name
        self._read = read
        self._kept_seconds = kept_seconds
        self._told: list[Metric] = []
        self._told_at = float("-inf")
        self._reading: asyncio.Task[list[Metric]] | None = None

    async def tell(self) -> list[Metric] | None:
        """Its metrics; None where they could not be read in time."""
        if time.monotonic() - self._told_at < self._kept_seconds:
            return self._told
        task = self._reading
        # A task of a loop that has ended is nobody's.
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            # Apart from the request, which may be over before.
            task = self._reading = spawn(self._read_all())
        done, _ = await asyncio.wait([task], timeout=MOST_SECONDS)
        if not done:
            return None
        self._reading = None
        if (error := task.exception()) is not None:
            log.warning("gauge_not_read", source=self.name, error=type(error).__name__)
            return None
        return task.result()

    async def _read_all(self) -> list[Metric]:
        told = list(await self._read())
        self._told, self._told_at = told, time.monotonic()
        return told


def _of_the_database(*reads: Callable[[], Families]) -> Read:
    def all_of_them() -> list[Metric]:
        return [metric for read in reads for metric in read()]

    async def read() -> list[Metric]:
        return await in_any_thread(all_of_them)()

    return read


class Gauges:
    """All sources."""

    def __init__(self, kept_seconds: float = KEPT_SECONDS) -> None:
        reads: dict[str, Read] = {
            "database": _of_the_database(_generations, _jobs, _training, _adapters),
            "deployments": _deployments,
            "model": _model_process,
        }
        self._sources = [_Source(name, read, kept_seconds) for name, read in reads.items()]
        self._sources.append(_Source("chunks", _of_the_database(_chunks), 12 * kept_seconds))

    async def read(self) -> list[Metric]:
        told = await asyncio.gather(*(source.tell() for source in self._sources))
        failed = [
            ((source.name,), float(one is None)) for source, one in zip(self._sources, told, strict=True)
        ]
        return [
            _build_info(),
            gauge("scrape_failed", "Whether a part of what follows could not be read.", ["source"], failed),
            *(metric for one in told for metric in one or ()),
        ]


def _build_info() -> Metric:
    values = {"version": llmsite.__version__, "python": platform.python_version()}
    return InfoMetricFamily("llmsite_build", "What runs here.", value=values)


gauges = Gauges()
