"""What the chat page needs to let its reader rate answers."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from django import template

from accounts.models import User
from feedback.models import Feedback, Tag
from feedback.models.feedback import BAD, COMMENT_LENGTH, CORRECTION_LENGTH, GOOD
from inference.models import Message, Role

register = template.Library()


class Choice(NamedTuple):
    """A tag, and the rating that it goes with."""

    value: str
    label: Any
    rating: int


@register.simple_tag
def feedback_form() -> dict[str, Any]:
    """What may be said: the tags, and how long the texts may be."""
    ratings = {Tag.HELPFUL: GOOD}
    return {
        "tags": [Choice(tag.value, tag.label, ratings.get(tag, BAD)) for tag in Tag],
        "comment_length": str(COMMENT_LENGTH),
        "correction_length": str(CORRECTION_LENGTH),
    }


@register.simple_tag
def feedback_on(thread: Iterable[Message], user: User) -> dict[str, dict[str, Any]]:
    """What `user` has said of the answers in `thread`, by their ids."""
    ids = [message.pk for message in thread if message.role == Role.ASSISTANT]
    said = Feedback.objects.filter(user=user, message__in=ids) if ids else ()
    return {
        str(one.message_id): {
            "id": str(one.pk),
            "rating": one.rating,
            "tags": one.tags,
            "comment": one.comment,
            "correction": one.correction,
            "status": one.status,
        }
        for one in said
    }
