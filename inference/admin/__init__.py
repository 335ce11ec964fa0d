"""The admin's pages of models, conversations, answers, and those that curators have verified."""

from inference.admin.answers import ConversationAdmin, GenerationAdmin
from inference.admin.chat_models import ChatModelConfigAdmin
from inference.admin.verified import VerifiedAnswerAdmin

__all__ = ["ChatModelConfigAdmin", "ConversationAdmin", "GenerationAdmin", "VerifiedAnswerAdmin"]
