"""Sign-ins and API keys: who holds them, and ending them."""

from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.admin.base import HistoryAdmin
from accounts.audit import record
from accounts.authentication import user_of
from accounts.keys import revoke_key
from accounts.models import ApiKey, Session
from accounts.models.audit import AuditKind
from accounts.money import as_money
from accounts.roles import may_manage


class _CredentialAdmin(HistoryAdmin):
    """Credentials are ended, and stay as history; their permission to delete stands for that."""

    list_select_related = ("user",)
    date_hierarchy = "created_at"

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"accounts.delete_{self.opts.model_name}")


@admin.register(Session)
class SessionAdmin(_CredentialAdmin):
    list_display = ("user", "user_agent", "created_at", "last_used_at", "revoked_at")
    search_fields = ("user__username",)
    fields = ("user", "user_agent", "created_at", "last_used_at", "revoked_at")
    actions = ("end_sign_ins",)

    @admin.action(description=_("End the selected sign-ins"), permissions=["end"])
    @transaction.atomic
    def end_sign_ins(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        ended = 0
        for session in queryset.filter(revoked_at=None).select_related("user"):
            if may_manage(user_of(request), session.user) and Session.objects.filter(pk=session.pk).revoke():
                record(AuditKind.SESSION_ENDED, subject=session.user)
                ended += 1
        text = ngettext("%(count)d sign-in ended.", "%(count)d sign-ins ended.", ended)
        self.message_user(request, text % {"count": ended})


@admin.register(ApiKey)
class ApiKeyAdmin(_CredentialAdmin):
    list_display = ("name", "public_id", "user", "scopes", "created_at", "expires_at", "revoked_at")
    search_fields = ("name", "public_id", "user__username")
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
    actions = ("revoke_keys",)

    @admin.display(description=_("monthly budget"), empty_value="-")
    def monthly_budget(self, key: ApiKey) -> str | None:
        micro = key.monthly_budget_micro
        return None if micro is None else f"{as_money(micro)} {settings.CURRENCY}"

    @admin.action(description=_("Revoke the selected keys"), permissions=["end"])
    @transaction.atomic
    def revoke_keys(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        actor = user_of(request)
        keys = [key for key in queryset.select_related("user") if may_manage(actor, key.user)]
        ended = sum(revoke_key(key, actor=actor) for key in keys)
        text = ngettext("%(count)d key revoked.", "%(count)d keys revoked.", ended)
        self.message_user(request, text % {"count": ended})
