"""A backup brought back: every row and every file as it was, on one database and across two."""

import io
import json
import stat
import tarfile
from contextlib import contextmanager

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.db.utils import load_backend
from django.test import Client

from accounts.models import ApiKey, AuditEvent, Session, User
from conftest import PASSWORD
from embeddings.models import Collection
from inference.models import Conversation, Version
from llmsite.backup import tables
from llmsite.backup.making import make
from llmsite.backup.refusal import Refused
from llmsite.backup.restoring import restore
from llmsite.tests.backup.conftest import ODD, add_document, files_below, finished_task

pytestmark = pytest.mark.django_db(transaction=True)


def lose_everything(folders):
    """The database and the disks, as after a fire."""
    with transaction.atomic():
        tables.empty()
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("TRUNCATE accounts_auditevent")
        else:
            AuditEvent._base_manager.all()._raw_delete(connection.alias)
    for name in files_below(folders):
        (folders / name).unlink()


def test_all_rows_and_files_come_back(full, folders, rows):
    before, files, told = rows(), files_below(folders), set(AuditEvent.objects.values_list("pk", flat=True))
    make(folders / "site.tar.gz")
    lose_everything(folders)
    assert not User.objects.exists()
    assert not files_below(folders)

    restored = restore(folders / "site.tar.gz")

    assert rows() == before
    assert files_below(folders) == files
    assert set(AuditEvent.objects.values_list("pk", flat=True)) > told
    assert restored.problems == []
    assert restored.tables["embeddings.Document"] == 2
    assert sum(restored.files.values()) == len(files)
    assert restored.files["documents"] == 2
    assert Conversation.objects.get(pk=full.conversation).preface == [ODD]


def test_people_sign_in_and_programs_go_on_and_new_rows_get_new_ids(full, folders, alice):
    make(folders / "site.tar.gz")
    lose_everything(folders)
    restore(folders / "site.tar.gz")

    assert not Session.objects.exists()
    answer = Client().post("/login/", {"username": "alice", "password": PASSWORD})
    assert answer.status_code == 302
    assert ApiKey.objects.filter(user__username="alice").exists()
    last = max(User.objects.values_list("pk", flat=True))
    assert User.objects.create(username="new").pk > last


def test_every_table_is_in_it_or_left_out_with_a_reason(db):
    named = {model._meta.db_table for model in tables.kept_models()}
    named |= {apps.get_model(label)._meta.db_table for label in tables.LEFT_OUT}
    there = {name for name in connection.introspection.table_names() if "embeddings_vectors_" not in name}
    assert there - named == {"django_migrations"}


KNOWN = (
    *(
        "AutoField",
        "BigAutoField",
        "BigIntegerField",
        "BinaryField",
        "BooleanField",
        "CharField",
        "DateField",
    ),
    *("DateTimeField", "DecimalField", "EmailField", "FloatField", "ForeignKey", "IntegerField", "JSONField"),
    *("OneToOneField", "PositiveBigIntegerField", "PositiveIntegerField", "PositiveSmallIntegerField"),
    *("SmallIntegerField", "TextField", "UUIDField"),
)


def test_every_kind_of_column_is_one_that_is_known_to_come_back():
    fields = [field for model in tables.kept_models() for field in model._meta.local_concrete_fields]
    assert {type(field).__name__ for field in fields} <= set(KNOWN)
    assert not any(field.generated for field in fields)


def test_what_means_nothing_later_is_left_out_and_named(full, folders):
    finished_task()
    make(folders / "site.tar.gz")
    with tarfile.open(folders / "site.tar.gz") as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        names = tar.getnames()
        tasks = tar.extractfile("rows/django_tasks_database.DBTaskResult/000001.jsonl").read()
    assert "accounts.Session" in manifest["left_out"]
    assert not any("accounts.Session" in name or "RefreshToken" in name for name in names)
    assert len(tasks.splitlines()) == 1
    assert names[0] == "about.json"
    assert names[-1] == "manifest.json"


def test_no_secret_of_the_settings_is_in_it(full, folders, settings):
    settings.OPENAI_API_KEY = "sk-canary-of-the-provider"
    make(folders / "site.tar.gz")
    with tarfile.open(folders / "site.tar.gz") as tar:
        everything = b"".join(tar.extractfile(member).read() for member in tar)
    assert settings.SECRET_KEY.encode() not in everything
    assert b"sk-canary" not in everything
    assert b"alice" in everything


def test_only_its_owner_reads_it_and_nothing_is_overwritten(full, folders):
    place = folders / "site.tar.gz"
    make(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    content = place.read_bytes()
    with pytest.raises(Refused, match="is there already"):
        make(place)
    assert place.read_bytes() == content


def test_the_commands_tell_what_they_did(full, folders):
    out = io.StringIO()
    call_command("backup", str(folders / "a.tar.gz"), "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert told["tables"]["embeddings.Document"] == 2
    assert told["bytes"] == (folders / "a.tar.gz").stat().st_size

    out = io.StringIO()
    call_command("restore", str(folders / "a.tar.gz"), "--check", "--json", stdout=out, verbosity=0)
    assert json.loads(out.getvalue())["whole"] is True
    with pytest.raises(CommandError, match="not empty: it has 2 accounts"):
        call_command("restore", str(folders / "a.tar.gz"), verbosity=0)
    out = io.StringIO()
    call_command("restore", str(folders / "a.tar.gz"), "--force", "--json", stdout=out, verbosity=0)
    assert json.loads(out.getvalue())["tables"]["accounts.User"] == 2


def test_no_answer_of_another_time_is_told(full, folders):
    """Numbers of a backup have been there before; keys of cached answers hold them."""
    make(folders / "site.tar.gz")
    number = Version.objects.filter(name=Version.CACHE).first()
    Version.objects.update_or_create(name=Version.CACHE, defaults={"number": 2**50})
    restore(folders / "site.tar.gz", force=True)
    assert Version.objects.get(name=Version.CACHE).number > 2**50
    assert number is None or number.number < 2**50


def test_files_that_no_row_of_the_backup_names_are_gone_after_it(full, folders):
    files = files_below(folders)
    make(folders / "site.tar.gz")
    add_document(Collection.objects.get(pk=full.collection), b"Written later")
    (folders / "index" / "collection" / "1").mkdir(parents=True)
    restore(folders / "site.tar.gz", force=True)
    assert files_below(folders) == files
    assert not (folders / "index" / "collection").exists()


@contextmanager
def sqlite_in_its_place(path):
    """The site on a new SQLite file, while this lasts."""
    values = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    values["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
    before = connections["default"]
    wrapper = load_backend("django.db.backends.sqlite3").DatabaseWrapper(values, "default")
    connections["default"] = wrapper
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        wrapper.close()
        connections["default"] = before


@pytest.mark.slow  # A whole database is made by its migrations.
def test_a_site_moves_to_sqlite_and_back(full, folders, rows):
    before, files = rows(), files_below(folders)
    make(folders / "one.tar.gz")
    with sqlite_in_its_place(folders / "other.sqlite3"):
        restore(folders / "one.tar.gz")
        assert connection.vendor == "sqlite"
        assert rows() == before
        make(folders / "two.tar.gz")
    lose_everything(folders)
    restore(folders / "two.tar.gz")
    assert rows() == before
    assert files_below(folders) == files
