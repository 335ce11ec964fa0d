"""Which model answers where nobody names one: switched in all processes within a second, while they run."""

from django.db import transaction

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from inference.models import ChatModelConfig
from inference.providers import KEYS
from llmsite.core.errors import ProviderNotConfigured

MAY_SWITCH = "inference.change_chatmodelconfig"
"""The permission that it takes, at the API and in the admin."""


@transaction.atomic
def switch_default(model: ChatModelConfig, *, actor: User) -> None:
    """Make `model` the site's default; nothing happens where it is.

    Raises ProviderNotConfigured where its provider has no key, and ModelNotFound where it is not active.
    """
    if not model.is_available:
        raise ProviderNotConfigured(provider=model.provider, setting=KEYS[model.provider])
    before = ChatModelConfig.objects.filter(is_default=True).first()
    if before == model and model.is_active:
        return
    ChatModelConfig.objects.make_default(model)
    former = before.alias if before else None
    record(AuditKind.MODEL_SWITCHED, subject=None, actor=actor, model=model.alias, before=former)
