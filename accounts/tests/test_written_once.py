"""The ledger and the audit log: nobody rewrites them, and reading them takes no sorting."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import audit
from accounts.audit import as_json_lines
from accounts.models import AuditEvent, LedgerEntry
from accounts.models.audit import AuditKind

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[AuditEvent, LedgerEntry])
def row(request):
    if request.param is AuditEvent:
        return AuditEvent.objects.create(kind=AuditKind.SIGNED_IN)
    return LedgerEntry.objects.create(
        account=uuid4(),
        month=timezone.now().date(),
        model="m",
        provider="p",
        input_price=1,
        output_price=1,
        call=uuid4(),
        input_tokens=1,
        output_tokens=1,
        cost_micro=2,
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda rows, row: rows.all().delete(),
        lambda rows, row: rows.filter(pk=row.pk).delete(),
        lambda rows, row: rows.update(created_at=timezone.now()),
        lambda rows, row: rows.filter(pk=row.pk).update(created_at=timezone.now()),
        lambda rows, row: rows.bulk_update([row], ["created_at"]),
        lambda rows, row: rows.update_or_create(pk=row.pk, defaults={"created_at": timezone.now()}),
        lambda rows, row: row.save(),
        lambda rows, row: row.delete(),
    ],
)
def test_the_code_cannot_change_a_row(change, row):
    rows = type(row).objects
    before = list(rows.values())

    with pytest.raises(TypeError, match="is never"):
        change(rows, row)

    assert list(rows.values()) == before


async def test_nor_can_asynchronous_code(db):
    with pytest.raises(TypeError, match="never deleted"):
        await AuditEvent.objects.all().adelete()
    with pytest.raises(TypeError, match="never changed"):
        await LedgerEntry.objects.all().aupdate(cost_micro=0)


def test_the_database_refuses_it_too(row):
    table = connection.ops.quote_name(row._meta.db_table)
    statements = [f"UPDATE {table} SET created_at = created_at"]
    if connection.vendor == "postgresql":
        statements.append(f"DELETE FROM {table}")

    for statement in statements:
        with pytest.raises(DatabaseError, match="written once"), transaction.atomic():
            connection.cursor().execute(statement)

    assert type(row).objects.count() == 1


def test_each_page_of_an_export_is_read_off_an_index(monkeypatch):
    monkeypatch.setattr(audit, "PAGE", 2)
    moment = timezone.now()
    for at in range(5):
        AuditEvent.objects.create(kind=AuditKind.SIGNED_IN, created_at=moment + timedelta(seconds=at // 3))

    with CaptureQueriesContext(connection) as pages:
        list(as_json_lines(AuditEvent.objects.all()))
        list(AuditEvent.objects.all()[:2])

    assert len(pages) == 5
    for page in pages:
        plan = plan_of(page["sql"])
        assert "accounts_audit_by_time" in plan
        # How SQLite and PostgreSQL say that they sort, or look twice.
        assert "TEMP B-TREE" not in plan
        assert "Sort" not in plan
        assert "MULTI-INDEX" not in plan
        # The index leads to the place: nothing before it is read again.
        assert "WHERE" not in page["sql"] or "(created_at>" in plan or "Index Cond: (created_at >=" in plan


def plan_of(sql):
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # So few rows would be read whatever the index.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_bitmapscan = off")
            cursor.execute(f"EXPLAIN {sql}")
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return "\n".join(" ".join(map(str, line)) for line in cursor.fetchall())
