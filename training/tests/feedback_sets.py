"""Data sets from feedback, for the tests of what becomes of them."""

import json

from accounts.models import User
from feedback.models import Example, ExampleKind, Feedback, ReviewStatus, Scope
from feedback.tests.making import make_answer, make_feedback
from training.models import DatasetVersion
from training.rows import read_rows


def teach(user: User, question: str, answer: str = "Canberra.") -> Feedback:
    """Accepted feedback, with what a curator's accepting it stores."""
    feedback = make_feedback(
        user,
        make_answer(user, question, "Sydney."),
        status=ReviewStatus.ACCEPTED,
        scope=Scope.AUTHOR,
        correction=answer,
    )
    for kind in ExampleKind:
        rejected = "Sydney." if kind == ExampleKind.PREFERENCE else ""
        prompt = [{"role": "user", "content": question}]
        Example.objects.create(feedback=feedback, kind=kind, prompt=prompt, chosen=answer, rejected=rejected)
    return feedback


def build(client, wanted="sft", name="Corrections"):
    body = {"source": "feedback", "name": name, "format": wanted}
    return client.post("/api/training/datasets", json.dumps(body), content_type="application/json")


def questions(version: DatasetVersion) -> list[str]:
    rows = read_rows(version)
    return [(row["messages"] if "messages" in row else row["prompt"])[0]["content"] for row in rows]
