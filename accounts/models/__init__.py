"""Who may enter and what they may use up: people and teams, sign-ins, keys, the ledger, the audit log."""

from accounts.models.api_keys import ApiKey, Scope, access_api_key
from accounts.models.audit import AuditEvent
from accounts.models.ledger import LedgerEntry, Reservation, Spending
from accounts.models.sign_ins import RefreshToken, Session, access_session
from accounts.models.users import RoleGrant, Team, User

__all__ = [
    "ApiKey",
    "AuditEvent",
    "LedgerEntry",
    "RefreshToken",
    "Reservation",
    "RoleGrant",
    "Scope",
    "Session",
    "Spending",
    "Team",
    "User",
    "access_api_key",
    "access_session",
]
