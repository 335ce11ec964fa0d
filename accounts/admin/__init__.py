"""The admin's pages about accounts."""

from accounts.admin.actions import RowAction
from accounts.admin.base import HistoryAdmin, RecordedAdmin
from accounts.admin.credentials import ApiKeyAdmin, SessionAdmin
from accounts.admin.groups import GroupAdmin, TeamAdmin
from accounts.admin.history import (
    AuditEventAdmin,
    LedgerEntryAdmin,
    PseudonymAdmin,
    ReservationAdmin,
    SpendingAdmin,
)
from accounts.admin.lists import FoundByIndex
from accounts.admin.private import PrivateAdmin
from accounts.admin.users import UserAdmin

__all__ = [
    "ApiKeyAdmin",
    "AuditEventAdmin",
    "FoundByIndex",
    "GroupAdmin",
    "HistoryAdmin",
    "LedgerEntryAdmin",
    "PrivateAdmin",
    "PseudonymAdmin",
    "RecordedAdmin",
    "ReservationAdmin",
    "RowAction",
    "SessionAdmin",
    "SpendingAdmin",
    "TeamAdmin",
    "UserAdmin",
]
