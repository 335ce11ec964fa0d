"""What the admin's pages have in common."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts.admin.actions import may_do, refuse_foreign_actions
from accounts.admin.lists import ListAdmin
from accounts.audit import acting, record
from accounts.authentication import user_of
from accounts.models import User
from accounts.models.audit import AuditKind


class RecordedAdmin(ListAdmin):
    """What a page changes is recorded in the audit log as done by who asked for it."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with acting(user_of(request)):
            return super().changeform_view(request, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        refuse_foreign_actions(self, request)
        with acting(user_of(request)):
            return super().changelist_view(request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with acting(user_of(request)):
            return super().delete_view(request, *args, **kwargs)

    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        # Django looks for the row first, and so tells those without the right which rows there are.
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return super().history_view(request, *args, **kwargs)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Those of `accounts.admin.actions` name a permission themselves."""
        found = super().get_actions(request)
        return {name: action for name, action in found.items() if action and may_do(request, action[0])}


class HistoryAdmin(RecordedAdmin):
    """Rows that the site writes and people only read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        # A filter that somebody typed into the address would tell a hidden text, letter by letter.
        filters = (one[0] if isinstance(one, tuple) else one for one in self.list_filter)
        offered = {*filters, self.date_hierarchy}
        return lookup.split("__")[0] in offered and super().lookup_allowed(lookup, value, request)


def record_rights(before: set[str], after: set[str], *, subject: User | None, **data: Any) -> None:
    """Note which permissions were given and taken by who acts at the moment; nothing where none was."""
    changes: dict[str, Any] = {"granted": sorted(after - before), "removed": sorted(before - after)}
    if before != after:
        record(AuditKind.RIGHTS_CHANGED, subject=subject, **data, **changes)
