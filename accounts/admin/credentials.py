"""Sign-ins and API keys: who holds them, and ending them."""

from django.conf import settings
from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin.actions import RowAction
from accounts.admin.base import HistoryAdmin
from accounts.admin.lists import FoundByIndex
from accounts.audit import record
from accounts.keys import revoke_key
from accounts.models import ApiKey, Session, User
from accounts.models.audit import AuditKind
from accounts.money import as_money
from accounts.roles import may_manage


def _end(session: Session, actor: User) -> bool:
    ended = may_manage(actor, session.user) and bool(Session.objects.filter(pk=session.pk).revoke())
    if ended:
        record(AuditKind.SESSION_ENDED, subject=session.user, actor=actor)
    return ended


def _revoke(key: ApiKey, actor: User) -> bool:
    return may_manage(actor, key.user) and revoke_key(key, actor=actor)


class _CredentialAdmin(FoundByIndex, HistoryAdmin):
    """Credentials are ended, and stay as history; their permission to delete stands for that."""

    list_select_related = ("user",)
    list_filter = (
        ("revoked_at", admin.EmptyFieldListFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    sortable_by = ()


@admin.register(Session)
class SessionAdmin(_CredentialAdmin):
    list_display = ("user", "user_agent", "created_at", "last_used_at", "revoked_at")
    search_fields = ("pk", "user__username")
    search_help_text = _("A username, or an id")
    fields = ("user", "user_agent", "created_at", "last_used_at", "revoked_at")
    ordering = ("-created_at", "pk")
    actions = (
        RowAction(
            "end_sign_ins",
            _end,
            label=_("End sign-ins"),
            question=_("Whoever uses these sign-ins is signed out within seconds, on these devices."),
            permission="accounts.delete_session",
        ),
    )


@admin.register(ApiKey)
class ApiKeyAdmin(_CredentialAdmin):
    list_display = ("name", "public_id", "user", "scopes", "created_at", "expires_at", "revoked_at")
    search_fields = ("public_id", "user__username")
    search_help_text = _("A username, or the public id of a key")
    fields = (
        "name",
        "public_id",
        "user",
        "scopes",
        "allowed_models",
        "rate_limit",
        "monthly_budget",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    ordering = ("-pk",)
    actions = (
        RowAction(
            "revoke_keys",
            _revoke,
            label=_("Revoke keys"),
            question=_("Programs that use these keys are refused within seconds, and for good."),
            permission="accounts.delete_apikey",
        ),
    )

    @admin.display(description=_("monthly budget"), empty_value="-")
    def monthly_budget(self, key: ApiKey) -> str | None:
        micro = key.monthly_budget_micro
        return None if micro is None else f"{as_money(micro)} {settings.CURRENCY}"
