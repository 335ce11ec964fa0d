"""A site of the first version gets the tables, and the people that it has keep what they may do."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

ALIAS = "older"


@pytest.fixture
def older(django_db_setup, django_db_blocker):
    """A database of its own, in memory, as the first version left it.

    A migration of django-tasks-db asks the default database, whichever one it is run for.
    """
    settings = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    connections.settings[ALIAS] = {**settings, "OPTIONS": {}, "CONN_HEALTH_CHECKS": False}
    with django_db_blocker.unblock():
        migrate("accounts", "0001")
        migrate("inference", "0002")
        yield connections[ALIAS]
        connections[ALIAS].close()
    del connections[ALIAS]
    del connections.settings[ALIAS]
    ContentType.objects.clear_cache()


def migrate(*target):
    call_command("migrate", *target, database=ALIAS, verbosity=0)


def test_the_people_of_an_older_site_keep_what_they_may_do(older):
    then = MigrationExecutor(older).loader.project_state([("accounts", "0001_initial")]).apps
    people = then.get_model("accounts", "User").objects.using(ALIAS)
    people.create(username="alice")
    people.create(username="carol", is_staff=True)
    people.create(username="root", is_staff=True, is_superuser=True)

    migrate()

    with older.cursor() as cursor:
        cursor.execute(
            "SELECT u.username, g.name FROM accounts_user u JOIN accounts_user_groups m ON m.user_id = u.id "
            "JOIN auth_group g ON g.id = m.group_id ORDER BY u.username, g.name"
        )
        roles = cursor.fetchall()
        cursor.execute(
            "SELECT g.name FROM auth_group g JOIN auth_group_permissions m ON m.group_id = g.id "
            "JOIN auth_permission p ON p.id = m.permission_id WHERE codename = 'add_apikey' ORDER BY g.name"
        )
        may_make_keys = cursor.fetchall()
        cursor.execute("SELECT COUNT(DISTINCT pseudonym) FROM accounts_user")
        pseudonyms = cursor.fetchone()
    assert roles == [("alice", "member"), ("carol", "curator"), ("carol", "member"), ("root", "member")]
    assert may_make_keys == [("admin",), ("member",)]
    assert pseudonyms == (3,)
