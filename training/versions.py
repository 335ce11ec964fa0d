"""Versions of data sets: rows and whose they are become one, in one transaction with its file."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from feedback.models import Example, ExampleKind
from llmsite.core.bulk import insert
from llmsite.core.disk import telling_when_full
from llmsite.core.errors import DatasetWithdrawn
from llmsite.core.ids import row_id
from training import storage
from training.models import Dataset, DatasetRow, DatasetVersion
from training.report import Facts, report_of
from training.rows import Row, digests_of, line_of, question_of
from training.storage import Draft
from training.tokens import counter_of, length_of, tokenizer_file

LEAST_ROWS = 2


@dataclass(frozen=True, slots=True)
class Person:
    """Whose feedback a row is."""

    feedback: UUID | None
    """None where it is gone, and the person is known still."""
    user: int


@dataclass(frozen=True, slots=True)
class Imported:
    """`is_new` is False where the data set had these very rows already."""

    version: DatasetVersion
    is_new: bool


class PeopleChanged(Exception):
    """Somebody whose words are in the rows has taken back their consent, or goes, since these were read."""


# --- On the way ------------------------------------------------------------------------------------


class Rows:
    """Rows on their way to a version, and what is seen in them."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.facts = Facts()
        self._count = counter_of(tokenizer_file())

    def add(self, row: Row, *, line: int) -> None:
        """Raises DiskFull."""
        self.facts.add(line=line, tokens=length_of(row, self._count), **digests_of(row))
        self.draft.add(line_of(row))


@contextmanager
def rows_to_store() -> Iterator[Rows]:
    """Rows that come from no file; gone with the block unless they become a version. Raises DiskFull."""
    with storage.draft() as draft:
        yield Rows(draft)


def report_on(facts: Facts) -> dict[str, Any]:
    """What is seen in rows (`training.report`), with the evaluation cases and the model of today."""
    unit = "tokens" if tokenizer_file() else "characters"
    return report_of(facts, cases=_cases(), unit=unit, limit=settings.LOCAL_CONTEXT)


def _cases() -> Iterator[bytes]:
    """The questions that models are examined with."""
    cases = Example.objects.filter(kind=ExampleKind.EVALUATION).values_list("prompt", flat=True)
    for prompt in cases.iterator():
        yield question_of({"prompt": prompt})


# --- A new version ---------------------------------------------------------------------------------


def store(
    draft: Draft,
    name: str,
    user: User | None,
    *,
    values: dict[str, Any],
    people: Mapping[int, Person],
) -> Imported:
    """The rows of a draft as the newest version of a data set. Raises PeopleChanged."""
    with new_version() as pk, telling_when_full(), transaction.atomic():
        dataset, _is_new = Dataset.objects.get_or_create(name=name, defaults={"created_by": user})
        # Locked, so that two versions at the same moment have different numbers.
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        if (known := _with_these_rows(dataset, draft.sha256)) is not None:
            return Imported(known, is_new=False)
        require_willing({person.user for person in people.values()})
        version = add_version(pk, dataset, draft, people, created_by=user, **values)
        record(
            AuditKind.DATASET_MADE,
            subject=user,
            dataset=str(dataset.pk),
            version=version.number,
            source=values["origin"]["source"],
        )
    return Imported(version, is_new=True)


@contextmanager
def new_version() -> Iterator[UUID]:
    """The id of a version whose transaction is in the block; where that fails, its file goes too."""
    pk = row_id()
    try:
        yield pk
    except BaseException:
        storage.remove(pk)
        raise


def add_version(
    pk: UUID, dataset: Dataset, draft: Draft, people: Mapping[int, Person], **values: Any
) -> DatasetVersion:
    """The newest version of a data set, with its file and whose its rows are; call it in a transaction."""
    number = (dataset.versions.aggregate(last=Max("number"))["last"] or 0) + 1
    identity = {"pk": pk, "dataset": dataset, "number": number}
    version = DatasetVersion.objects.create(**identity, sha256=draft.sha256, row_count=draft.count, **values)
    insert(
        DatasetRow,
        [
            {"id": row_id(), "number": at, "feedback_id": person.feedback, "user_id": person.user}
            for at, person in people.items()
        ],
        common={"version_id": pk},
    )
    draft.keep(pk)
    return version


def _with_these_rows(dataset: Dataset, sha256: str) -> DatasetVersion | None:
    known = dataset.versions.filter(sha256=sha256).first()
    if known is not None and known.withdrawn_at is not None:
        raise DatasetWithdrawn
    return known


def require_willing(users: set[int]) -> None:
    """Raises PeopleChanged where one of them does not allow training any more, or is being erased.

    Their accounts are locked until the end of the transaction: whoever takes it back, or goes, at the same
    moment has done so before and is seen here, or finds the rows that are being added.
    """
    if len(willing(users, locked=True)) != len(users):
        raise PeopleChanged


def willing(users: Iterable[int], *, locked: bool = False) -> set[int]:
    """Those of them who allow training and are not being erased; `locked` until the transaction ends."""
    allowing = User.objects.filter(pk__in=users, is_active=True, training_consent_at__isnull=False)
    if locked:
        allowing = allowing.select_for_update().order_by("pk")
    return set(allowing.values_list("pk", flat=True))
