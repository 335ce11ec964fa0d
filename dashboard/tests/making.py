"""Answers as rows, without asking anybody."""

import random
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.models import User
from inference.models import Conversation, Generation, Message, Role, Status
from llmsite.core.ids import first_id_at


def make_answer(user: User, *, ago: float = 60.0, prompt: str = "Question?", **values: Any) -> Generation:
    """An answer that was asked for `ago` seconds ago and has ended, unless it says otherwise."""
    moment = timezone.now() - timedelta(seconds=ago)
    conversation = Conversation.objects.create(owner=user, is_listed=False)
    question = Message.objects.create(conversation=conversation, role=Role.USER, content=prompt)
    message = Message.objects.create(
        conversation=conversation, parent=question, role=Role.ASSISTANT, content="Answer."
    )
    usual = {
        "status": Status.FINISHED,
        "door": "predict",
        "model_alias": "scripted",
        "provider": "scripted",
        "input_tokens": 10,
        "output_tokens": 20,
        "latency_ms": 800,
        "time_to_first_token_ms": 200,
        "created_at": moment,
        "ended_at": moment + timedelta(seconds=1),
    }
    usual["id"] = UUID(int=first_id_at(moment).int | random.getrandbits(60))
    return Generation.objects.create(user=user, message=message, **{**usual, **values})


def random_values(chance: random.Random, *, days: float = 5.0) -> dict[str, Any]:
    """Of any answer that may be there: ended in any way, from anywhere, or running yet."""
    status = chance.choice(list(Status))
    is_running = status in (Status.QUEUED, Status.STREAMING)
    cache = chance.choice(["", "", "l1", "l2", "l3", "verified"]) if status == Status.FINISHED else ""
    values: dict[str, Any] = {
        "ago": chance.uniform(0, days * 86_400),
        "status": status,
        "model_alias": chance.choice(["scripted", "echo"]),
        "provider": chance.choice(["scripted", "echo"]),
        "error_code": chance.choice(["provider_timeout", "provider_down"]) if status == Status.FAILED else "",
        "cache": cache,
        "input_tokens": chance.choice([None, chance.randrange(5000)]),
        "output_tokens": chance.randrange(2000),
        "cost_micro": 0 if cache else chance.randrange(10**7),
        "latency_ms": chance.choice([None, 0, int(chance.lognormvariate(6, 2))]),
        "time_to_first_token_ms": chance.choice([None, int(chance.lognormvariate(4, 2))]),
    }
    if chance.random() < 0.2:
        values |= {"grounding": "nothing", "confidence": 0.1}
    if is_running:
        values |= {"ended_at": None}
    return values
