"""Roles: groups of Django, and the permissions they begin with.

`manage.py migrate` makes the groups that are missing, and gives a role each permission that is new to it,
once; else a group stays as the people who run the site have edited it. Whoever is in one of the `STAFF`
groups may enter the admin.
"""

from collections.abc import Iterable
from typing import Any

from django.apps import apps as installed_apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.db.models.signals import m2m_changed, post_migrate, post_save, pre_delete

from accounts.audit import acting_user, record
from accounts.models import RoleGrant, User
from accounts.models.audit import AuditKind
from accounts.recent import forget_what_changed

MEMBER, CURATOR, OPERATOR, ADMIN = "member", "curator", "operator", "admin"
ROLES = (MEMBER, CURATOR, OPERATOR, ADMIN)
STAFF = frozenset({CURATOR, OPERATOR, ADMIN})

_permissions: dict[str, set[str]] = {
    MEMBER: {"accounts.add_apikey"},
    CURATOR: {"accounts.curate"},
    OPERATOR: {"accounts.operate"},
    ADMIN: {
        "auth.view_group",
        "accounts.view_auditevent",
        "accounts.view_ledgerentry",
        "accounts.view_reservation",
        "accounts.view_spending",
        *(
            f"accounts.{verb}_{name}"
            for name in ("user", "team")
            for verb in ("view", "add", "change", "delete")
        ),
        # To delete a sign-in or a key is to end it.
        *(f"accounts.{verb}_{name}" for name in ("session", "apikey") for verb in ("view", "delete")),
    },
}

_FIRST_MEMBERS = {
    MEMBER: Q(),
    # Staff by the mere flag, from before there were roles: the least of the roles that let them in keeps it.
    CURATOR: Q(is_staff=True, is_superuser=False) & ~Q(groups__name__in=STAFF),
}
"""Who of the people that are there already is in a role from its beginning."""

_memberships = User.groups.through.objects


def contribute(role: str, *permissions: str) -> None:
    """Let an upper app give a role permissions of its own, such as `inference.view_generation`."""
    _permissions[role].update(permissions)


def permissions_of(role: str) -> set[str]:
    """What a role begins with. An admin has the others' permissions too, and so may appoint them."""
    return set().union(*_permissions.values()) if role == ADMIN else set(_permissions[role])


# --- Rights of one over another ------------------------------------------------------------------


def rights_of(user: User) -> set[str]:
    """The permissions of `user`, also of a disabled one; a superuser has more than these."""
    return names_of(Permission.objects.filter(Q(user=user) | Q(group__user=user)))


def names_of(permissions: QuerySet[Permission]) -> set[str]:
    """Permissions as `app.codename`."""
    pairs = permissions.values_list("content_type__app_label", "codename").order_by()
    return {f"{app}.{codename}" for app, codename in pairs}


def may_grant(actor: User, rights: set[str]) -> bool:
    """Whether `actor` may give and take these permissions: only those that they have themselves."""
    return actor.is_superuser or rights <= rights_of(actor)


def may_manage(actor: User, user: User) -> bool:
    """Whether `actor` may change the account of `user`, whose password could be set to take it over."""
    return actor.is_superuser or (not user.is_superuser and may_grant(actor, rights_of(user)))


# --- Groups that are always there ----------------------------------------------------------------


def make_roles(*, using: str, apps: Any = installed_apps, **_kwargs: Any) -> None:
    """Make what is missing of the groups and their permissions; called after every `migrate` and `flush`.

    A permission that does not exist yet, in a database that is migrated only in part, comes with the rest.
    """
    try:
        # By `apps`, because the tables may be older than the code.
        grants, users = _rows(apps, RoleGrant, using), _rows(apps, User, using)
    except LookupError:
        return
    groups = _rows(apps, Group, using)
    missing = set(ROLES) - set(groups.values_list("name", flat=True))
    given = set(grants.exclude(role__in=missing).values_list("role", "permission"))
    wanted = {(role, name) for role in ROLES for name in permissions_of(role)} - given
    if not missing and not wanted:
        return
    known = _existing({name for _, name in wanted}, using=using, apps=apps)
    with transaction.atomic(using=using):
        for role in missing:
            _admit(users.filter(_FIRST_MEMBERS.get(role, Q(pk=None))), groups.create(name=role))
        new = [(role, name) for role, name in wanted if name in known]
        for group in groups.filter(name__in={role for role, _ in new}):
            group.permissions.add(*(known[name] for role, name in new if role == group.name))
        grants.bulk_create(
            (grants.model(role=role, permission=name) for role, name in new), ignore_conflicts=True
        )


