"""Answers and what is said of them, as the site leaves them, without its having answered."""

from typing import Any

from accounts.models import User
from feedback.models import Feedback
from inference.models import Conversation, Generation, Message

QUESTION = "What is the capital of Australia?"
ANSWER = "The capital of Australia is Sydney."
CORRECTION = "The capital of Australia is Canberra."


def make_answer(
    user: User,
    question: str = QUESTION,
    answer: str = ANSWER,
    *,
    after: Message | None = None,
    preface: list[dict[str, Any]] | None = None,
    **values: Any,
) -> Message:
    """An answer in a conversation of its own, or `after` another one; `values` are of its generation."""
    conversation = (
        after.conversation if after else Conversation.objects.create(owner=user, preface=preface or [])
    )
    said = {"conversation": conversation}
    asked = Message.objects.create(**said, role="user", content=question, parent=after)
    told = Message.objects.create(**said, role="assistant", content=answer, parent=asked)
    options = {"status": "finished", "door": "page", "model_alias": "scripted", "provider": "scripted"}
    Generation.objects.create(user=user, message=told, **{**options, **values})
    return told


def make_feedback(user: User, message: Message | None = None, *, rating: int = -1, **values: Any) -> Feedback:
    """What `user` says of an answer of theirs; trainable where the user allows it."""
    consent = {"consented_at": user.training_consent_at}
    message = message or make_answer(user)
    return Feedback.objects.create(user=user, message=message, rating=rating, **{**consent, **values})
