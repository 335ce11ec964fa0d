"""What was taken since a backup was made stays taken: rights, old passwords and addresses, adapters, lessons.

It is read off the tables before they are replaced; a site whose database is lost cannot know it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import Group, Permission

from accounts.audit import acting, record
from accounts.models import User
from accounts.models.audit import AuditKind
from feedback.models import Feedback, ReviewStatus
from feedback.models.feedback import Scope
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
    """What a person may do, the hash of their password, and where a new one would be sent."""

    password: str
    email: str
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
    accepted_for: dict[UUID, tuple[str, UUID | None]]
    """Of feedback that is accepted not for everybody: for whom, and the collection."""


def taken_now() -> Taken:
    """As the site has it."""
    adapters = Adapter.objects.exclude(withdrawn_at=None)
    versions = DatasetVersion.objects.exclude(withdrawn_at=None)
    feedback = Feedback.objects.exclude(status=ReviewStatus.ACCEPTED)
    for_some = Feedback.objects.filter(status=ReviewStatus.ACCEPTED).exclude(scope=Scope.SITE)
    groups = Group.objects.prefetch_related("permissions__content_type")
    return Taken(
        people=_standings(),
        roles={group.name: _rights(group.permissions.all()) for group in groups},
        adapters=dict(adapters.values_list("pk", "withdrawn_because")),
        versions=dict(versions.values_list("pk", "withdrawn_at")),
        not_accepted=frozenset(feedback.values_list("pk", flat=True)),
        accepted_for={
            pk: (scope, where) for pk, scope, where in for_some.values_list("pk", "scope", "collection_id")
        },
    )


def take_again(taken: Taken) -> tuple[Counter[str], list[str]]:
    """Take again what the rows of a backup have given back, in the transaction that brings them.

    Gives how many of each kind, and sentences on what is left to be done.
    """
    kept: Counter[str] = Counter()
    administrators = User.objects.filter(is_superuser=True, is_active=True)
    had_one = administrators.exists()
    with acting(None):
        kept["roles"] = _take_from_roles(taken.roles)
        for pseudonym, then in _standings().items():
            now = taken.people.get(pseudonym)
            if now is not None and now != then:
                _take_from(User.objects.get(pseudonym=pseudonym), now)
                kept["people"] += 1
        kept += _withdraw(taken)
        kept["feedback"] = _revoke(taken)
    if had_one and not administrators.exists():
        return kept, ["Nobody of this backup is an administrator still: run manage.py createsuperuser."]
    return kept, []


# --- Rights and passwords --------------------------------------------------------------------------


def _standings() -> dict[UUID, Standing]:
    people = User.objects.prefetch_related("groups", "user_permissions__content_type")
    return {
        user.pseudonym: Standing(
            password=user.password,
            email=user.email,
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


def _take_from_roles(roles: dict[str, frozenset[Right]]) -> int:
    count = 0
    for group in Group.objects.filter(name__in=roles).prefetch_related("permissions__content_type"):
        gone = [one for one in group.permissions.all() if _right(one) not in roles[group.name]]
        group.permissions.remove(*gone)
        count += bool(gone)
    return count


def _take_from(user: User, now: Standing) -> None:
    """Leave `user` what they had and have, and the password and the address of now."""
    gone = [
        one for one in user.user_permissions.select_related("content_type") if _right(one) not in now.rights
    ]
    if gone or (user.is_superuser and not now.is_superuser):
        user.is_superuser = user.is_superuser and now.is_superuser
        record(AuditKind.RIGHTS_CHANGED, subject=user, reason=REASON, superuser=user.is_superuser)
    # Whoever reads what is sent to an old address could choose a password.
    user.password, user.email = now.password, now.email
    # Whether somebody is staff follows from this, and from the roles.
    user.save(update_fields=["is_superuser", "password", "email"])
    user.user_permissions.remove(*gone)
    user.groups.remove(*user.groups.exclude(name__in=now.roles))


# --- What is not to be told or taught any more -----------------------------------------------------


def _withdraw(taken: Taken) -> Counter[str]:
    """Their files go as all do that no row names, after the transaction."""
    kept: Counter[str] = Counter()
    for adapter in list(Adapter.objects.servable()):
        if adapter.pk in taken.adapters:
            withdraw([adapter], because=taken.adapters[adapter.pk])
            kept["adapters"] += 1
    for version in list(DatasetVersion.objects.usable()):
        if version.pk in taken.versions:
            DatasetVersion.objects.filter(pk=version.pk).update(withdrawn_at=taken.versions[version.pk])
            record(
                AuditKind.DATASET_WITHDRAWN,
                subject=None,
                dataset=str(version.dataset_id),
                version=version.number,
            )
            kept["data_sets"] += 1
    return kept


def _revoke(taken: Taken) -> int:
    count = 0
    for feedback in list(Feedback.objects.filter(status=ReviewStatus.ACCEPTED).select_related("user")):
        here = feedback.scope, feedback.collection_id
        if feedback.pk in taken.not_accepted or taken.accepted_for.get(feedback.pk, here) != here:
            count += revoke(feedback, None)
    return count
