"""Rows that are past their time are locked before they are looked at again, and only then removed."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference.models import Conversation
from llmsite.retention.pruning import prune

pytestmark = pytest.mark.django_db


def test_rows_are_locked_before_they_are_looked_at_again(alice, settings):
    """Between the two nobody comes back to one. SQLite lets nobody write within a transaction anyhow."""
    settings.RETENTION_CONVERSATIONS_DAYS = 30
    row = Conversation.objects.create(owner=alice)
    Conversation.objects.filter(pk=row.pk).update(updated_at=timezone.now() - timedelta(days=100))
    with CaptureQueriesContext(connection) as queries:
        assert prune() == {"conversations": 1}
    table = f'FROM "{Conversation._meta.db_table}"'
    seen = [one["sql"] for one in queries if table in one["sql"]]
    locked = [number for number, sql in enumerate(seen) if "FOR UPDATE" in sql]
    assert bool(locked) == connection.features.has_select_for_update
    deleted = [number for number, sql in enumerate(seen) if sql.startswith("DELETE")]
    looked = [number for number, sql in enumerate(seen) if "updated_at" in sql and number < deleted[0]]
    assert len(looked) >= 2
    assert all(number < looked[-1] for number in locked)
