from inference.models.chat_models import ChatModelConfig, ModelFallback
from inference.models.conversations import (
    TITLE_LENGTH,
    Conversation,
    Message,
    Role,
    access_conversation,
)
from inference.models.generations import RUNNING, Generation, Grounding, Status, access_generation
from inference.models.idempotency import IdempotencyKey
from inference.models.sources import AnswerSource
from inference.models.versions import Version

__all__ = [
    "RUNNING",
    "TITLE_LENGTH",
    "AnswerSource",
    "ChatModelConfig",
    "Conversation",
    "Generation",
    "Grounding",
    "IdempotencyKey",
    "Message",
    "ModelFallback",
    "Role",
    "Status",
    "Version",
    "access_conversation",
    "access_generation",
]
