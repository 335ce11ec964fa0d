"""What was closed since a backup was made stays closed when it is restored."""

from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.audit import record
from accounts.erasure import erase, unfinished
from accounts.keys import create_key
from accounts.models import ApiKey, AuditEvent, User
from accounts.models.audit import AuditKind
from conftest import PASSWORD
from embeddings.models import Collection
from inference.models import Conversation
from llmsite.backup import closed
from llmsite.backup.making import make
from llmsite.backup.restoring import restore
from llmsite.core.errors import ErasureUnfinished
from llmsite.tests.backup.test_round_trip import lose_everything

pytestmark = pytest.mark.django_db(transaction=True)

MARK = "a mark that is hers alone"


@pytest.fixture
def backup(full, folders, charlie):
    Conversation.objects.create(owner=charlie, title=MARK)
    make(folders / "site.tar.gz")
    return folders / "site.tar.gz"


def erased_events(user: User) -> int:
    return AuditEvent.objects.filter(kind=AuditKind.ERASED, subject=user.pseudonym).count()


def test_who_was_erased_since_is_erased_again(backup, charlie):
    erase(charlie, actor=None)
    restored = restore(backup, force=True)
    assert restored.erased == 1
    assert restored.problems == []
    assert not User.objects.filter(username="charlie").exists()
    assert not Conversation.objects.filter(title=MARK).exists()
    assert erased_events(charlie) == 2
    # And a second time: the list is not taken back by a restore.
    assert restore(backup, force=True).erased == 1
    assert not User.objects.filter(username="charlie").exists()


def test_the_list_outlives_the_restore_of_a_backup_that_is_older_than_the_account(full, folders, make_user):
    make(folders / "old.tar.gz")
    dora = make_user("dora")
    make(folders / "new.tar.gz")
    erase(dora, actor=None)
    restore(folders / "old.tar.gz", force=True)
    restore(folders / "new.tar.gz", force=True)
    assert not User.objects.filter(username="dora").exists()


@pytest.mark.parametrize("as_events", [True, False])
def test_a_list_from_elsewhere_where_the_database_is_lost(backup, folders, charlie, as_events):
    erase(charlie, actor=None)
    lines = folders / "erased.txt"
    if as_events:
        with lines.open("w") as file:
            call_command("export_audit", stdout=file)
    else:
        lines.write_text(f"{charlie.pseudonym}\n\n")
    lose_everything(folders)
    restored = restore(backup, erasures=lines)
    assert restored.erased == 1
    assert not User.objects.filter(username="charlie").exists()
    assert erased_events(charlie) >= 1


def test_who_is_on_the_list_and_not_in_this_backup_is_remembered_for_the_next(backup, folders):
    nobody = uuid4()
    (folders / "list").write_text(f"{nobody}\n")
    assert restore(backup, force=True, erasures=folders / "list").erased == 0
    assert AuditEvent.objects.filter(kind=AuditKind.ERASED, subject=nobody).count() == 1


def test_a_list_that_cannot_be_read_stops_everything(backup, folders, rows):
    before = rows()
    (folders / "list").write_text("charlie\n")
    with pytest.raises(CommandError, match="Line 1 of the list of erasures"):
        call_command("restore", str(backup), "--force", "--erasures", str(folders / "list"), verbosity=0)
    assert rows() == before


def test_an_erasure_that_cannot_end_leaves_them_locked_out_and_is_told(backup, charlie, monkeypatch):
    erase(charlie, actor=None)

    def away(_user, *, actor):
        raise ErasureUnfinished(detail="Redis is away")

    monkeypatch.setattr(closed.erasure, "erase", away)
    with pytest.raises(CommandError, match=r"locked out, and not erased yet .Redis is away.") as refusal:
        call_command("restore", str(backup), "--force", verbosity=0)
    assert refusal.value.returncode == 3
    assert list(unfinished().values_list("username", flat=True)) == ["charlie"]
    answer = Client().post("/login/", {"username": "charlie", "password": PASSWORD})
    assert answer.status_code == 400
    monkeypatch.undo()
    call_command("erase_user", "--unfinished", "--yes")
    assert not User.objects.filter(username="charlie").exists()


