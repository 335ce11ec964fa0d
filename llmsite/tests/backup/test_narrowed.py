"""What was narrowed since a backup was made is not widened by it: readers, keys, limits, models."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.keys import create_key
from accounts.models import ApiKey, AuditEvent, Team, User
from accounts.models.audit import AuditKind
from embeddings.models import Collection
from feedback.models import Feedback, ReviewStatus
from inference.models import ChatModelConfig
from inference.models.chat_models import ModelFallback
from llmsite.backup.making import make
from llmsite.backup.restoring import restore

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def saved(full, folders):
    """Makes a backup of the site as it is."""

    def save():
        make(folders / "site.tar.gz")
        return folders / "site.tar.gz"

    return save


def kept(backup) -> dict[str, int]:
    """How many of each kind a restore left as the site had them."""
    restored = restore(backup, force=True)
    assert restored.problems == []
    return {kind: count for kind, count in restored.kept.items() if count}


def members(name: str) -> set[str]:
    return set(User.objects.filter(teams__name=name).values_list("username", flat=True))


def test_who_left_a_team_stays_out_of_it(saved, alice, bob):
    Team.objects.create(name="Writers").members.add(alice)
    backup = saved()
    assert kept(backup) == {}
    assert members("Readers") == {"alice", "bob"}

    Team.objects.get(name="Readers").members.remove(bob)
    Team.objects.get(name="Writers").members.add(bob)
    assert kept(backup) == {"memberships": 1}
    assert members("Readers") == members("Writers") == {"alice"}


def test_nobody_is_in_a_team_again_that_has_gone_or_is_another_now(saved):
    backup = saved()
    Team.objects.filter(name="Readers").update(name="Others")
    assert kept(backup) == {"memberships": 2}
    assert Team.objects.filter(name="Readers").exists()
    assert members("Readers") == set()


def test_a_collection_has_no_readers_again_that_it_lost(saved, alice, bob):
    """Pairs of who may read it in the backup and now, and who may in the end."""
    teams = {"a": Team.objects.create(name="A"), "b": Team.objects.create(name="B")}

    def share(name, readers):
        team = teams.get(readers)
        Collection.objects.filter(name=name).update(visibility="team" if team else readers, team=team)

    cases = {
        ("public", "private"): "private",
        ("public", "a"): "a",
        ("a", "private"): "private",
        ("a", "b"): "private",
        ("a", "public"): "a",
        ("private", "public"): "private",
        ("public", "public"): "public",
        ("a", "a"): "a",
    }
    for then, now in cases:
        Collection.objects.create(owner=alice, name=f"{then} {now}")
        share(f"{then} {now}", then)
    backup = saved()
    for then, now in cases:
        share(f"{then} {now}", now)

    assert kept(backup) == {"collections": 4}
    found = {
        tuple(row.name.split()): row.team.name.lower() if row.visibility == "team" else row.visibility
        for row in Collection.objects.filter(name__contains=" ").select_related("team")
        if tuple(row.name.split()) in cases
    }
    assert found == cases
    told = AuditEvent.objects.filter(kind=AuditKind.COLLECTION_SHARED, actor=None, data__reason="restore")
    assert told.count() == 4


def test_a_key_may_no_more_than_both_allow(saved, alice):
    soon, late = timezone.now() + timedelta(days=1), timezone.now() + timedelta(days=9)
    wide = {
        "scopes": ["chat", "embed"],
        "allowed_models": [],
        "rate_limit": "1/s",
        "monthly_budget_micro": 9,
        "expires_at": late,
    }
    narrow = {
        "scopes": ["chat", "documents"],
        "allowed_models": ["echo"],
        "rate_limit": "20/m",
        "monthly_budget_micro": 5,
        "expires_at": soon,
    }
    pks = [create_key(alice, name=name)[0].pk for name in ("narrowed", "widened", "apart")]
    first, second, third = (ApiKey.objects.filter(pk=pk) for pk in pks)
    first.update(**wide)
    second.update(**narrow)
    third.update(scopes=["chat"])
    backup = saved()
    first.update(**narrow)
    second.update(**wide | {"scopes": [], "rate_limit": ""})
    third.update(scopes=["embed"])

    assert kept(backup) == {"keys": 2}
    assert first.values(*narrow).get() == narrow | {"scopes": ["chat"]}
    assert second.values(*narrow).get() == narrow, "as in the backup"
    assert third.get().revoked_at is not None, "an empty list would be all scopes"


def test_limits_of_people_are_the_lower_ones(saved, alice, bob, charlie):
    """Nothing of one's own stands for RATE_LIMIT, 60 a minute."""
    User.objects.filter(pk=alice.pk).update(rate_limit="1000/m", monthly_budget_micro=None)
    User.objects.filter(pk=bob.pk).update(rate_limit="2/m", monthly_budget_micro=3)
    backup = saved()
    User.objects.filter(pk=alice.pk).update(rate_limit="", monthly_budget_micro=7)
    User.objects.filter(pk=bob.pk).update(rate_limit="", monthly_budget_micro=None)
    assert kept(backup) == {"limits": 1}
    limits = dict(User.objects.values_list("username", "rate_limit"))
    budgets = dict(User.objects.values_list("username", "monthly_budget_micro"))
    assert (limits["alice"], budgets["alice"]) == ("", 7)
    assert (limits["bob"], budgets["bob"]) == ("2/m", 3)


