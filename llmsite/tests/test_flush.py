"""What the flush of the tests leaves: roles and permissions as migrating left them, and no more."""

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection
from django.test import TransactionTestCase

from accounts import roles
from accounts.audit import record
from accounts.models import AuditEvent, User
from accounts.models.audit import AuditKind
from llmsite.testing.flush import KEPT, QuickFlush

pytestmark = pytest.mark.django_db(transaction=True)


def filled_tables():
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{t}' WHERE EXISTS (TABLE {t})" for t in tables))
        return {name for (name,) in cursor.fetchall()}


def rights_of_members():
    return set(Group.objects.get(name=roles.MEMBER).permissions.values_list("codename", flat=True))


def test_it_keeps_what_djangos_own_flush_makes_again_and_nothing_else(alice):
    call_command("flush", interactive=False, verbosity=0)

    assert filled_tables() == set(KEPT)


def test_rows_go_that_nobody_may_delete(alice):
    record(AuditKind.SIGN_IN_FAILED, subject=alice)

    QuickFlush()(TransactionTestCase())

    assert not AuditEvent.objects.exists()
    assert not User.objects.exists()
    assert filled_tables() == set(KEPT)


def test_rights_that_a_test_has_changed_are_as_before():
    flush, before = QuickFlush(), rights_of_members()
    Group.objects.get(name=roles.MEMBER).permissions.clear()

    flush(TransactionTestCase())

    assert rights_of_members() == before != set()
