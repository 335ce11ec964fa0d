"""The admin's pages about accounts: what staff sees and does, and what it cannot get for itself."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.urls import reverse

from accounts.keys import create_key
from accounts.models import ApiKey, AuditEvent, Session, Team, User
from accounts.roles import permissions_of
from accounts.tokens import sign_in
from conftest import PASSWORD, sign_in_client

pytestmark = pytest.mark.django_db


NO_TEAMS = {"Team_members-TOTAL_FORMS": 0, "Team_members-INITIAL_FORMS": 0}


def change_url(user):
    return reverse("admin:accounts_user_change", args=[user.pk])


def form_of(client, user, **changes):
    """The fields of the change page as a browser would send them back, with `changes`."""
    form = client.get(change_url(user)).context["adminform"].form
    values = {}
    for name, field in form.fields.items():
        if field.disabled or name == "password":
            continue
        value = changes.pop(name) if name in changes else form.get_initial_for_field(field, name)
        if value in (None, False):
            continue
        if name == "monthly_budget_micro":
            value = field.prepare_value(value)
        if name in ("last_login", "date_joined"):
            values[f"{name}_0"], values[f"{name}_1"] = value.date().isoformat(), value.time().isoformat()
        elif hasattr(value, "all") or isinstance(value, list):
            values[name] = [
                getattr(row, "pk", row) for row in (value.all() if hasattr(value, "all") else value)
            ]
        else:
            values[name] = value
    return NO_TEAMS | values | changes


def save(client, user, **changes):
    return client.post(change_url(user), form_of(client, user, **changes))


def events(kind):
    return [(row.actor, row.subject, row.data) for row in AuditEvent.objects.filter(kind=kind)]


# --- Accounts ------------------------------------------------------------------------------------


def test_an_admin_sets_limits_roles_and_teams(client, admin, alice):
    team = Team.objects.create(name="Red")
    sign_in_client(client, admin)
    curator = Group.objects.get(name="curator")
    roles = [*alice.groups.all(), curator]

    answer = save(
        client,
        alice,
        rate_limit="5 / m",
        monthly_budget_micro="7",
        groups=roles,
        **{"Team_members-TOTAL_FORMS": 1, "Team_members-0-team": team.pk, "Team_members-0-user": alice.pk},
    )

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    alice.refresh_from_db()
    assert (alice.rate_limit, alice.monthly_budget_micro, alice.is_staff) == ("5/m", 7_000_000, True)
    assert list(alice.teams.all()) == [team]
    assert (admin.pseudonym, alice.pseudonym, {"role": "curator"}) in events("role_granted")


def test_the_page_shows_what_is_and_saving_it_changes_nothing(client, admin, alice):
    Team.objects.create(name="Red").members.add(alice)
    sign_in_client(client, admin)
    before = User.objects.filter(pk=alice.pk).values().get()

    assert save(client, alice).status_code == 302

    assert User.objects.filter(pk=alice.pk).values().get() == before
    assert [team.name for team in alice.teams.all()] == ["Red"]
    assert [group.name for group in alice.groups.all()] == ["member"]


@pytest.mark.parametrize("rate", ["fast", "0/m", "5/week"])
def test_a_rate_that_is_none_is_refused(rate, client, admin, alice):
    sign_in_client(client, admin)

    answer = save(client, alice, rate_limit=rate)

    assert "such as 20/m" in answer.content.decode()


def test_disabling_ends_what_is_open_and_is_recorded(client, admin, alice):
    sign_in(alice)
    create_key(alice, "laptop")
    sign_in_client(client, admin)

    save(client, alice, is_active=False)

    assert not Session.objects.filter(user=alice, revoked_at=None).exists()
    assert not ApiKey.objects.filter(user=alice, revoked_at=None).exists()
    assert events("disabled") == [(admin.pseudonym, alice.pseudonym, {})]
    save(client, alice, is_active=True)
    assert events("enabled") == [(admin.pseudonym, alice.pseudonym, {})]


def test_adding_a_user_and_setting_a_password_are_recorded(client, admin):
    sign_in_client(client, admin)
    values = {"username": "newbie", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}

    assert client.post(reverse("admin:accounts_user_add"), values).status_code == 302
    newbie = User.objects.get(username="newbie")
    password = {"usable_password": "true", "password1": PASSWORD * 2, "password2": PASSWORD * 2}
    page = reverse("admin:auth_user_password_change", args=[newbie.pk])
    assert client.post(page, {**password, "set-password": "1"}).status_code == 302

    newbie.refresh_from_db()
    assert newbie.check_password(PASSWORD * 2)
    assert newbie.has_perm("accounts.add_apikey")
    assert events("registered") == [(admin.pseudonym, newbie.pseudonym, {})]
    assert events("password_changed") == [(admin.pseudonym, newbie.pseudonym, {})]


def test_ones_own_password_is_changed_on_the_account_page(client, admin):
    sign_in_client(client, admin)

    assert client.get("/admin/password_change/")["Location"] == reverse("password-change")


# --- Nobody gets a right that they do not have ---------------------------------------------------


def test_an_admin_cannot_make_a_superuser(client, admin, alice):
    sign_in_client(client, admin)

    for user in (alice, admin):
        values = form_of(client, user)
        client.post(change_url(user), {**values, "is_superuser": "on", "is_staff": "on"})

    assert not User.objects.filter(is_superuser=True).exists()
    alice.refresh_from_db()
    assert not alice.is_staff


@pytest.mark.parametrize("page", ["change", "password", "delete"])
def test_an_admin_cannot_touch_a_superuser(page, client, admin, staff):
    sign_in_client(client, admin)
    before = User.objects.filter(pk=staff.pk).values().get()
    url = {
        "change": change_url(staff),
        "password": reverse("admin:auth_user_password_change", args=[staff.pk]),
        "delete": reverse("admin:accounts_user_delete", args=[staff.pk]),
    }[page]
    values = {"username": "owned", "password1": PASSWORD * 2, "password2": PASSWORD * 2, "is_active": "on"}

    assert client.post(url, {**values, "usable_password": "true", "set-password": "1"}).status_code == 403

    assert User.objects.filter(pk=staff.pk).values().get() == before


def test_an_admin_cannot_take_over_one_who_has_more_rights(client, admin, bob):
    bob.user_permissions.add(Permission.objects.get(codename="delete_group"))
    bob.is_active = False
    bob.save()
    sign_in_client(client, admin)

    page = reverse("admin:auth_user_password_change", args=[bob.pk])

    assert client.post(page, {"password1": PASSWORD, "password2": PASSWORD}).status_code == 403
    assert client.post(change_url(bob), {"is_active": "on"}).status_code == 403


def test_an_admin_gives_only_roles_whose_rights_they_have(client, admin, alice):
    club = Group.objects.create(name="root club")
    club.permissions.add(Permission.objects.get(codename="delete_group"))
    sign_in_client(client, admin)

    for user in (alice, admin):
        answer = save(client, user, groups=[*user.groups.all(), club])
        assert "all the rights of “root club”" in answer.content.decode()

    assert not club.user_set.exists()


def test_an_admin_takes_only_roles_whose_rights_they_have(client, admin, alice):
    # Rights that nobody else has, in a group with none of their own left for the check of the account itself.
    club = Group.objects.create(name="root club")
    alice.groups.add(club)
    club.permissions.add(Permission.objects.get(codename="delete_group"))
    sign_in_client(client, admin)

    assert client.post(change_url(alice), {"username": "alice"}).status_code == 403

    assert club in alice.groups.all()


def test_an_admin_gives_only_permissions_that_they_have(client, admin, alice):
    strange = Permission.objects.get(codename="delete_group")
    own = Permission.objects.get(codename="view_ledgerentry")
    sign_in_client(client, admin)

    answer = save(client, alice, user_permissions=[strange, own])
    assert "permissions that you have yourself" in answer.content.decode()
    assert not alice.user_permissions.exists()

    save(client, alice, user_permissions=[own])
    assert list(alice.user_permissions.all()) == [own]
    assert events("rights_changed") == [
        (admin.pseudonym, alice.pseudonym, {"granted": ["accounts.view_ledgerentry"], "removed": []})
    ]


def test_an_admin_cannot_edit_what_a_group_may(client, admin):
    group = Group.objects.get(name="admin")
    sign_in_client(client, admin)
    page = reverse("admin:auth_group_change", args=[group.pk])

    assert client.get(page).status_code == 200
    answer = client.post(page, {"name": "admin", "permissions": [Permission.objects.first().pk]})

    assert answer.status_code == 403
    assert {*group.permissions.values_list("codename", flat=True)} == {
        name.partition(".")[2] for name in permissions_of("admin")
    }
    assert client.get(reverse("admin:auth_group_add")).status_code == 403


@pytest.mark.parametrize("role", ["curator", "operator", "member"])
def test_other_roles_do_not_reach_accounts(role, client, alice, bob):
    alice.groups.set([Group.objects.get(name=role)])
    sign_in_client(client, alice)

    for url in (change_url(bob), reverse("admin:accounts_auditevent_changelist")):
        assert client.get(url).status_code == (302 if role == "member" else 403)


# --- Superusers ----------------------------------------------------------------------------------


def test_a_superuser_makes_another_one_and_it_is_recorded(client, staff, alice):
    sign_in_client(client, staff)

    save(client, alice, is_superuser=True)

    alice.refresh_from_db()
    assert alice.is_superuser
    assert alice.is_staff
    assert events("rights_changed") == [(staff.pseudonym, alice.pseudonym, {"superuser": True})]


@pytest.mark.parametrize("field", ["is_superuser", "is_active"])
def test_the_last_superuser_stays_one(field, client, staff):
    sign_in_client(client, staff)

    answer = save(client, staff, **{field: False})

    assert "only active superuser" in answer.content.decode()
    staff.refresh_from_db()
    assert staff.is_superuser
    assert staff.is_active


def test_what_a_role_may_is_changed_by_a_superuser_and_recorded(client, staff):
    group = Group.objects.get(name="curator")
    added = Permission.objects.get(codename="view_team")
    had = group.permissions.values_list("content_type__app_label", "codename")
    removed = sorted(f"{app}.{name}" for app, name in had)
    sign_in_client(client, staff)
    page = reverse("admin:auth_group_change", args=[group.pk])

    client.post(page, {"name": "other", "permissions": [added.pk]})

    group.refresh_from_db()
    assert group.name == "curator"
    assert list(group.permissions.all()) == [added]
    change = {"role": "curator", "granted": ["accounts.view_team"], "removed": removed}
    assert "accounts.curate" in removed
    assert events("rights_changed") == [(staff.pseudonym, None, change)]
    assert (
        client.post(reverse("admin:auth_group_delete", args=[group.pk]), {"post": "yes"}).status_code == 403
    )


# --- Credentials ---------------------------------------------------------------------------------


def test_staff_ends_keys_and_sign_ins_and_sees_no_secret(client, admin, alice):
    key, _ = create_key(alice, "laptop")
    sign_in(alice)
    sign_in_client(client, admin)
    keys, sessions = reverse("admin:accounts_apikey_changelist"), reverse("admin:accounts_session_changelist")

    page = client.get(reverse("admin:accounts_apikey_change", args=[key.pk])).content.decode()
    assert key.public_id in page
    assert key.secret_digest not in page
    client.post(keys, {"action": "revoke_keys", "_selected_action": [key.pk], "confirmed": "yes"})
    chosen = alice.sessions.values_list("pk", flat=True)
    ending = {"action": "end_sign_ins", "_selected_action": list(chosen), "confirmed": "yes"}
    client.post(sessions, ending)

    assert not ApiKey.objects.filter(revoked_at=None).exists()
    assert not alice.sessions.filter(revoked_at=None).exists()
    assert events("key_revoked") == [(admin.pseudonym, alice.pseudonym, {"key": key.public_id})]
    assert events("session_ended") == [(admin.pseudonym, alice.pseudonym, {})]


def test_credentials_of_a_superuser_are_out_of_an_admins_reach(client, admin, staff):
    key, _ = create_key(staff, "deploy")
    sign_in(staff)
    sign_in_client(client, admin)

    for name, action, rows in (
        ("apikey", "revoke_keys", [key.pk]),
        ("session", "end_sign_ins", list(staff.sessions.values_list("pk", flat=True))),
    ):
        url = reverse(f"admin:accounts_{name}_changelist")
        answer = client.post(
            url, {"action": action, "_selected_action": rows, "confirmed": "yes"}, follow=True
        )
        assert "1 row was left as it is" in answer.content.decode()

    assert ApiKey.objects.get().revoked_at is None
    assert staff.sessions.get().revoked_at is None


class TestLimitsOfAUser:
    """Staff give limits in the site's currency, and what they change is told."""

    def test_a_budget_is_money(self, client, staff, alice):
        sign_in_client(client, staff)

        assert save(client, alice, monthly_budget_micro="5.50").status_code == 302

        alice.refresh_from_db()
        assert alice.monthly_budget_micro == 5_500_000
        assert 'value="5.5"' in client.get(f"/admin/accounts/user/{alice.pk}/change/").content.decode()
        assert save(client, alice, monthly_budget_micro="-1").status_code == 200

    def test_what_is_changed_is_told_once(self, client, staff, alice):
        sign_in_client(client, staff)
        save(client, alice, email="new@example.org", monthly_budget_micro="5", rate_limit="9/m")
        save(client, alice)

        told = AuditEvent.objects.filter(subject=alice.pseudonym, actor=staff.pseudonym)
        kinds = dict(told.values_list("kind", "data"))
        assert kinds.keys() == {"email_changed", "limits_changed"}
        assert told.count() == 2
        assert kinds["limits_changed"] == {"limits": ["monthly_budget_micro", "rate_limit"]}
        assert "example.org" not in str(kinds)
