"""One feedback with the turns that led to the answer, and what a curator can do with it."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.authentication import user_of
from accounts.models import User
from embeddings.models import Collection
from feedback import review
from feedback.models import Feedback, ReviewStatus
from feedback.models.feedback import CLAIM_LASTS
from feedback.pages.forms import ReviewForm, moment_of
from feedback.pages.frame import View, address, for_curators, frame_of
from feedback.queue import Filters, neighbours_of, tag_names
from feedback.turns import branch_of
from inference.models import Message, VerifiedAnswer
from llmsite.core.errors import InvalidInput, NotFound, describe


def telling_when_gone(view: Callable[[HttpRequest, UUID], HttpResponse]) -> View:
    """Shows curators what they wrote of feedback that its author has deleted meanwhile."""

    @wraps(view)
    def told(request: HttpRequest, pk: UUID) -> HttpResponse:
        try:
            return view(request, pk)
        except NotFound:
            return _gone(request)

    return for_curators(told)


@require_GET
@telling_when_gone
def entry(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _page(request, _feedback(user_of(request), pk))


@require_POST
@telling_when_gone
def claim(request: HttpRequest, pk: UUID) -> HttpResponse:
    feedback = _feedback(user_of(request), pk)
    if not review.claim(feedback, user_of(request)):
        _tell_moved_on(request)
    return redirect(_address(request, feedback))


@require_POST
@telling_when_gone
def release(request: HttpRequest, pk: UUID) -> HttpResponse:
    feedback = _feedback(user_of(request), pk)
    review.release(feedback, user_of(request))
    return redirect(_address(request, feedback))


@require_POST
@telling_when_gone
def accept(request: HttpRequest, pk: UUID) -> HttpResponse:
    feedback = _feedback(user_of(request), pk)
    form = ReviewForm(request.POST, feedback=feedback, curator=user_of(request))
    way_on = _way_on(request, feedback)
    decided = form.accept()
    if decided is None:
        return _page(request, feedback, form=form, status=400)
    if not decided:
        # What the curator wrote is shown beside what has become of the entry.
        return _page(request, _feedback(user_of(request), pk), moved_on=form, status=409)
    messages.success(request, _("Accepted. This answer is told from now on."))
    return redirect(way_on)


@require_POST
@telling_when_gone
def reject(request: HttpRequest, pk: UUID) -> HttpResponse:
    feedback = _feedback(user_of(request), pk)
    way_on = _way_on(request, feedback)
    seen, label = moment_of(request.POST.get("seen", "")), request.POST.get("label", "")
    try:
        decided = seen is not None and review.reject(feedback, user_of(request), label=label, seen=seen)
    except InvalidInput as error:
        messages.error(request, describe(error).message)
        return redirect(_address(request, feedback))
    if not decided:
        _tell_moved_on(request)
        return redirect(_address(request, feedback))
    messages.success(request, _("Rejected. Nothing is learned from it."))
    return redirect(way_on)


@require_POST
@telling_when_gone
def revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    feedback = _feedback(user_of(request), pk)
    if review.revoke(feedback, user_of(request)):
        messages.success(request, _("The decision is taken back, with all that followed from it."))
    return redirect(_address(request, feedback))


def _feedback(user: User, pk: UUID) -> Feedback:
    """Raises NotFound."""
    people = ("user", "claimed_by", "reviewed_by")
    rows = Feedback.objects.visible_to(user).select_related(
        *people, "collection", "message__conversation", "message__generation"
    )
    feedback = rows.filter(pk=pk).first()
    if feedback is None:
        raise NotFound
    return feedback


def _address(request: HttpRequest, feedback: Feedback) -> str:
    return address("feedback-entry", Filters.read(request.GET), feedback.pk)


def _way_on(request: HttpRequest, feedback: Feedback) -> str:
    """Where a curator goes from an entry that is done: to an older one, else to a newer, else to the list."""
    filters = Filters.read(request.GET)
    newer, older = neighbours_of(user_of(request), feedback, filters)
    if (following := older or newer) is None:
        return address("feedback-queue", filters)
    return address("feedback-entry", filters, following)


def _tell_moved_on(request: HttpRequest) -> None:
    messages.error(
        request, _("Somebody else was faster, or its author has changed it: this is how it is now.")
    )


# --- What the page shows ----------------------------------------------------------------------------


def _page(
    request: HttpRequest,
    feedback: Feedback,
    *,
    form: ReviewForm | None = None,
    moved_on: ReviewForm | None = None,
    status: int = 200,
) -> HttpResponse:
    user, filters = user_of(request), Filters.read(request.GET)
    newer, older = neighbours_of(user, feedback, filters)
    turns = branch_of(feedback.message, _with_sources())
    context = {
        **frame_of(filters),
        "feedback": feedback,
        "tag_names": tag_names(feedback.tags),
        "earlier": [*_sent_along(feedback), *turns[:-2]],
        "question": turns[-2] if len(turns) > 1 else None,
        "answer": turns[-1] if turns else feedback.message,
        "readable": _readable(user, turns),
        "state": _state(user, feedback),
        "form": form or ReviewForm(feedback=feedback, curator=user),
        "moved_on": moved_on,
        "query": request.GET.urlencode(),
        "list_address": address("feedback-queue", filters),
        "newer": address("feedback-entry", filters, newer) if newer else "",
        "older": address("feedback-entry", filters, older) if older else "",
        **_outcome(feedback),
    }
    return render(request, "feedback/entry.html", context, status=status)


def _gone(request: HttpRequest) -> HttpResponse:
    filters = Filters.read(request.GET)
    written = {name: request.POST.get(name, "") for name in ("answer", "label")}
    context = {**frame_of(filters), "list_address": address("feedback-queue", filters), **written}
    return render(request, "feedback/gone.html", context, status=404)


def _with_sources() -> QuerySet[Message]:
    return Message.objects.select_related("generation").prefetch_related("generation__sources")


def _sent_along(feedback: Feedback) -> list[dict[str, Any]]:
    return [turn for turn in feedback.message.conversation.preface if turn.get("content")]


def _readable(user: User, turns: list[Message]) -> set[UUID]:
    """The collections among the sources that the curator may read, so that a link would not lead nowhere."""
    sources = [
        source.collection
        for turn in turns
        if hasattr(turn, "generation")
        for source in turn.generation.sources.all()
    ]
    if not sources:
        return set()
    return set(Collection.objects.visible_to(user).filter(pk__in=sources).values_list("pk", flat=True))


def _state(user: User, feedback: Feedback) -> str:
    """ "accepted" or "rejected"; of an open one "mine", "taken" (by somebody else) or "free"."""
    if feedback.status != ReviewStatus.OPEN:
        return feedback.status
    if feedback.claimed_at is None or feedback.claimed_at < timezone.now() - CLAIM_LASTS:
        return "free"
    return "mine" if feedback.claimed_by_id == user.pk else "taken"


def _outcome(feedback: Feedback) -> dict[str, Any]:
    """What followed from an acceptance."""
    if feedback.status != ReviewStatus.ACCEPTED:
        return {}
    examples = list(feedback.examples.order_by("kind"))
    verified = VerifiedAnswer.objects.filter(source=feedback.pk).first()
    chosen = verified.answer if verified else next((example.chosen for example in examples), "")
    return {"verified": verified, "examples": examples, "chosen": chosen}
