"""What was taken since a backup was made stays taken: rights, old passwords, adapters, lessons.

It is read off the tables before they are replaced; a site whose database is lost cannot know it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import Group, Permission

from accounts.audit import acting, record
from accounts.models import User
from accounts.models.audit import AuditKind
from feedback.models import Feedback, ReviewStatus
from feedback.review import revoke
from inference.models import Adapter
from training.models import DatasetVersion
from training.promotion import withdraw

REASON = "restore"
PEOPLE_AT_ONCE = 500

Right = tuple[str, str]
"""The app and the codename of a permission, whose id may be another one in the backup."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person may do, and the hash of their password."""

    password: str
    is_superuser: bool
    roles: frozenset[str]
    rights: frozenset[Right]


@dataclass(frozen=True, slots=True)
class Taken:
    """People by their pseudonyms, roles by their names, the rest by ids."""

    people: dict[UUID, Standing]
    roles: dict[str, frozenset[Right]]
    adapters: dict[UUID, str]
    """Those that are withdrawn, and why."""
    versions: dict[UUID, datetime | None]
    """Those of data sets that are withdrawn, and since when."""
    not_accepted: frozenset[UUID]
    """Feedback from which nothing is to be learned: revoked, rejected, or not decided on."""


def taken_now() -> Taken:
    """As the site has it."""
    adapters = Adapter.objects.exclude(withdrawn_at=None)
    versions = DatasetVersion.objects.exclude(withdrawn_at=None)
    feedback = Feedback.objects.exclude(status=ReviewStatus.ACCEPTED)
    groups = Group.objects.prefetch_related("permissions__content_type")
    return Taken(
        people=_standings(),
        roles={group.name: _rights(group.permissions.all()) for group in groups},
        adapters=dict(adapters.values_list("pk", "withdrawn_because")),
        versions=dict(versions.values_list("pk", "withdrawn_at")),
        not_accepted=frozenset(feedback.values_list("pk", flat=True)),
    )


def take_again(taken: Taken) -> list[str]:
    """Take again what the rows of a backup have given back, in the transaction that brings them.

    Gives sentences on what is left to be done.
    """
    administrators = User.objects.filter(is_superuser=True, is_active=True)
    had_one = administrators.exists()
    with acting(None):
        _take_from_roles(taken.roles)
        for pseudonym, then in _standings().items():
            now = taken.people.get(pseudonym)
            if now is not None and now != then:
                _take_from(User.objects.get(pseudonym=pseudonym), now)
        _withdraw(taken)
        _revoke(taken.not_accepted)
    if had_one and not administrators.exists():
        return ["Nobody of this backup is an administrator still: run manage.py createsuperuser."]
    return []


# --- Rights and passwords --------------------------------------------------------------------------


def _standings() -> dict[UUID, Standing]:
    people = User.objects.prefetch_related("groups", "user_permissions__content_type")
    return {
        user.pseudonym: Standing(
            password=user.password,
            is_superuser=user.is_superuser,
            roles=frozenset(group.name for group in user.groups.all()),
            rights=_rights(user.user_permissions.all()),
        )
        for user in people.iterator(chunk_size=PEOPLE_AT_ONCE)
    }


def _rights(permissions: Iterable[Permission]) -> frozenset[Right]:
    return frozenset(map(_right, permissions))


def _right(permission: Permission) -> Right:
    return permission.content_type.app_label, permission.codename


def _take_from_roles(roles: dict[str, frozenset[Right]]) -> None:
    for group in Group.objects.filter(name__in=roles).prefetch_related("permissions__content_type"):
        gone = [one for one in group.permissions.all() if _right(one) not in roles[group.name]]
        group.permissions.remove(*gone)


def _take_from(user: User, now: Standing) -> None:
    """Leave `user` what they had and have, and the password of now."""
    gone = [
        one for one in user.user_permissions.select_related("content_type") if _right(one) not in now.rights
    ]
    if gone or (user.is_superuser and not now.is_superuser):
        user.is_superuser = user.is_superuser and now.is_superuser
        record(AuditKind.RIGHTS_CHANGED, subject=user, reason=REASON, superuser=user.is_superuser)
    user.password = now.password
    # Whether somebody is staff follows from this, and from the roles.
    user.save(update_fields=["is_superuser", "password"])
    user.user_permissions.remove(*gone)
    user.groups.remove(*user.groups.exclude(name__in=now.roles))


# --- What is not to be told or taught any more -----------------------------------------------------


def _withdraw(taken: Taken) -> None:
    """Their files go as all do that no row names, after the transaction."""
    for adapter in list(Adapter.objects.servable()):
        if adapter.pk in taken.adapters:
            withdraw([adapter], because=taken.adapters[adapter.pk])
    for version in list(DatasetVersion.objects.usable()):
        if version.pk in taken.versions:
            DatasetVersion.objects.filter(pk=version.pk).update(withdrawn_at=taken.versions[version.pk])
            record(
                AuditKind.DATASET_WITHDRAWN,
                subject=None,
                dataset=str(version.dataset_id),
                version=version.number,
            )


def _revoke(not_accepted: frozenset[UUID]) -> None:
    for feedback in list(Feedback.objects.filter(status=ReviewStatus.ACCEPTED).select_related("user")):
        if feedback.pk in not_accepted:
            revoke(feedback, None)
