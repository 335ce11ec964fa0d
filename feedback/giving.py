"""What people say of answers: given, changed and taken back, whichever door it comes through."""

from collections.abc import Collection as Some
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from feedback.models import Feedback, ReviewStatus, Tag
from feedback.models.feedback import BAD, COMMENT_LENGTH, CORRECTION_LENGTH, RATINGS
from feedback.review import revoke
from feedback.sanitize import sanitize
from inference.cache.evictions import evict
from inference.models import Generation, Message, Role
from llmsite.core.errors import InvalidInput, NotFound
from llmsite.core.metrics import FEEDBACK


def give(
    user: User,
    message_id: UUID,
    *,
    rating: int,
    tags: Some[str] = (),
    comment: str = "",
    correction: str = "",
) -> Feedback:
    """What `user` says of an answer of theirs, in place of what they said of it before.

    Whoever was at work on the old words has to look again, and what followed from them is undone. An answer
    that becomes a bad one leaves the cache. Raises NotFound, and InvalidInput for what is no answer yet or a
    value that will not do; then nothing is changed.
    """
    generation = _answer(user, message_id)
    said = _checked(rating, tags, comment, correction)
    try:
        feedback, was = _write(user, generation, said)
    except IntegrityError:
        # The same person said something of it at the same moment, or the answer has gone since.
        feedback, was = _write(user, _answer(user, message_id), said)
    if was != rating:
        FEEDBACK.labels("bad" if rating == BAD else "good", generation.model_alias).inc()
    return feedback


@transaction.atomic
def take_back(user: User, feedback_id: UUID) -> None:
    """Delete what `user` said, with all that followed from it. Raises NotFound."""
    feedback = Feedback.objects.select_for_update().filter(pk=feedback_id, user=user).first()
    if feedback is None:
        raise NotFound
    if feedback.status != ReviewStatus.OPEN:
        revoke(feedback, user)
    feedback.delete()


# --- What is said ---------------------------------------------------------------------------------


def _answer(user: User, message_id: UUID) -> Generation:
    """The answer to be rated, in a conversation of the user's own."""
    message = Message.objects.filter(pk=message_id, conversation__owner=user)
    found = message.select_related("generation").first()
    if found is None:
        raise NotFound
    if found.role != Role.ASSISTANT:
        raise InvalidInput(field="message", reason=_("Only answers are rated, not questions."))
    if found.generation.is_running:
        raise InvalidInput(field="message", reason=_("This answer is still being written."))
    if not found.content.strip():
        raise InvalidInput(field="message", reason=_("There is no answer here that could be rated."))
    return found.generation


def _checked(rating: int, tags: Some[str], comment: str, correction: str) -> dict[str, Any]:
    if rating not in RATINGS:
        raise InvalidInput(field="rating", reason=_("A rating is 1 or -1."))
    unknown = set(tags) - set(Tag.values)
    if unknown:
        choices = ", ".join(Tag.values)
        raise InvalidInput(field="tags", reason=_("Choose from: %(choices)s.") % {"choices": choices})
    return {
        "rating": rating,
        "tags": [tag for tag in Tag.values if tag in tags],
        "comment": sanitize(comment, limit=COMMENT_LENGTH, field="comment"),
        "correction": sanitize(correction, limit=CORRECTION_LENGTH, field="correction"),
    }


# --- The row --------------------------------------------------------------------------------------


@transaction.atomic
def _write(user: User, answer: Generation, said: dict[str, Any]) -> tuple[Feedback, int | None]:
    """The row as it is now, and the rating that it had before.

    A bad answer leaves the cache with this or not at all: the same words again would find nothing to do.
    """
    feedback, was = _put(user, answer.message_id, said)
    if feedback.rating == BAD and was != BAD:
        evict(answer.cache_key)
    return feedback, was


def _put(user: User, message_id: UUID, said: dict[str, Any]) -> tuple[Feedback, int | None]:
    consented_at = User.objects.values_list("training_consent_at", flat=True).get(pk=user.pk)
    rows = Feedback.objects.select_for_update().filter(user=user, message_id=message_id)
    feedback = rows.first()
    if feedback is None:
        now = timezone.now()
        values = {**said, "consented_at": consented_at, "created_at": now, "updated_at": now}
        return Feedback.objects.create(user_id=user.pk, message_id=message_id, **values), None
    was = feedback.rating
    if any(getattr(feedback, name) != value for name, value in said.items()):
        _change(feedback, user, {**said, "consented_at": consented_at})
    elif feedback.consented_at != consented_at:
        # The same words, said again under another consent.
        rows.update(consented_at=consented_at)
        feedback.consented_at = consented_at
    return feedback, was


def _change(feedback: Feedback, user: User, values: dict[str, Any]) -> None:
    if feedback.status != ReviewStatus.OPEN:
        revoke(feedback, user)
    # Without the claim a decision about the old words fails.
    values |= {"claimed_by": None, "claimed_at": None, "updated_at": timezone.now()}
    Feedback.objects.filter(pk=feedback.pk).update(**values)
    feedback.refresh_from_db()
