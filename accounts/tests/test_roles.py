"""Roles: who begins with what, who is staff, and what the audit log says of it."""

from io import StringIO

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts import roles
from accounts.audit import acting
from accounts.models import AuditEvent, User
from accounts.models.audit import AuditKind
from conftest import sign_in_client

pytestmark = pytest.mark.django_db


def group(name):
    return Group.objects.get(name=name)


def run(handler=roles.make_roles):
    handler(using="default", apps=apps)


def events(**filters):
    kinds = [AuditKind.ROLE_GRANTED, AuditKind.ROLE_REMOVED]
    rows = AuditEvent.objects.filter(kind__in=kinds, **filters).order_by("created_at")
    return [(row.kind, row.actor, row.subject, row.data["role"]) for row in rows]


def test_migrate_makes_the_roles_with_their_permissions():
    for role in roles.ROLES:
        assert roles.names_of(group(role).permissions.all()) == roles.permissions_of(role)
    assert "inference.change_chatmodelconfig" in roles.permissions_of("operator")
    assert "inference.read_others_conversations" in roles.permissions_of("admin")
    assert "inference.read_others_conversations" not in roles.permissions_of("operator")


def test_a_role_that_is_missing_comes_back_and_an_edited_one_stays_edited():
    group("curator").permissions.clear()
    group("operator").delete()

    run()

    assert roles.names_of(group("curator").permissions.all()) == set()
    assert roles.names_of(group("operator").permissions.all()) == roles.permissions_of("operator")


def test_permissions_that_do_not_exist_yet_are_made_first():
    Group.objects.all().delete()
    Permission.objects.all().delete()

    run()

    assert roles.names_of(group("admin").permissions.all()) == roles.permissions_of("admin")


def make_permission(codename):
    owner = ContentType.objects.get_for_model(User)
    return Permission.objects.create(content_type=owner, codename=codename, name=codename)


@pytest.fixture
def contributed(monkeypatch):
    """An app of later, or of a later version, gives the operators a permission of its own."""
    operator = {*roles._permissions["operator"], "accounts.view_thing"}
    monkeypatch.setitem(roles._permissions, "operator", operator)


def things_of(role):
    return group(role).permissions.filter(codename="view_thing").count()


def test_what_is_contributed_later_reaches_a_role_that_exists(contributed):
    group("operator").permissions.remove(Permission.objects.get(codename="operate"))
    make_permission("view_thing")

    run()

    assert (things_of("operator"), things_of("admin"), things_of("curator")) == (1, 1, 0)
    assert not group("operator").permissions.filter(codename="operate").exists()


def test_a_permission_is_given_once(contributed):
    make_permission("view_thing")
    run()
    group("operator").permissions.clear()

    run()

    assert (things_of("operator"), things_of("admin")) == (0, 1)


def test_a_permission_that_does_not_exist_yet_comes_with_the_rest(contributed):
    """As in a database that is migrated step by step."""
    group("operator").delete()
    run()
    assert roles.names_of(group("operator").permissions.all()) == roles.permissions_of("operator") - {
        "accounts.view_thing"
    }
    make_permission("view_thing")

    run()

    assert roles.names_of(group("operator").permissions.all()) == roles.permissions_of("operator")


def test_a_database_that_has_everything_is_left_alone(django_assert_num_queries):
    with django_assert_num_queries(2):
        run()


def test_of_those_who_are_there_already_all_are_members_and_staff_stay_staff(alice, bob, staff):
    bob.groups.set([group("operator")])
    Group.objects.exclude(name="operator").delete()
    User.objects.filter(pk=alice.pk).update(is_staff=True)

    run()

    assert {user.username for user in group("member").user_set.all()} == {"alice", "bob", "staff"}
    assert [user.username for user in group("curator").user_set.all()] == ["alice"]


def test_everybody_begins_as_a_member_and_may_have_keys(alice):
    assert alice.has_perm("accounts.add_apikey")
    assert not alice.is_staff
    assert events() == []


def test_one_who_is_no_member_has_no_right_to_keys(alice):
    alice.groups.clear()

    assert not User.objects.get(pk=alice.pk).has_perm("accounts.add_apikey")


@pytest.mark.parametrize("role", sorted(roles.STAFF))
@pytest.mark.parametrize("way", ["user.add", "user.set", "group.add", "group.set"])
def test_a_role_makes_staff(way, role, alice):
    from_user, from_group = alice.groups, group(role).user_set
    {
        "user.add": lambda: from_user.add(group(role)),
        "user.set": lambda: from_user.set([group(role)]),
        "group.add": lambda: from_group.add(alice),
        "group.set": lambda: from_group.set([alice]),
    }[way]()

    alice.refresh_from_db()
    assert alice.is_staff
    assert (AuditKind.ROLE_GRANTED, None, alice.pseudonym, role) in events()