def test_documents_of_the_erased_are_erased_where_the_process_model_is_away(full, folders, bob, monkeypatch):
    """The indexes are asked of a process of the command's own."""
    asked = []
    make(folders / "site.tar.gz")
    record(AuditKind.ERASED, subject=bob)

    class Process:
        def __enter__(self):
            asked.append(Collection.objects.filter(owner=bob).count())
            monkeypatch.setattr("embeddings.deletion.sync", lambda _pk: 0)

        def __exit__(self, *_error):
            return None

    monkeypatch.setattr(closed, "model_process", Process)
    assert restore(folders / "site.tar.gz", force=True).problems == []
    assert asked == [1]
    assert not User.objects.filter(username="bob").exists()


def test_the_disabled_the_revoked_and_the_unwilling_stay_so(full, folders, bob):
    User.objects.filter(pk=bob.pk).update(training_consent_at="2026-01-01T00:00:00Z")
    key, _text = create_key(bob, "Bob's")
    make(folders / "site.tar.gz")
    bob.refresh_from_db()
    bob.training_consent_at = None
    bob.is_active = False
    bob.save()
    assert not ApiKey.objects.filter(pk=key.pk, revoked_at=None).exists()
    restore(folders / "site.tar.gz", force=True)
    bob.refresh_from_db()
    assert not bob.is_active
    assert bob.training_consent_at is None
    assert not ApiKey.objects.filter(pk=key.pk, revoked_at=None).exists()


def test_the_log_of_what_happened_is_not_taken_back(backup, alice):
    event = record(AuditKind.PASSWORD_CHANGED, subject=alice)
    restore(backup, force=True)
    assert AuditEvent.objects.filter(pk=event.pk).exists()
    assert AuditEvent.objects.filter(kind=AuditKind.SITE_RESTORED).count() == 1


def test_what_fails_after_the_rows_are_there_is_told_and_nobody_erased_comes_back(
    backup, charlie, monkeypatch
):
    """The site is another one by then: no word that it is as it was."""
    erase(charlie, actor=None)

    def broken(*_args, **_options):
        assert not User.objects.filter(username="charlie").exists(), "erased before all else"
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("llmsite.backup.files.documents.sweep", broken)
    monkeypatch.setattr("llmsite.backup.restoring.answers", broken)
    monkeypatch.setattr("llmsite.backup.restoring.Path.iterdir", broken)
    with pytest.raises(CommandError) as failure:
        call_command("restore", str(backup), "--force", verbosity=0)
    assert failure.value.returncode == 3
    assert "as it was" not in str(failure.value)
    told = str(failure.value).splitlines()
    for words in ("Files of MEDIA_ROOT", "Files of ADAPTERS_ROOT", "search indexes had", "not made yet"):
        assert sum(words in line and "Permission denied" in line for line in told) == 1, words
    assert not User.objects.filter(username="charlie").exists()


def test_one_whose_files_cannot_be_removed_keeps_nobody_else_from_being_erased(
    backup, alice, charlie, monkeypatch
):
    for user in (alice, charlie):
        record(AuditKind.ERASED, subject=user)

    def stuck(user, *, actor):
        if user.username == "alice":
            raise PermissionError(13, "Permission denied")
        return erase(user, actor=actor)

    monkeypatch.setattr(closed.erasure, "erase", stuck)
    [problem] = restore(backup, force=True).problems
    assert problem.startswith(f"{alice.pseudonym} is locked out, and not erased yet")
    assert list(User.objects.filter(username__in=("alice", "charlie"))) == [alice]


def test_an_erasing_again_that_breaks_is_told_with_what_to_do(backup, charlie, monkeypatch):
    erase(charlie, actor=None)

    def broken():
        raise OSError("no disk")

    monkeypatch.setattr(closed, "erase_again", broken)
    with pytest.raises(CommandError, match=r"no disk.: run manage.py erase_user --unfinished") as failure:
        call_command("restore", str(backup), "--force", verbosity=0)
    assert failure.value.returncode == 3
    assert list(unfinished().values_list("username", flat=True)) == ["charlie"]
