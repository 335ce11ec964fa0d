"""The admin's pages of models, conversations and answers."""

from inference.admin.answers import ConversationAdmin, GenerationAdmin
from inference.admin.chat_models import ChatModelConfigAdmin

__all__ = ["ChatModelConfigAdmin", "ConversationAdmin", "GenerationAdmin"]
