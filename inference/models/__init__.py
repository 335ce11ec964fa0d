from inference.models.adapters import Adapter, AdapterLoad, EngineProcess, LoadState
from inference.models.chat_models import ChatModelConfig, ModelFallback
from inference.models.conversations import (
    TITLE_LENGTH,
    Conversation,
    Message,
    Role,
    access_conversation,
)
from inference.models.evictions import EvictedAnswer
from inference.models.generations import RUNNING, Generation, Grounding, Status, access_generation
from inference.models.idempotency import IdempotencyKey
from inference.models.sources import AnswerSource
from inference.models.verified import VerifiedAnswer
from inference.models.versions import Version

__all__ = [
    "RUNNING",
    "TITLE_LENGTH",
    "Adapter",
    "AdapterLoad",
    "AnswerSource",
    "ChatModelConfig",
    "Conversation",
    "EngineProcess",
    "EvictedAnswer",
    "Generation",
    "Grounding",
    "IdempotencyKey",
    "LoadState",
    "Message",
    "ModelFallback",
    "Role",
    "Status",
    "VerifiedAnswer",
    "Version",
    "access_conversation",
    "access_generation",
]
