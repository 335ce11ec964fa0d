"""What was taken from people and models since a backup was made is not given back by it."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from accounts import roles
from accounts.models import AuditEvent, User
from accounts.models.audit import AuditKind
from conftest import PASSWORD
from feedback.models import Example, Feedback, ReviewStatus
from inference.adapters import folder_of
from inference.models import Adapter, ChatModelConfig, VerifiedAnswer
from llmsite.backup.making import make
from llmsite.backup.restoring import restore
from llmsite.tests.backup.test_round_trip import lose_everything
from training import promotion
from training.models import DatasetVersion
from training.storage import path_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def saved(full, folders):
    """Makes a backup of the site as it is."""

    def save():
        make(folders / "site.tar.gz")
        return folders / "site.tar.gz"

    return save


@pytest.fixture
def chief(make_user):
    user = make_user("chief")
    user.is_superuser = True
    user.save()
    return user


def test_rights_that_were_taken_stay_taken(saved, alice, bob, chief):
    curate = Permission.objects.get(codename="curate")
    alice.user_permissions.add(curate)
    alice.groups.add(Group.objects.get(name=roles.ADMIN))
    bob.is_superuser = True
    bob.save()
    backup = saved()
    alice.user_permissions.remove(curate)
    alice.groups.remove(Group.objects.get(name=roles.ADMIN))
    bob.is_superuser = False
    bob.save()

    assert restore(backup, force=True).problems == []

    alice, bob, chief = (User.objects.get(username=name) for name in ("alice", "bob", "chief"))
    assert not alice.user_permissions.exists()
    assert [group.name for group in alice.groups.all()] == [roles.MEMBER]
    assert not alice.is_staff
    assert (bob.is_superuser, bob.is_staff) == (False, False)
    assert (chief.is_superuser, chief.is_staff) == (True, True)
    told = AuditEvent.objects.filter(actor=None, data__reason="restore", kind=AuditKind.RIGHTS_CHANGED)
    assert set(told.values_list("subject", flat=True)) == {alice.pseudonym, bob.pseudonym}


def test_rights_that_were_given_since_do_not_come_with_it(saved, alice):
    backup = saved()
    alice.is_superuser = True
    alice.save()
    restore(backup, force=True)
    alice.refresh_from_db()
    assert not alice.is_superuser


def test_what_was_taken_from_a_role_stays_taken(saved):
    group = Group.objects.get(name=roles.ADMIN)
    before = set(group.permissions.values_list("codename", flat=True))
    backup = saved()
    group.permissions.remove(Permission.objects.get(codename="operate"))
    restore(backup, force=True)
    group = Group.objects.get(name=roles.ADMIN)
    assert set(group.permissions.values_list("codename", flat=True)) == before - {"operate"}


def test_who_restores_is_told_when_nobody_is_an_administrator_any_more(saved, chief):
    backup = saved()
    chief.is_superuser = False
    chief.save()
    [problem] = restore(backup, force=True).problems
    assert problem.endswith("run manage.py createsuperuser.")


def test_an_old_password_opens_nothing_again(saved, alice):
    backup = saved()
    alice.set_password("the new one, since")
    alice.save()
    restore(backup, force=True)
    for password, status in ((PASSWORD, 400), ("the new one, since", 302)):
        answer = Client().post("/login/", {"username": "alice", "password": password})
        assert answer.status_code == status


def test_a_withdrawn_adapter_serves_nobody_again(saved):
    adapter = Adapter.objects.servable().first()
    ChatModelConfig.objects.filter(alias="slow").update(adapter=adapter.name)
    backup = saved()
    promotion.withdraw([adapter], because="It is bad.")
    restore(backup, force=True)
    adapter.refresh_from_db()
    assert adapter.withdrawn_at is not None
    assert adapter.withdrawn_because == "It is bad."
    assert ChatModelConfig.objects.get(alias="slow").adapter == ""
    assert not folder_of(adapter.name).exists()
    assert Adapter.objects.servable().count() == 1, "the other one"


def test_a_withdrawn_version_of_a_data_set_is_trained_on_no_more(saved):
    version, other = DatasetVersion.objects.usable()
    backup = saved()
    DatasetVersion.objects.filter(pk=version.pk).update(withdrawn_at=timezone.now())
    restore(backup, force=True)
    assert list(DatasetVersion.objects.usable()) == [other]
    assert not path_of(version).exists()
    assert path_of(other).exists()


def test_feedback_that_was_revoked_is_told_and_taught_no_more(full, saved, alice):
    accepted = {"status": ReviewStatus.ACCEPTED, "scope": "author"}
    Feedback.objects.filter(pk=full.feedback).update(**accepted)
    VerifiedAnswer.objects.filter(pk=full.verified).update(source=full.feedback)
    backup = saved()
    # As it is there still, it comes back.
    restore(backup, force=True)
    assert VerifiedAnswer.objects.filter(pk=full.verified).exists()
    Feedback.objects.update(status=ReviewStatus.OPEN, scope="")
    restore(backup, force=True)
    assert Feedback.objects.get(pk=full.feedback).status == ReviewStatus.OPEN
    assert not VerifiedAnswer.objects.filter(pk=full.verified).exists()
    assert not Example.objects.filter(feedback=full.feedback).exists()


def test_an_empty_site_cannot_know_and_says_so(saved, folders, alice, capsys):
    backup = saved()
    call_command("restore", str(backup), "--force", verbosity=0)
    assert "those of the backup" not in capsys.readouterr().out
    lose_everything(folders)
    call_command("restore", str(backup), verbosity=0)
    assert "The site had no accounts, so nothing tells what was taken" in capsys.readouterr().out
