"""Rows that are written together are the rows that Django would have written one by one."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import LedgerEntry
from inference.models import Conversation, Message
from llmsite.core.bulk import ROWS_A_STATEMENT, insert
from llmsite.core.ids import row_id

pytestmark = pytest.mark.django_db

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
COUNT = 2 * ROWS_A_STATEMENT + 3


def conversations_of(user, count=COUNT):
    return [
        {
            "id": row_id(),
            "owner_id": user.pk,
            "title": f"¿Qué es esto? {number}",
            "preface": [{"role": "user", "content": "Ã©"}] if number % 2 else [],
            "created_at": MOMENT,
            "updated_at": MOMENT,
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, ROWS_A_STATEMENT - 1, ROWS_A_STATEMENT, COUNT])
def test_every_row_is_written_with_its_own_values_and_the_common_ones(alice, count):
    rows = conversations_of(alice, count)

    insert(Conversation, rows, common={"is_listed": False, "model": "echo"})

    names = list(rows[0]) if rows else ["id"]
    written = {row["id"]: row for row in Conversation.objects.values(*names)}
    assert written == {row["id"]: row for row in rows}
    assert Conversation.objects.filter(is_listed=False, model="echo").count() == count


def test_a_column_that_is_empty_in_some_rows_only(alice):
    (conversation,) = conversations_of(alice, 1)
    insert(Conversation, [conversation])
    ids = [row_id() for _ in range(3)]
    rows = [
        {"id": pk, "conversation_id": conversation["id"], "parent_id": parent, "role": "user", "content": "x"}
        for pk, parent in zip(ids, [None, *ids], strict=False)
    ]

    insert(Message, rows)

    assert dict(Message.objects.values_list("id", "parent_id")) == dict(zip(ids, [None, *ids], strict=False))


def test_few_statements_write_many_rows(alice):
    with CaptureQueriesContext(connection) as queries:
        insert(Conversation, conversations_of(alice))

    # One execution for each ten rows, and one for what is left; Django logs each kind once.
    assert len(queries) == 2


def test_a_key_that_the_database_makes_is_left_to_it(alice):
    row = {
        "call": row_id(),
        "account": alice.pseudonym,
        "model": "echo",
        "provider": "echo",
        "created_at": MOMENT,
    }
    nothing = dict.fromkeys(("input_price", "output_price", "input_tokens", "output_tokens", "cost_micro"), 0)
    insert(
        LedgerEntry,
        [row, {**row, "call": row_id()}],
        common={**nothing, "month": MOMENT.date().replace(day=1)},
    )

    assert LedgerEntry.objects.filter(pk__isnull=False).count() == 2
