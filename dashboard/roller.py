"""Keeps the sums of `dashboard.models` exact.

An answer that has ended is added to them once, in the transaction that marks its row (`rolled_up`). What
ended and is not marked yet, a page adds by itself (dashboard/figures.py), so what it shows is always exact.
A worker that is killed has added and marked, or neither.

Whoever changes sums holds the one row of `Progress`. Numbers of an answer that change after its end
(`show_booked`) change the sums in the same transaction, an answer that is deleted before it is counted is
counted first, and sums of a person who goes become those of nobody.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts.models import User
from dashboard.counting import FIELDS, Counted, Prices, Tally
from dashboard.histogram import merged, packed, unpacked
from dashboard.models import MINUTE, AccountSum, AnswerSum, LatencySum, Progress
from inference.models import ChatModelConfig, Generation

BATCH = 2_000
"""Answers that are counted in one transaction."""
MOST_BATCHES = 10
MINUTES_KEPT = timedelta(days=3)
NOBODY = UUID(int=0)
KEYS_AT_ONCE = 500


# --- The chores of the worker ---------------------------------------------------------------------


def roll_up() -> int:
    """Count what has ended since the last time; returns how many answers.

    Of very many, as after an upgrade, the next time has the rest: tasks wait for the end of this.
    """
    counted = 0
    for _ in range(MOST_BATCHES):
        some = _count_some()
        counted += some
        if some < BATCH:
            break
    return counted


def trim() -> int:
    """Delete the minutes that are older than they are kept."""
    old = {"step": MINUTE, "start__lt": minutes_since()}
    return AnswerSum.objects.filter(**old).delete()[0] + LatencySum.objects.filter(**old).delete()[0]


def to_count() -> QuerySet[Generation]:
    """The answers that have ended and are in no sum yet."""
    return Generation.objects.filter(rolled_up=False, ended_at__isnull=False)


def prices() -> Prices:
    rows = ChatModelConfig.objects.values_list("alias", "input_price", "output_price")
    return {alias: (read, written) for alias, read, written in rows}


def minutes_since() -> int:
    """The first minute that is kept."""
    second = int((timezone.now() - MINUTES_KEPT).timestamp())
    return second - second % MINUTE


def _count_some() -> int:
    if not to_count().exists():
        return 0
    with transaction.atomic():
        hold()
        # One that somebody changes at this moment comes next time: they wait for us to let go of the sums.
        rows = to_count().order_by("pk").select_for_update(skip_locked=True, of=("self",))
        found = list(rows.values_list("pk", *FIELDS)[:BATCH])
        _count(found)
    return len(found)


def _count(found: Sequence[tuple[Any, ...]]) -> None:
    ids = [pk for pk, *_ in found]
    marked = sum(
        Generation.objects.filter(pk__in=ids[at : at + KEYS_AT_ONCE], rolled_up=False).update(rolled_up=True)
        for at in range(0, len(ids), KEYS_AT_ONCE)
    )
    if marked != len(found):
        # They are locked, and sums are ours alone; on a database that keeps neither nothing is added twice.
        raise RuntimeError("somebody else has counted these answers")
    add(Tally(prices(), minutes_since=minutes_since()).add(Counted(*values) for _, *values in found))


# --- What happens to answers that have ended --------------------------------------------------------


def count_before_deletion(instance: Generation, **_kwargs: Any) -> None:
    """Have an answer in the sums before its row goes."""
    if instance.rolled_up or instance.ended_at is None:
        return
    with transaction.atomic():
        # First the row and then the sums, in the order of whoever changes a row.
        row = to_count().filter(pk=instance.pk).select_for_update(of=("self",))
        if found := list(row.values_list("pk", *FIELDS)):
            hold()
            _count(found)


def change(row: Generation, values: Mapping[str, Any], **_kwargs: Any) -> None:
    """Let the sums follow a row that they have. Called in a transaction that holds the row."""
    hold()
    before = Counted(*Generation.objects.filter(pk=row.pk).values_list(*FIELDS).get())
    after = before._replace(**{name: values[name] for name in values if name in Counted._fields})
    add(Tally(prices(), minutes_since=minutes_since()).add([before], sign=-1).add([after]))


@transaction.atomic
def forget_person(instance: User, **_kwargs: Any) -> None:
    """Give the sums of somebody who is gone to nobody."""
    hold()
    theirs = AccountSum.objects.filter(account=instance.pseudonym)
    tally = Tally({})
    for start, *sums in theirs.values_list("start", *AccountSum.SUMS):
        tally.accounts[start, NOBODY, ""] = [
            had + more for had, more in zip(tally.accounts[start, NOBODY, ""], sums, strict=True)
        ]
    add(tally)
    theirs.delete()


# --- Adding -----------------------------------------------------------------------------------------


def hold() -> None:
    """Be the only one who changes sums, until the end of the transaction; readers notice."""
    if not Progress.objects.filter(pk=1).update(number=F("number") + 1):
        Progress.objects.bulk_create([Progress(pk=1)], ignore_conflicts=True)
        Progress.objects.filter(pk=1).update(number=F("number") + 1)


def add(tally: Tally) -> None:
    """Add to the sums, which the caller holds (`hold`)."""
    _upsert(AnswerSum, tally.answers)
    _upsert(AccountSum, tally.accounts)
    _add_latencies(tally)


def _upsert(model: type[AnswerSum] | type[AccountSum], sums: Mapping[tuple[Any, ...], list[int]]) -> None:
    """Add to the rows of these keys, and make those that are missing."""
    rows = [[*key, *values] for key, values in sorted(sums.items()) if any(values)]
    if not rows:
        return
    quote, table = connection.ops.quote_name, connection.ops.quote_name(model._meta.db_table)
    names = [*model.KEY, *model.SUMS]
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    values = [
        [field.get_db_prep_save(value, connection) for field, value in zip(fields, row, strict=True)]
        for row in rows
    ]
    grown = ", ".join(
        f"{quote(name)} = {table}.{quote(name)} + excluded.{quote(name)}" for name in model.SUMS
    )
    # All names are those of our own tables.
    statement = (
        f"INSERT INTO {table} ({', '.join(map(quote, names))}) VALUES ({', '.join(['%s'] * len(names))}) "  # noqa: S608
        f"ON CONFLICT ({', '.join(map(quote, model.KEY))}) DO UPDATE SET {grown}"
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)


def _add_latencies(tally: Tally) -> None:
    new = {key: bins for key, bins in tally.latencies.items() if any(bins.values())}
    if not new:
        return
    rows = {(row.step, row.start, row.measure, row.cached): row for row in _latencies_at(new)}
    for key, bins in new.items():
        row = rows.setdefault(key, LatencySum(**dict(zip(LatencySum.KEY, key, strict=True))))
        row.bins = packed(merged([unpacked(row.bins), bins]))
    LatencySum.objects.bulk_update([row for row in rows.values() if row.pk], ["bins"], batch_size=200)
    LatencySum.objects.bulk_create([row for row in rows.values() if not row.pk])


def _latencies_at(keys: Mapping[tuple[int, int, str, bool], Any]) -> list[LatencySum]:
    """The rows of these keys, and of others at the same times."""
    starts: dict[int, set[int]] = {}
    for step, start, *_ in keys:
        starts.setdefault(step, set()).add(start)
    found: list[LatencySum] = []
    for step, some in starts.items():
        ordered = sorted(some)
        for at in range(0, len(ordered), KEYS_AT_ONCE):
            found += LatencySum.objects.filter(step=step, start__in=ordered[at : at + KEYS_AT_ONCE])
    return [row for row in found if (row.step, row.start, row.measure, row.cached) in keys]
