"""Data sets that are there: the way to one, its rows, and deleting it."""

from itertools import islice
from uuid import UUID

from django.db import transaction
from django.db.models import ProtectedError

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from llmsite.core.errors import DatasetInUse, NotFound
from training import storage
from training.models import Dataset, DatasetVersion
from training.rows import Row, read_file

ROWS_AT_ONCE = 20


def access_dataset(pk: UUID) -> Dataset:
    """The only way to a data set by its id; every operator may use all of them. Raises NotFound."""
    dataset = Dataset.objects.filter(pk=pk).first()
    if dataset is None:
        raise NotFound
    return dataset


def version_of(dataset: Dataset, number: int | None) -> DatasetVersion:
    """The version of this number, else the newest that may be used. Raises NotFound."""
    versions = dataset.versions.select_related("dataset").order_by("-number")
    found = (versions.usable() if number is None else versions.filter(number=number)).first()
    if found is None:
        raise NotFound
    return found


def shown_rows(version: DatasetVersion, start: int) -> tuple[list[Row], int | None]:
    """The rows from `start` on, as many as are shown at once, and where the next ones begin.

    Raises NotFound for a version that was withdrawn, and DatasetDamaged.
    """
    if version.withdrawn_at is not None:
        raise NotFound
    found = read_file(storage.checked_path(version), start=start)
    rows = list(islice(found, ROWS_AT_ONCE))
    following = start + ROWS_AT_ONCE
    return rows, following if following < version.row_count else None


def delete_dataset(dataset: Dataset, *, actor: User) -> None:
    """With all its versions and their files. Raises DatasetInUse where a run stands on one of them."""
    versions = list(dataset.versions.values_list("pk", flat=True))
    try:
        with transaction.atomic():
            record(AuditKind.DATASET_DELETED, subject=actor, dataset=str(dataset.pk))
            dataset.delete()
    except ProtectedError as error:
        raise DatasetInUse(dataset=dataset.name) from error
    for pk in versions:
        storage.remove(pk)
