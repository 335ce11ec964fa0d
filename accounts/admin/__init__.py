"""The admin's pages about accounts."""

from accounts.admin.base import HistoryAdmin, RecordedAdmin
from accounts.admin.credentials import ApiKeyAdmin, SessionAdmin
from accounts.admin.groups import GroupAdmin, TeamAdmin
from accounts.admin.history import AuditEventAdmin, LedgerEntryAdmin
from accounts.admin.users import UserAdmin

__all__ = [
    "ApiKeyAdmin",
    "AuditEventAdmin",
    "GroupAdmin",
    "HistoryAdmin",
    "LedgerEntryAdmin",
    "RecordedAdmin",
    "SessionAdmin",
    "TeamAdmin",
    "UserAdmin",
]
