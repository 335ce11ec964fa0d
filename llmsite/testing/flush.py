"""Empties the tests' PostgreSQL at the price of what a test wrote.

Django does so after each test that commits: it truncates all tables, which makes a file of each anew, and
fills those of the roles and permissions again. That takes longer than most tests. This deletes what there
is to delete, and leaves the tables of roles and permissions alone where they are as migrating left them.
"""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.test import TransactionTestCase

from accounts.models import RoleGrant

# What `migrate` fills at its end, and would fill again after Django's own flush.
FILLED = (ContentType, Permission, Group, Group.permissions.through, RoleGrant)
KEPT = [model._meta.db_table for model in FILLED]

_flush_as_django = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]


class QuickFlush:
    """Made right after the migrations; called in the place of Django's flush."""

    def __init__(self) -> None:
        tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
        self._emptied = sorted(set(tables) - set(KEPT))
        self._kept = self._content_of_kept()

    def __call__(self, test_case: TransactionTestCase) -> None:
        if self._content_of_kept() == self._kept:
            self._delete()
            return
        _flush_as_django(test_case)
        self._kept = self._content_of_kept()

    def _delete(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            # Who writes yet, a process that the test has started, is waited for, and its rows go too.
            cursor.execute(f"LOCK TABLE {', '.join(map(_quoted, self._emptied))} IN EXCLUSIVE MODE")
            cursor.execute(
                " UNION ALL ".join(f"SELECT '{t}' WHERE EXISTS (TABLE {_quoted(t)})" for t in self._emptied)
            )
            filled = [name for (name,) in cursor.fetchall()]
            # Without triggers, which keep foreign keys and let nobody delete what is written once.
            cursor.execute("SET LOCAL session_replication_role = replica")
            for name in filled:
                cursor.execute(f"DELETE FROM {_quoted(name)}")

    def _content_of_kept(self) -> Any:
        with connection.cursor() as cursor:
            digests = (
                f"(SELECT md5(string_agg(t::text, ';' ORDER BY id)) FROM {_quoted(name)} t)" for name in KEPT
            )
            cursor.execute(f"SELECT {', '.join(digests)}")
            return cursor.fetchone()


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
