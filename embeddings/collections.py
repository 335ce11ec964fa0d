"""What is done to collections, whichever door it comes through."""

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.audit import record
from accounts.models import Team
from accounts.models.audit import AuditKind
from embeddings.models import Collection, Visibility
from llmsite.core.errors import InvalidInput, NotFound


def save_collection(
    collection: Collection, *, name: str | None = None, visibility: str | None = None, team: int | None = None
) -> Collection:
    """Make or change a collection of `collection.owner`; what is None stays as it is.

    A `team` counts only where the visibility is team. Raises InvalidInput, and NotFound for one that was
    deleted meanwhile; then nothing is changed.
    """
    is_new = collection._state.adding
    try:
        with transaction.atomic():
            collection = collection if is_new else _held(collection)
            before = (collection.visibility, collection.team_id)
            collection.name = collection.name if name is None else name
            collection.visibility = visibility or collection.visibility
            collection.team = _team_of(collection, team)
            collection.save()
            if not is_new:
                Collection.objects.filter(pk=collection.pk).bump()
            if (collection.visibility, collection.team_id) != before or (is_new and _is_shared(collection)):
                _record_readers(collection)
    except IntegrityError as error:
        raise InvalidInput(field="name", reason=_("You have a collection of this name already.")) from error
    return collection


def _held(collection: Collection) -> Collection:
    """The row as it is now, and as it stays until the transaction ends.

    `collection` was read before: saved as it was, it would bring back an old `version`, under which answers
    are kept, and what others have changed since.
    """
    rows = Collection.objects.writable_by(collection.owner).select_for_update()
    held = rows.filter(pk=collection.pk).first()
    if held is None:
        raise NotFound
    return held


def _is_shared(collection: Collection) -> bool:
    return collection.visibility != Visibility.PRIVATE


def _team_of(collection: Collection, wanted: int | None) -> Team | None:
    if collection.visibility != Visibility.TEAM:
        return None
    if wanted is None and collection.team is not None:
        return collection.team
    # A team that somebody else is in is none to them, like one that is not there.
    team = Team.objects.filter(pk=wanted or 0, members=collection.owner).first()
    if team is None:
        raise InvalidInput(field="team", reason=_("Choose a team that you are a member of."))
    return team


def _record_readers(collection: Collection) -> None:
    record(
        AuditKind.COLLECTION_SHARED,
        subject=collection.owner,
        collection=str(collection.pk),
        visibility=collection.visibility,
        team=collection.team_id,
    )


def unshare(*, instance: Team, **_signal: object) -> None:
    """A receiver of `pre_delete`: what a team could read is private again when it goes."""
    shared = Collection.objects.filter(team=instance)
    shared.filter(visibility=Visibility.TEAM).bump()
    shared.filter(visibility=Visibility.TEAM).update(visibility=Visibility.PRIVATE)
    shared.update(team=None)
