"""What curators make of feedback, and what follows from it.

    open ──accept──► accepted: a verified answer, an evaluation case, a row and a pair to train on
      │ ▲                │
      │ └────revoke──────┤          all four are gone again
      └──reject──► rejected

Every step is a compare-and-set in one transaction with all that follows from it, so two curators never decide
on one entry, and nothing of a decision is ever half there. Each of them returns whether it was this call that
did it: False says that the entry has moved on since, and is to be read anew.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from embeddings.models import Collection
from feedback.models import Example, ExampleKind, Feedback, ReviewStatus, Scope
from feedback.models.feedback import CORRECTION_LENGTH
from feedback.sanitize import sanitize
from feedback.turns import branch_of, prompt_of
from inference.models import Message, VerifiedAnswer
from inference.verified import digest_for, fold, unverify, verify
from llmsite.core.errors import InvalidInput

LABEL_LENGTH = 50


def claim(feedback: Feedback, curator: User) -> bool:
    """Let `curator` work on an open entry alone, for `CLAIM_LASTS` from now; again, for as long again."""
    free = Feedback.objects.claimable_by(curator).filter(pk=feedback.pk)
    return free.update(claimed_by=curator, claimed_at=timezone.now()) == 1


def release(feedback: Feedback, curator: User) -> bool:
    """Give an entry back that `curator` has claimed."""
    claimed = Feedback.objects.filter(pk=feedback.pk, status=ReviewStatus.OPEN, claimed_by=curator)
    return claimed.update(claimed_by=None, claimed_at=None) == 1


def accept(
    feedback: Feedback,
    curator: User,
    *,
    answer: str,
    scope: str,
    collection: Collection | None = None,
    confirmed_impersonal: bool = False,
    label: str = "",
    seen: datetime | None = None,
) -> bool:
    """Let `answer` be the right one from now on: told, examined and trained on.

    It is told to the author alone, or, where `scope` says so, to all who ask `collection`, or to everybody;
    then `confirmed_impersonal` has to say that nothing personal is in it or in its question. `seen` is the
    `updated_at` of the feedback as the curator has read it, where it has to be that still.

    Raises InvalidInput for an answer, label, scope or collection that will not do.
    """
    answer = sanitize(answer, limit=CORRECTION_LENGTH, field="answer")
    if not answer:
        raise InvalidInput(field="answer", reason=_("Write the right answer."))
    audience = _audience(curator, scope, collection, confirmed_impersonal=confirmed_impersonal)
    told = {"scope": scope, "collection": audience}
    with transaction.atomic():
        if not _decide(feedback, curator, ReviewStatus.ACCEPTED, label=label, seen=seen, told=told):
            return False
        _note(AuditKind.FEEDBACK_ACCEPTED, feedback, curator, scope=scope)
        _store(feedback, curator, answer, scope, audience)
    return True


@transaction.atomic
def reject(feedback: Feedback, curator: User, *, label: str = "", seen: datetime | None = None) -> bool:
    """Decide that nothing is to be learned from it. Raises InvalidInput for a label that will not do."""
    if not _decide(feedback, curator, ReviewStatus.REJECTED, label=label, seen=seen):
        return False
    _note(AuditKind.FEEDBACK_REJECTED, feedback, curator)
    return True


@transaction.atomic
def revoke(feedback: Feedback, actor: User | None) -> bool:
    """Take a decision back, with all that followed from it: the entry is open again."""
    decided = Feedback.objects.filter(pk=feedback.pk).exclude(status=ReviewStatus.OPEN)
    undone = {"scope": "", "collection": None, "reviewed_by": None, "reviewed_at": None}
    if not decided.update(status=ReviewStatus.OPEN, claimed_by=None, claimed_at=None, **undone):
        return False
    removed = {"answers": _withdraw(feedback.pk), "examples": feedback.examples.all().delete()[0]}
    _note(AuditKind.FEEDBACK_REVOKED, feedback, actor, **removed)
    return True


@transaction.atomic
def forget(instance: Feedback, **_kwargs: Any) -> None:
    """Called where feedback is deleted: what was verified because of it goes with it, as examples do."""
    _withdraw(instance.pk)


def _withdraw(source: UUID) -> int:
    """Remove what was verified because of this, which is accepted no more; returns how many that were.

    What had given way to it, and is accepted still, is told again.
    """
    rows = list(VerifiedAnswer.objects.filter(source=source))
    removed = unverify(source)
    for row in rows:
        _put_back(row)
    return removed


def _put_back(gone: VerifiedAnswer) -> None:
    """Let the newest that was accepted for the same question and the same people take the place of `gone`."""
    scope = Scope.AUTHOR if gone.user_id else Scope.COLLECTION if gone.collection_id else Scope.SITE
    accepted = Feedback.objects.filter(
        status=ReviewStatus.ACCEPTED, scope=scope, collection=gone.collection_id
    )
    if gone.user_id:
        accepted = accepted.filter(user=gone.user_id)
    asked = fold(gone.question)
    questions = accepted.order_by("-reviewed_at").values_list("pk", "message__parent__content")
    for pk, question in questions.iterator():
        if question and fold(question) == asked and _take_place(accepted.filter(pk=pk), gone):
            return


def _take_place(accepted: QuerySet[Feedback], gone: VerifiedAnswer) -> bool:
    """Whether this entry is of the same place as `gone`, and its answer is told there now."""
    # Locked: whoever revokes it at this moment has done so before, or finds the answer that it leaves.
    feedback = accepted.select_for_update(of=("self",)).first()
    lesson = feedback and feedback.examples.filter(kind=ExampleKind.SFT).first()
    if not feedback or not lesson:
        return False
    message = Message.objects.select_related("conversation", "generation").get(pk=feedback.message_id)
    if digest_for(message, own=gone.user_id is not None) != gone.digest:
        return False
    row = verify(
        message,
        lesson.chosen,
        user=gone.user,
        collection=gone.collection,
        source=feedback.pk,
        by=feedback.reviewed_by,
    )
    return row is not None


# --- The state ------------------------------------------------------------------------------------


def _decide(
    feedback: Feedback,
    curator: User,
    status: ReviewStatus,
    *,
    label: str,
    seen: datetime | None,
    told: dict[str, Any] | None = None,
) -> bool:
    """Close an open entry that no other curator is at work on, and that is as it was `seen`."""
    label = sanitize(label, limit=LABEL_LENGTH, field="label")
    rows = Feedback.objects.claimable_by(curator).filter(pk=feedback.pk)
    if seen is not None:
        rows = rows.filter(updated_at=seen)
    decided = {"status": status, "label": label, "reviewed_by": curator, "reviewed_at": timezone.now()}
    return rows.update(claimed_by=None, claimed_at=None, **decided, **(told or {})) == 1


def _note(kind: AuditKind, feedback: Feedback, actor: User | None, **data: Any) -> None:
    record(kind, subject=feedback.user, actor=actor, feedback=str(feedback.pk), **data)


# --- What is accepted, and for whom ---------------------------------------------------------------


def _audience(
    curator: User, scope: str, collection: Collection | None, *, confirmed_impersonal: bool
) -> Collection | None:
    """The collection whose readers are told the answer, where that is the scope. Raises InvalidInput."""
    if scope not in Scope.values:
        raise InvalidInput(field="scope", reason=_("Choose who is told the answer."))
    if scope == Scope.AUTHOR:
        return None
    if not confirmed_impersonal:
        reason = _("Confirm that neither the question nor the answer holds anything personal.")
        raise InvalidInput(field="confirmed_impersonal", reason=reason)
    if scope == Scope.SITE:
        return None
    if collection is None or not Collection.objects.visible_to(curator).filter(pk=collection.pk).exists():
        raise InvalidInput(field="collection", reason=_("Choose a collection that you can read."))
    return collection


def _store(feedback: Feedback, curator: User, answer: str, scope: str, collection: Collection | None) -> None:
    message = Message.objects.select_related("conversation", "generation").get(pk=feedback.message_id)
    user = feedback.user if scope == Scope.AUTHOR else None
    verify(message, answer, user=user, collection=collection, source=feedback.pk, by=curator)
    prompt = prompt_of(message.conversation.preface, branch_of(message))
    lesson = {"feedback": feedback, "prompt": prompt, "chosen": answer, "created_by": curator}
    examples = [Example(kind=kind, **lesson) for kind in (ExampleKind.SFT, ExampleKind.EVALUATION)]
    # An answer that is right as it is, or that never came, is not worse than itself.
    if message.content.strip() and _as_kept(message.content) != answer:
        examples.append(Example(kind=ExampleKind.PREFERENCE, rejected=message.content, **lesson))
    Example.objects.bulk_create(examples)


def _as_kept(written: str) -> str:
    """What a model wrote, as it is kept where a curator accepts it unchanged."""
    try:
        return sanitize(written, limit=len(written))
    except InvalidInput:
        return written
