"""From a person to what was trained on their words, and back; and what becomes of it when the person goes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from feedback.models import ReviewStatus
from inference.models import Adapter
from llmsite.core.errors import DatasetDamaged, DiskFull, ErasureUnfinished
from training import promotion, storage, versions
from training.models import ENDED, Dataset, DatasetRow, DatasetVersion, TrainingRun
from training.rows import Row, read_rows
from training.versions import LEAST_ROWS, Person

BECAUSE_ERASED = "Somebody in its data was erased."


@dataclass(frozen=True, slots=True)
class People:
    """Of how many people the rows of a version are, and how it stands with them today."""

    people: int
    rows: int
    unwilling: int
    """Rows of people who allow training no more: they are not in the next version."""
    revoked: int
    """Rows from feedback that is accepted no more, or is gone."""


def adapters_of(used: list[DatasetVersion]) -> QuerySet[Adapter]:
    """What was trained on these versions."""
    runs = TrainingRun.objects.filter(version__in=used).values_list("pk", flat=True)
    return Adapter.objects.filter(run__in=list(runs))


def people_in(version: DatasetVersion) -> People:
    allows = Q(user__training_consent_at__isnull=False, user__is_active=True)
    stands = Q(feedback__status=ReviewStatus.ACCEPTED)
    if version.layout == "kto":
        stands = Q(feedback__isnull=False) & ~Q(feedback__status=ReviewStatus.REJECTED)
    counts = DatasetRow.objects.filter(version=version).aggregate(
        people=Count("user", distinct=True),
        rows=Count("pk"),
        willing=Count("pk", filter=allows),
        standing=Count("pk", filter=stands),
    )
    return People(
        counts["people"],
        counts["rows"],
        counts["rows"] - counts["willing"],
        counts["rows"] - counts["standing"],
    )


# --- When a person goes -----------------------------------------------------------------------------


def erase(user: User) -> dict[str, int]:
    """Take a person's rows out of all data sets, and what was trained on them out of use.

    Versions never change: those with such rows are withdrawn and their files removed. Where the newest one
    was among them, what is left of it is a new version. Raises ErasureUnfinished, and may be called again.
    """
    counts: Counter[str] = Counter()
    affected = Dataset.objects.filter(versions__rows__user=user).distinct()
    try:
        for dataset in affected.order_by("pk"):
            counts.update(_take_out(dataset, user))
    except (OSError, DiskFull) as error:
        raise ErasureUnfinished(detail=repr(error)) from error
    return {name: counts[name] for name in ("dataset_versions", "dataset_rows", "adapters_withdrawn")}


def _take_out(dataset: Dataset, user: User) -> dict[str, int]:
    """Do so in one data set. The files go last, and whose rows they were is forgotten after that.

    So a process that dies before the end finds the person here again.
    """
    with versions.new_version() as pk, transaction.atomic():
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        affected = list(_versions_with(user).filter(dataset=dataset))
        going = [version for version in affected if version.withdrawn_at is None]
        adapters = _withdraw(going)
        if going and not dataset.versions.usable().filter(number__gt=going[0].number).exists():
            _replace(going[0], pk)
    # Also those that an erasure before this one has withdrawn, and died.
    promotion.remove_files(adapters_of(affected).exclude(withdrawn_at=None))
    for version in affected:
        storage.remove(version.pk)
    rows = DatasetRow.objects.filter(version__in=affected, user=user).delete()[0]
    return {"dataset_versions": len(going), "dataset_rows": rows, "adapters_withdrawn": adapters}


def _versions_with(user: User) -> QuerySet[DatasetVersion]:
    """Of each data set the newest first."""
    ids = DatasetRow.objects.filter(user=user).values("version")
    found = DatasetVersion.objects.filter(pk__in=ids).select_related("dataset", "created_by")
    return found.order_by("dataset", "-number")


def _withdraw(going: list[DatasetVersion]) -> int:
    """Nobody trains on them any more, and no model that was trained on them serves: how many adapters."""
    DatasetVersion.objects.filter(pk__in=[version.pk for version in going]).update(
        withdrawn_at=timezone.now()
    )
    runs = TrainingRun.objects.filter(version__in=going).exclude(status__in=ENDED)
    runs.filter(cancel_requested_at=None).update(cancel_requested_at=timezone.now())
    for version in going:
        record(
            AuditKind.DATASET_WITHDRAWN,
            subject=None,
            dataset=str(version.dataset_id),
            version=version.number,
        )
    return promotion.withdraw(adapters_of(going), because=BECAUSE_ERASED)


def _replace(version: DatasetVersion, successor: UUID) -> None:
    """What may stay of a version that was withdrawn, as the newest of its data set; its id is `successor`."""
    people = {row.number: row for row in DatasetRow.objects.filter(version=version)}
    staying = versions.willing({row.user_id for row in people.values() if row.user_id is not None})
    kept: dict[int, Person] = {}
    with versions.rows_to_store() as rows:
        for number, row in _rows_of(version):
            person = people.get(number)
            if person is None:
                rows.add(row, line=number + 1)
            elif person.user_id in staying:
                kept[rows.facts.count] = Person(person.feedback_id, person.user_id)
                rows.add(row, line=number + 1)
        same = version.dataset.versions.filter(sha256=rows.draft.sha256)
        if rows.facts.count < LEAST_ROWS or same.exists():
            return
        versions.add_version(
            successor,
            version.dataset,
            rows.draft,
            kept,
            layout=version.layout,
            origin={"source": "erasure", "of": version.number},
            report=versions.report_on(rows.facts),
            created_by=version.created_by,
        )


def _rows_of(version: DatasetVersion) -> Iterator[tuple[int, Row]]:
    """Its rows with their numbers; none where its file is lost, so that nothing can be copied."""
    try:
        yield from enumerate(read_rows(version))
    except DatasetDamaged:
        return


# --- What a person may download ---------------------------------------------------------------------


def export(user: User) -> list[dict[str, Any]]:
    """In which versions of data sets rows of theirs are, and what was trained on them."""
    rows = DatasetRow.objects.filter(user=user).values("version").annotate(rows=Count("pk"))
    counts: dict[UUID, int] = {row["version"]: row["rows"] for row in rows}
    return [
        {
            "dataset": version.dataset.name,
            "version": version.number,
            "rows": counts[version.pk],
            "created_at": version.created_at,
            "withdrawn_at": version.withdrawn_at,
            "adapters": list(adapters_of([version]).values_list("name", flat=True)),
        }
        for version in _versions_with(user)
    ]
