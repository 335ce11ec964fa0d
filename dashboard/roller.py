"""Keeps the sums of `dashboard.models` exact.

An answer that has ended is added to them once, in the transaction that marks its row (`rolled_up`). What
ended and is not marked yet, a page adds by itself (dashboard/figures.py), so what it shows is exact.
A worker that is killed has added and marked, or neither.

Whoever changes sums holds the one row of `Progress`, and has locked all rows of answers by then that it
locks at all, so no two wait for each other. Numbers of an answer that change after its end (`show_booked`)
change the sums in the same transaction, and answers that are deleted before they are counted are counted as
they go. Sums of a person who goes become those of nobody, and sums of a key those without a key: the rows of
its answers do not name it any more either, so what changes later finds them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts.models import ApiKey, User
from dashboard.counting import FIELDS, Counted, Prices, Tally
from dashboard.histogram import merged, packed, unpacked
from dashboard.models import MINUTE, AccountSum, AnswerSum, LatencySum, Progress
from inference.models import ChatModelConfig, Generation

BATCH = 2_000
"""Answers that are counted in one transaction."""
MINUTES_KEPT = timedelta(days=3)
NOBODY = UUID(int=0)
KEYS_AT_ONCE = 500
_NOTED = "_answers_to_count"


# --- The chores of the worker ---------------------------------------------------------------------


def roll_up() -> int:
    """Count all that has ended since the last time; returns how many answers."""
    counted = 0
    while (some := _count_some()) == BATCH:
        counted += some
    return counted + some


def count_in_turns() -> bool:
    """Count a batch; True where there is more. Of very many, as after an upgrade, others have their turns."""
    has_more = _count_some() == BATCH
    now = timezone.now()
    Progress.objects.bulk_create([Progress(pk=1)], ignore_conflicts=True)
    Progress.objects.filter(pk=1).update(counted_at=now)
    return has_more


def is_counting(*, since: datetime) -> bool:
    """Whether a worker has counted after that moment, or seen that there was nothing to count."""
    return Progress.objects.filter(counted_at__gte=since).exists()


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
        # The one place where rows are locked after the sums, so it must not wait for any: one that somebody
        # changes at this moment comes next time.
        rows = to_count().order_by("pk").select_for_update(skip_locked=True, of=("self",))
        found = list(rows.values_list("pk", *FIELDS)[:BATCH])
        _count(found)
    return len(found)


def _count(found: Sequence[tuple[Any, ...]]) -> None:
    ids = [pk for pk, *_ in found]
    for at in range(0, len(ids), KEYS_AT_ONCE):
        Generation.objects.filter(pk__in=ids[at : at + KEYS_AT_ONCE]).update(rolled_up=True)
    _add_rows(Counted(*values) for _, *values in found)


def _add_rows(rows: Iterable[Counted]) -> None:
    add(Tally(prices(), minutes_since=minutes_since()).add(rows))


# --- What happens to answers that have ended --------------------------------------------------------


def note_deletion(instance: Generation, **_kwargs: Any) -> None:
    """Lock an answer that is about to go and is in no sum yet, and remember it where it has ended.

    Sent for all answers of a deletion before the first of them goes, in its transaction.
    """
    if instance.rolled_up:
        return
    # The database is asked: the instance may have been read before the answer's end. One that runs does not
    # end any more once it is locked.
    row = Generation.objects.filter(pk=instance.pk, rolled_up=False).select_for_update(of=("self",))
    ended_at, *values = row.values_list("ended_at", *FIELDS).first() or (None,)
    if ended_at is not None:
        _of_this_deletion().setdefault(_NOTED, []).append(Counted(*values))


def count_deleted(**_kwargs: Any) -> None:
    """Count what `note_deletion` has noted, all with the first that is gone. The rows are locked by now."""
    if noted := _of_this_deletion().pop(_NOTED, None):
        hold()
        _add_rows(noted)


def _of_this_deletion() -> dict[str, Any]:
    """What hangs on the block of its transaction: each has one of its own, and one that fails leaves nothing.

    The row or the queryset that is deleted would carry notes over to the next try.
    """
    return vars(connection.atomic_blocks[-1])


def change(row: Generation, values: Mapping[str, Any], **_kwargs: Any) -> None:
    """Let the sums follow a row that they have. Called in a transaction that holds the row."""
    hold()
    before = Counted(*Generation.objects.filter(pk=row.pk).values_list(*FIELDS).get())
    after = before._replace(**{name: values[name] for name in values if name in Counted._fields})
    add(Tally(prices(), minutes_since=minutes_since()).add([before], sign=-1).add([after]))


def forget_person(instance: User, **_kwargs: Any) -> None:
    """Give the sums of somebody who is gone to nobody."""
    _hand_over(AccountSum.objects.filter(account=instance.pseudonym), to=NOBODY)


def forget_key(instance: ApiKey, **_kwargs: Any) -> None:
    """Add the sums of a key that is gone to what its owner asked for without one."""
    owner = User.objects.filter(pk=instance.user_id).values("pseudonym")
    _hand_over(AccountSum.objects.filter(account__in=owner, api_key=instance.public_id))


def _hand_over(theirs: QuerySet[AccountSum], *, to: UUID | None = None) -> None:
    """Make these sums those of the same person, or of `to`, without a key.

    Called in the transaction of a deletion, which has locked the rows of all answers that they are of.
    """
    hold()
    tally = Tally({})
    for start, account, *sums in theirs.values_list("start", "account", *AccountSum.SUMS):
        key = start, to or account, ""
        tally.accounts[key] = [one + more for one, more in zip(tally.accounts[key], sums, strict=True)]
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
