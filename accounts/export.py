"""All that the site keeps of a person, as they may download it: JSON-able, without any secret."""

import json
from collections.abc import Callable
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from accounts.audit import as_dict
from accounts.models import AuditEvent, LedgerEntry, User
from accounts.money import as_money

Contribution = Callable[[User], Any]

PROFILE = (
    "username",
    "email",
    "first_name",
    "last_name",
    "pseudonym",
    "date_joined",
    "last_login",
    "is_active",
    "is_staff",
    "is_superuser",
    "rate_limit",
    "monthly_budget_micro",
    "training_consent_at",
)
SIGN_IN = ("user_agent", "created_at", "last_used_at", "revoked_at")
API_KEY = (
    "name",
    "public_id",
    "scopes",
    "allowed_models",
    "rate_limit",
    "monthly_budget_micro",
    "created_at",
    "last_used_at",
    "expires_at",
    "revoked_at",
)
ENTRY = (
    "call",
    "kind",
    "created_at",
    "month",
    "model",
    "provider",
    "api_key",
    "input_tokens",
    "output_tokens",
    "input_price",
    "output_price",
    "cost_micro",
    "estimated",
)

_contributions: dict[str, Contribution] = {}


def contribute(name: str, contribution: Contribution) -> None:
    """Let an upper app add what it keeps of a person, under `name`."""
    _contributions[name] = contribution


def export_of(user: User) -> dict[str, Any]:
    """Everything about `user`. Moments are ISO 8601 in UTC; `…_micro` is in millionths of CURRENCY."""
    own = {
        "profile": {name: getattr(user, name) for name in PROFILE},
        "roles": list(user.groups.order_by("name").values_list("name", flat=True)),
        "teams": list(user.teams.values_list("name", flat=True)),
        "sign_ins": list(user.sessions.order_by("created_at").values(*SIGN_IN)),
        "api_keys": list(user.api_keys.order_by("created_at").values(*API_KEY)),
        "ledger": _ledger(user),
        "audit": _audit(user),
    }
    others = {name: contribution(user) for name, contribution in _contributions.items()}
    # Through JSON and back, so that whoever writes it down needs no encoder for moments, UUIDs and prices.
    plain: dict[str, Any] = json.loads(json.dumps(own | others, cls=DjangoJSONEncoder))
    return plain


def _ledger(user: User) -> dict[str, Any]:
    entries = list(
        LedgerEntry.objects.filter(account=user.pseudonym).order_by("created_at", "pk").values(*ENTRY)
    )
    totals = {name: sum(entry[name] for entry in entries) for name in ("input_tokens", "output_tokens")}
    cost = as_money(sum(entry["cost_micro"] for entry in entries))
    return {"totals": {**totals, "cost": cost}, "entries": entries}


def _audit(user: User) -> list[dict[str, Any]]:
    """What happened to them. What they did to others is in those others' data."""
    events = AuditEvent.objects.filter(subject=user.pseudonym).order_by("created_at", "id")
    return [as_dict(event) for event in events]
