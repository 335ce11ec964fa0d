from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiKey, Session, User

admin.site.register(User, UserAdmin)


class HistoryAdmin(admin.ModelAdmin):
    """Rows that the site writes and people only read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False


@admin.register(Session)
class SessionAdmin(HistoryAdmin):
    list_display = ("user", "user_agent", "created_at", "revoked_at")
    list_select_related = ("user",)
    search_fields = ("user__username",)
    actions = ("end_sign_ins",)

    @admin.action(description=_("End the selected sign-ins"), permissions=["delete"])
    def end_sign_ins(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        count = Session.objects.filter(pk__in=queryset).revoke()
        self.message_user(request, _("%(count)d sign-ins ended.") % {"count": count})


@admin.register(ApiKey)
class ApiKeyAdmin(HistoryAdmin):
    list_display = ("name", "public_id", "user", "scopes", "created_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    search_fields = ("name", "public_id", "user__username")
    fields = ("name", "public_id", "user", "scopes", "created_at", "expires_at", "revoked_at")
    actions = ("revoke_keys",)

    @admin.action(description=_("Revoke the selected keys"), permissions=["delete"])
    def revoke_keys(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        count = sum(key.revoke() for key in queryset)
        self.message_user(request, _("%(count)d keys revoked.") % {"count": count})
