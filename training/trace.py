"""Where an answer's model has learned, and what was made of somebody's words: the chain in both directions.

answer → adapter → run → version of a data set → feedback → person
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from feedback.models import Feedback
from inference.models import Adapter, ChatModelConfig, Generation
from training.models import DatasetRow, DatasetVersion, TrainingRun

MOST_SHOWN = 50
MOST_COUNTED = 1000
"""Answers; nobody needs to know how many more there are."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What hangs together with one thing, `label`."""

    label: str
    feedback: list[Feedback]
    feedback_total: int
    versions: list[DatasetVersion]
    runs: list[TrainingRun]
    adapters: list[Adapter]
    models: list[ChatModelConfig]
    """Those that stand on one of the adapters now."""
    answers: int
    """Which the adapters gave; at most MOST_COUNTED are counted."""

    @property
    def has_more_answers(self) -> bool:
        return self.answers == MOST_COUNTED


def find(text: str) -> Chain | None:
    """The chain of what `text` names: the id of anything in it, an adapter or a person."""
    text = text.strip()
    pk = _uuid(text)
    kinds: Iterable[Callable[[Any], Chain | None]] = (
        (_answer, _feedback, _run, _version) if pk else (_adapter, _person)
    )
    return next((chain for kind in kinds if (chain := kind(pk or text)) is not None), None)


def of_run(run: TrainingRun) -> Chain:
    return _chain(run.name, runs=TrainingRun.objects.filter(pk=run.pk))


def _answer(pk: UUID) -> Chain | None:
    """By its own id, or by that of its message, which stands in the chat's address."""
    answer = Generation.objects.filter(Q(pk=pk) | Q(message=pk)).only("pk", "adapter").first()
    if answer is None:
        return None
    adapters = Adapter.objects.filter(name=answer.adapter) if answer.adapter else Adapter.objects.none()
    return _chain(_("The answer %(id)s") % {"id": answer.pk}, adapters=adapters)


def _feedback(pk: UUID) -> Chain | None:
    if not Feedback.objects.filter(pk=pk).exists():
        return None
    versions = DatasetVersion.objects.filter(rows__feedback=pk)
    return _chain(
        _("The feedback %(id)s") % {"id": pk},
        versions=versions,
        feedback=Feedback.objects.filter(pk=pk),
    )


def _run(pk: UUID) -> Chain | None:
    run = TrainingRun.objects.filter(pk=pk).first()
    return of_run(run) if run else None


def _version(pk: UUID) -> Chain | None:
    version = DatasetVersion.objects.select_related("dataset").filter(pk=pk).first()
    return _chain(str(version), versions=DatasetVersion.objects.filter(pk=pk)) if version else None


def _adapter(name: str) -> Chain | None:
    adapters = Adapter.objects.filter(name=name)
    return _chain(name, adapters=adapters) if adapters.exists() else None


def _person(name: str) -> Chain | None:
    user = User.objects.filter(username=name).first()
    if user is None:
        return None
    return _chain(
        user.username,
        versions=DatasetVersion.objects.filter(rows__user=user),
        feedback=Feedback.objects.filter(
            user=user, pk__in=DatasetRow.objects.filter(user=user).values("feedback")
        ),
    )


def _chain(
    label: str,
    *,
    adapters: QuerySet[Adapter] | None = None,
    runs: QuerySet[TrainingRun] | None = None,
    versions: QuerySet[DatasetVersion] | None = None,
    feedback: QuerySet[Feedback] | None = None,
) -> Chain:
    """What follows in both directions from the one that is given."""
    if adapters is not None:
        of_adapters = adapters.exclude(run=None).values_list("run", flat=True)
        runs = TrainingRun.objects.filter(pk__in=list(of_adapters))
    if runs is not None:
        versions = DatasetVersion.objects.filter(runs__in=runs)
    assert versions is not None
    if runs is None:
        runs = TrainingRun.objects.filter(version__in=versions)
    if adapters is None:
        adapters = Adapter.objects.filter(run__in=list(runs.values_list("pk", flat=True)))
    return _shown(label, adapters, runs, versions, feedback if feedback is not None else _learnt(versions))


def _learnt(versions: QuerySet[DatasetVersion]) -> QuerySet[Feedback]:
    rows = DatasetRow.objects.filter(version__in=versions, feedback__isnull=False)
    return Feedback.objects.filter(pk__in=rows.values("feedback"))


def _shown(
    label: str,
    adapters: QuerySet[Adapter],
    runs: QuerySet[TrainingRun],
    versions: QuerySet[DatasetVersion],
    feedback: QuerySet[Feedback],
) -> Chain:
    """As much of them as is shown."""
    names = [adapter.name for adapter in adapters]
    answers = Generation.objects.filter(adapter__in=names).exclude(adapter="")
    return Chain(
        label=label,
        feedback=list(feedback.order_by("-created_at")[:MOST_SHOWN]),
        feedback_total=feedback.count(),
        versions=list(versions.select_related("dataset").distinct()[:MOST_SHOWN]),
        runs=list(runs[:MOST_SHOWN]),
        adapters=list(adapters[:MOST_SHOWN]),
        models=list(ChatModelConfig.objects.filter(adapter__in=names)),
        answers=answers.values("pk")[:MOST_COUNTED].count() if names else 0,
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
