"""The admin's pages of models, conversations, answers, and those that curators have verified."""

from inference.admin.adapters import AdapterAdmin, AdapterLoadAdmin, EngineProcessAdmin
from inference.admin.answers import AnswerSourceAdmin, ConversationAdmin, GenerationAdmin, MessageAdmin
from inference.admin.chat_models import ChatModelConfigAdmin
from inference.admin.verified import VerifiedAnswerAdmin

__all__ = [
    "AdapterAdmin",
    "AdapterLoadAdmin",
    "AnswerSourceAdmin",
    "ChatModelConfigAdmin",
    "ConversationAdmin",
    "EngineProcessAdmin",
    "GenerationAdmin",
    "MessageAdmin",
    "VerifiedAnswerAdmin",
]