def _rows(apps: Any, model: type[Model], using: str) -> QuerySet[Any]:
    return apps.get_model(model._meta.label).objects.using(using)


def _existing(wanted: set[str], *, using: str, apps: Any) -> dict[str, Permission]:
    """All permissions by their names, those of `wanted` included that can be made by now."""
    permissions = _rows(apps, Permission, using).select_related("content_type")
    unknown = wanted - _by_name(permissions).keys()
    for app in installed_apps.get_app_configs():
        # Django makes an app's permissions with its own signal, so those of later apps are still missing.
        if any(name.startswith(f"{app.label}.") for name in unknown):
            create_permissions(app, verbosity=0, interactive=False, using=using, apps=apps)
    return _by_name(permissions.all())


def _admit(users: QuerySet[Any], group: Any) -> None:
    # Written straight into the table, here and for new users: that everybody begins as a member is no news
    # for the audit log.
    memberships = users.model.groups.through
    rows = [memberships(user_id=pk, group_id=group.pk) for pk in users.values_list("pk", flat=True)]
    memberships.objects.using(users.db).bulk_create(rows, batch_size=1000)


def _by_name(permissions: Iterable[Permission]) -> dict[str, Permission]:
    return {f"{row.content_type.app_label}.{row.codename}": row for row in permissions}


def set_roles(user: User, roles: Iterable[str]) -> None:
    """Leave `user` with exactly these roles; groups that are no role stay. Raises Group.DoesNotExist."""
    wanted = {Group.objects.get(name=role) for role in roles}
    with transaction.atomic():
        user.groups.remove(
            *Group.objects.filter(name__in=ROLES).exclude(pk__in=[group.pk for group in wanted])
        )
        user.groups.add(*wanted)


# --- What follows from a change of roles ---------------------------------------------------------


def watch() -> None:
    """Connect what has to follow from changes, wherever in the code they are made."""
    post_migrate.connect(make_roles, sender=installed_apps.get_app_config("accounts"))
    post_save.connect(_user_saved, sender=User)
    pre_delete.connect(_group_goes, sender=Group)
    m2m_changed.connect(_membership_changed, sender=User.groups.through)
    for table in (User.groups.through, User.user_permissions.through, Group.permissions.through):
        m2m_changed.connect(forget_what_changed, sender=table)


def _user_saved(instance: User, *, created: bool, raw: bool, update_fields: Any, **_kwargs: Any) -> None:
    if raw:
        return
    if created:
        # Likewise no news for the audit log (`_admit`).
        for group in Group.objects.filter(name=MEMBER):
            _memberships.get_or_create(user=instance, group=group)
    if update_fields is None or {"is_staff", "is_superuser"} & set(update_fields):
        _follow_staff(instance)
    forget_what_changed()


def _membership_changed(
    instance: Any, *, action: str, reverse: bool, pk_set: set[int] | None, **_kwargs: Any
) -> None:
    kind = {
        "post_add": AuditKind.ROLE_GRANTED,
        # Before, because a removal may name groups that the user is not in, and a clearing names none.
        "pre_remove": AuditKind.ROLE_REMOVED,
        "pre_clear": AuditKind.ROLE_REMOVED,
    }.get(action)
    if kind:
        mine, theirs = ("group", "user") if reverse else ("user", "group")
        rows = _memberships.filter(**{mine: instance})
        rows = rows if pk_set is None else rows.filter(**{f"{theirs}__in": pk_set})
        for row in rows.select_related("user", "group"):
            record(kind, subject=row.user, actor=acting_user(), role=row.group.name)
    if action.startswith("post_"):
        _follow_staff(None if reverse else instance)


def _group_goes(instance: Group, **_kwargs: Any) -> None:
    """Deleting a group takes it from its members, who are told apart only while it is there."""
    instance.user_set.clear()


def _follow_staff(user: User | None) -> None:
    """Keep `is_staff` true to what a user is, a superuser or in a role of STAFF; None: of everybody."""
    users = User.objects.all() if user is None else User.objects.filter(pk=user.pk)
    is_staff = Q(is_superuser=True) | Q(
        Exists(_memberships.filter(user=OuterRef("pk"), group__name__in=STAFF))
    )
    changed = users.filter(is_staff, is_staff=False).update(is_staff=True)
    changed += users.filter(~is_staff, is_staff=True).update(is_staff=False)
    if user is not None and changed:
        user.refresh_from_db(fields=["is_staff"])