@pytest.mark.parametrize(
    "way",
    ["user.remove", "user.set", "user.clear", "group.remove", "group.set", "group.clear", "group.delete"],
)
def test_without_the_last_staff_role_nobody_is_staff(way, alice):
    alice.groups.add(group("curator"))
    from_user, from_group = alice.groups, group("curator").user_set
    {
        "user.remove": lambda: from_user.remove(group("curator")),
        "user.set": lambda: from_user.set([group("member")]),
        "user.clear": lambda: from_user.clear(),
        "group.remove": lambda: from_group.remove(alice),
        "group.set": lambda: from_group.set([]),
        "group.clear": lambda: from_group.clear(),
        "group.delete": lambda: group("curator").delete(),
    }[way]()

    alice.refresh_from_db()
    assert not alice.is_staff
    assert (AuditKind.ROLE_REMOVED, None, alice.pseudonym, "curator") in events()


def test_one_of_two_staff_roles_is_enough(alice):
    alice.groups.add(group("curator"), group("operator"))
    alice.groups.remove(group("curator"))

    alice.refresh_from_db()
    assert alice.is_staff


def test_a_superuser_is_staff_whatever_was_said(make_user):
    root = make_user("root", is_superuser=True)
    assert root.is_staff

    root.groups.add(group("curator"))
    root.groups.clear()
    root.refresh_from_db()
    assert root.is_staff

    root.is_superuser = False
    root.save()
    assert not root.is_staff


def test_nobody_is_staff_by_the_mere_flag(alice):
    alice.is_staff = True
    alice.save()

    assert not User.objects.get(pk=alice.pk).is_staff


def test_what_changes_nothing_is_not_recorded(alice):
    alice.groups.add(group("curator"))
    alice.groups.add(group("curator"))
    alice.groups.remove(group("operator"))

    assert events() == [(AuditKind.ROLE_GRANTED, None, alice.pseudonym, "curator")]


def test_the_log_says_who_gave_a_role(alice, bob):
    with acting(bob):
        alice.groups.add(group("curator"))

    assert events() == [(AuditKind.ROLE_GRANTED, bob.pseudonym, alice.pseudonym, "curator")]


def test_demotion_is_felt_by_the_very_next_request(client, alice):
    alice.groups.add(group("admin"))
    sign_in_client(client, alice)
    page = reverse("admin:accounts_user_changelist")
    assert client.get(page).status_code == 200

    group("admin").user_set.remove(alice)

    assert client.get(page).status_code == 302


def test_a_lost_permission_of_a_group_is_felt_by_the_very_next_request(client, alice):
    alice.groups.add(group("admin"))
    sign_in_client(client, alice)
    page = reverse("admin:accounts_user_changelist")
    assert client.get(page).status_code == 200

    group("admin").permissions.clear()

    assert client.get(page).status_code == 403


def test_a_lost_role_is_felt_by_the_very_next_call_of_the_api(client, alice):
    sign_in_client(client, alice)
    values = {"data": {"name": "laptop"}, "content_type": "application/json"}
    assert client.post("/api/auth/keys", **values).status_code == 201

    group("member").user_set.remove(alice)

    assert client.post("/api/auth/keys", **values).status_code == 403


def test_set_role_leaves_exactly_the_named_roles(alice):
    own = Group.objects.create(name="chess club")
    alice.groups.add(own, group("operator"))
    out = StringIO()

    call_command("set_role", "alice", "curator", "member", stdout=out)

    alice.refresh_from_db()
    assert {row.name for row in alice.groups.all()} == {"chess club", "curator", "member"}
    assert alice.is_staff
    assert out.getvalue() == "alice: curator, member\n"
    assert (AuditKind.ROLE_REMOVED, None, alice.pseudonym, "operator") in events()


@pytest.mark.parametrize(
    ("args", "reason"),
    [(("nobody", "curator"), "no user named nobody"), (("alice", "king"), "invalid choice")],
)
def test_set_role_refuses_in_one_line(args, reason, alice):
    with pytest.raises(CommandError, match=reason):
        call_command("set_role", *args)

    assert events() == []


@pytest.mark.django_db(transaction=True)
def test_roles_outlive_the_emptying_of_the_database():
    call_command("flush", interactive=False, verbosity=0)

    assert {row.name for row in Group.objects.all()} == set(roles.ROLES)
