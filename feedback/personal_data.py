"""What this app keeps of a person: erased with their account, and part of what they can download."""

from typing import Any

from django.db import transaction

from accounts.erasure import erase_admin_log
from accounts.models import User
from feedback.models import Example, Feedback

FEEDBACK = (
    "id",
    "message_id",
    "rating",
    "tags",
    "comment",
    "correction",
    "consented_at",
    "created_at",
    "updated_at",
    "status",
    "label",
    "scope",
    "reviewed_at",
)
EXAMPLE = ("kind", "prompt", "chosen", "rejected", "created_at")


@transaction.atomic
def erase(user: User) -> dict[str, int]:
    """Delete what they said of answers, with the answers and examples that followed from it."""
    feedback, examples = Feedback.objects.filter(user=user), Example.objects.filter(feedback__user=user)
    counts = {"admin_log": erase_admin_log(feedback) + erase_admin_log(examples)}
    # What was verified because of it goes with each row (feedback.review.forget).
    _, rows = feedback.delete()
    return counts | {
        "feedback": rows.get(Feedback._meta.label, 0),
        "feedback_examples": rows.get(Example._meta.label, 0),
    }


def export(user: User) -> list[dict[str, Any]]:
    """What they said, and what became of it."""
    said = Feedback.objects.filter(user=user).order_by("created_at", "id").prefetch_related("examples")
    return [
        {name: getattr(one, name) for name in FEEDBACK} | {"examples": [_example(each) for each in _of(one)]}
        for one in said
    ]


def _of(feedback: Feedback) -> list[Example]:
    return sorted(feedback.examples.all(), key=lambda example: example.kind)


def _example(example: Example) -> dict[str, Any]:
    return {name: getattr(example, name) for name in EXAMPLE}