def test_a_new_password_is_sent_to_the_address_of_now(saved, alice):
    User.objects.filter(pk=alice.pk).update(email="old@example.org")
    backup = saved()
    User.objects.filter(pk=alice.pk).update(email="new@example.org")
    assert kept(backup) == {"people": 1}
    assert User.objects.get(username="alice").email == "new@example.org"


def test_a_model_that_was_switched_off_answers_nobody(saved):
    slow, echo = ChatModelConfig.objects.get(alias="slow"), ChatModelConfig.objects.get(alias="echo")
    ModelFallback.objects.create(model=echo, fallback=slow, position=1)
    ChatModelConfig.objects.filter(alias="echo").update(cache_scope="site", semantic_cache=True)
    backup = saved()
    ModelFallback.objects.all().delete()
    ChatModelConfig.objects.filter(alias="slow").update(is_active=False)
    ChatModelConfig.objects.filter(alias="echo").update(cache_scope="user", semantic_cache=False)
    assert kept(backup) == {"models": 2}
    assert not ChatModelConfig.objects.get(alias="slow").is_active
    echo = ChatModelConfig.objects.get(alias="echo")
    assert (echo.is_active, echo.cache_scope, echo.semantic_cache) == (True, "user", False)
    assert not echo.chain.exists()


def test_who_restores_is_told_when_no_model_is_the_default_any_more(saved):
    ChatModelConfig.objects.filter(is_default=True).update(is_default=False)
    ChatModelConfig.objects.filter(alias="slow").update(is_default=True)
    backup = saved()
    ChatModelConfig.objects.filter(alias="slow").update(is_default=False, is_active=False)
    [problem] = restore(backup, force=True).problems
    assert problem.endswith("choose one in the admin.")


def test_feedback_that_is_accepted_for_fewer_is_told_to_fewer(full, saved):
    feedback = Feedback.objects.filter(pk=full.feedback)
    feedback.update(status=ReviewStatus.ACCEPTED, scope="site")
    backup = saved()
    assert kept(backup) == {}
    feedback.update(scope="author")
    assert kept(backup) == {"feedback": 1}
    assert feedback.get().status == ReviewStatus.OPEN


def test_it_is_told_what_is_not_as_in_the_backup(saved, bob, capsys):
    backup = saved()
    Team.objects.get(name="Readers").members.remove(bob)
    call_command("restore", str(backup), "--force", verbosity=0)
    told = "Not as in the backup, because it was taken since: 1 memberships of teams."
    assert told in capsys.readouterr().out
    Team.objects.get(name="Readers").members.clear()
    call_command("restore", str(backup), "--force", "--json", verbosity=0)
    assert json.loads(capsys.readouterr().out)["kept"]["memberships"] == 2
