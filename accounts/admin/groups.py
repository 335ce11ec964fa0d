"""Groups, of which the roles are some, and teams."""

from typing import Any

from django.contrib import admin
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from accounts.admin.base import RecordedAdmin, record_rights
from accounts.authentication import user_of
from accounts.models import Team
from accounts.roles import ROLES, names_of

admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(RecordedAdmin, auth_admin.GroupAdmin):
    """What a group may is up to superusers: whoever could edit it could give themselves any right."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return user_of(request).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return user_of(request).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        # A role is known by its name; it would be made anew by the next `migrate`.
        return user_of(request).is_superuser and (obj is None or obj.name not in ROLES)

    def get_readonly_fields(self, request: HttpRequest, obj: Group | None = None) -> tuple[str, ...]:
        return ("name",) if obj is not None and obj.name in ROLES else ()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        group: Group = form.instance
        before = names_of(group.permissions.all())
        super().save_related(request, form, formsets, change)
        record_rights(before, names_of(group.permissions.all()), subject=None, role=group.name)


@admin.register(Team)
class TeamAdmin(RecordedAdmin):
    list_display = ("name",)
    search_fields = ("name",)
    autocomplete_fields = ("members",)
