"""From a person to what was trained on their words, and back; and what becomes of it when the person goes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_noop

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from feedback.models import ReviewStatus
from inference.models import Adapter
from llmsite.core.errors import DatasetDamaged, DiskFull, ErasureUnfinished
from training import promotion, storage, versions
from training.models import ENDED, Dataset, DatasetRow, DatasetVersion, Layout, TrainingRun
from training.rows import Row, read_rows
from training.versions import LEAST_ROWS, PeopleChanged, Person, Rows

BECAUSE_ERASED = gettext_noop("Somebody in its data was erased.")
TRIES = 5
"""How often what is left of a version is put together anew because the data set has changed meanwhile."""


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


def obstacle(version: DatasetVersion) -> str:
    """Why nobody may train on a version as things are today, as a word of `training.failures`; else empty."""
    if version.withdrawn_at is not None:
        return "withdrawn"
    people = people_in(version)
    return "unwilling" if people.unwilling else "revoked" if people.revoked else ""


def people_in(version: DatasetVersion) -> People:
    allows = Q(user__training_consent_at__isnull=False, user__is_active=True)
    counts = DatasetRow.objects.filter(version=version).aggregate(
        people=Count("user", distinct=True), rows=Count("pk"), willing=Count("pk", filter=allows)
    )
    return People(
        counts["people"],
        counts["rows"],
        counts["rows"] - counts["willing"],
        counts["rows"] - _standing(version).count(),
    )


def _standing(version: DatasetVersion) -> QuerySet[DatasetRow]:
    """Those of its rows from feedback whose feedback is there, and is what it was."""
    rows = DatasetRow.objects.filter(version=version)
    if version.layout == Layout.RATED:
        return rows.filter(feedback__isnull=False).exclude(feedback__status=ReviewStatus.REJECTED)
    return rows.filter(feedback__status=ReviewStatus.ACCEPTED)


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
    for _try in range(TRIES):
        with versions.rows_to_store() as rows, suppress(PeopleChanged):
            affected, counts = _change_rows(dataset, user, _remainder(dataset, user, rows))
            break
    else:
        raise ErasureUnfinished(detail=f"{dataset} changes all the time")
    # Also those that an erasure before this one has withdrawn, and died.
    promotion.remove_files(adapters_of(affected).exclude(withdrawn_at=None))
    for version in affected:
        storage.remove(version.pk)
    gone = DatasetRow.objects.filter(version__in=affected, user=user).delete()[0]
    return {**counts, "dataset_rows": gone}


def _change_rows(
    dataset: Dataset, user: User, left: "Remainder | None"
) -> tuple[list[DatasetVersion], dict[str, int]]:
    """The versions with rows of `user`, which are withdrawn now, and the counts of what was done.

    Raises PeopleChanged, and nothing is changed, where `left` is not what is to take their place any more.
    """
    with versions.new_version() as pk, transaction.atomic():
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        affected = list(_versions_with(user).filter(dataset=dataset))
        going = [version for version in affected if version.withdrawn_at is None]
        if _to_replace(dataset, going) != (left and left.of):
            raise PeopleChanged
        adapters = _withdraw(going)
        if left is not None:
            left.store(pk)
    return affected, {"dataset_versions": len(going), "adapters_withdrawn": adapters}


def _to_replace(dataset: Dataset, going: list[DatasetVersion]) -> DatasetVersion | None:
    """The one of those that go, newest first, whose place another takes: the newest of its data set."""
    if not going or dataset.versions.usable().filter(number__gt=going[0].number).exists():
        return None
    return going[0]


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


# --- What takes the place of a version ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remainder:
    """What may stay of a version, in a file that is ready before the version is withdrawn.

    To copy the rows takes seconds, and a transaction of that length would keep everybody else waiting.
    """

    of: DatasetVersion
    rows: Rows
    people: dict[int, Person]
    report: dict[str, Any]

    def store(self, pk: UUID) -> None:
        """Make it the newest version; call it in a transaction. Raises PeopleChanged, and DiskFull.

        Too few rows are no version, nor are those that another one has already.
        """
        versions.require_willing({person.user for person in self.people.values()})
        dataset, draft = self.of.dataset, self.rows.draft
        if draft.count < LEAST_ROWS or dataset.versions.filter(sha256=draft.sha256).exists():
            return
        versions.add_version(
            pk,
            dataset,
            draft,
            self.people,
            layout=self.of.layout,
            origin={"source": "erasure", "of": self.of.number},
            report=self.report,
            created_by=self.of.created_by,
        )


def _remainder(dataset: Dataset, user: User, rows: Rows) -> Remainder | None:
    """What is to take the place of the newest version, where rows of `user` are in it, written to `rows`."""
    going = list(_versions_with(user).filter(dataset=dataset, withdrawn_at=None))
    if (version := _to_replace(dataset, going)) is None:
        return None
    people = {row.number: row for row in DatasetRow.objects.filter(version=version)}
    standing = set(_standing(version).values_list("number", flat=True))
    others = {row.user_id for row in people.values() if row.user_id not in (None, user.pk)}
    staying = versions.willing(others)
    kept: dict[int, Person] = {}
    for number, row in _rows_of(version):
        person = people.get(number)
        if person is not None and person.user_id in staying and number in standing:
            kept[rows.facts.count] = Person(person.feedback_id, person.user_id)
        elif person is not None:
            continue
        rows.add(row, line=number + 1)
    rows.draft.to_disk()
    report = versions.report_on(rows.facts) if rows.facts.count else {}
    return Remainder(version, rows, kept, report)


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
