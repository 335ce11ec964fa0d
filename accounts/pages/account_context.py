"""What the account page shows: who you are, where you are logged in, your keys, what you used."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from accounts.ledger import Remaining, remaining
from accounts.models import ApiKey, Session, User
from accounts.models.api_keys import Scope
from accounts.money import as_money, this_month
from accounts.pages.account_forms import DeletionForm, EmailForm, KeyForm
from accounts.pages.devices import device_name
from accounts.prices import unpriced_models
from accounts.usage import Totals, usage_of

SIGN_INS_SHOWN = 50


def account_context(request: HttpRequest, user: User, **forms: Any) -> dict[str, Any]:
    """Everything on the page; `forms` are those that were sent and not taken, by their names below."""
    month = _month(request.GET.get("month"))
    return {
        "email_form": EmailForm(initial={"email": user.email}),
        "key_form": KeyForm(),
        "deletion_form": DeletionForm(user=user),
        "roles": _roles(user),
        "teams": user.teams.all(),
        "may_add_keys": user.has_perm("accounts.add_apikey"),
        "currency": settings.CURRENCY,
        **_sign_ins(user, request.credential.session),  # type: ignore[attr-defined]
        **_keys_and_usage(user, month),
        **forms,
    }


# --- Roles ---------------------------------------------------------------------------------------


def _roles(user: User) -> list[str]:
    names = {
        "member": _("member"),
        "curator": _("curator"),
        "operator": _("operator"),
        "admin": _("administrator"),
    }
    roles = [names.get(group.name, group.name) for group in user.groups.order_by("name")]
    return [*roles, _("superuser")] if user.is_superuser else roles


# --- Sign-ins ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignIn:
    session: Session
    device: str
    is_this: bool


def _sign_ins(user: User, current: Session) -> dict[str, Any]:
    """The sign-ins that can still be renewed, this one first, then the one used last."""
    last_use = timezone.now() - settings.REFRESH_TOKEN_LIFETIME
    others = Session.objects.visible_to(user).filter(last_used_at__gt=last_use).exclude(pk=current.pk)
    shown = [current, *others.order_by("-last_used_at", "pk")[:SIGN_INS_SHOWN]]
    rows = [SignIn(row, device_name(row.user_agent), row.pk == current.pk) for row in shown]
    return {"sign_ins": rows, "sign_ins_are_cut": len(rows) > SIGN_INS_SHOWN}


# --- Keys and usage ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """A key as a person reads it: an empty text or list where it is not limited."""

    row: ApiKey
    scopes: list[str]
    budget: str
    is_expired: bool


@dataclass(frozen=True, slots=True)
class Used:
    """One line of a table of usage, in the digits of the reader's language."""

    name: str
    calls: str
    input_tokens: str
    output_tokens: str
    cost: str
    is_estimated: bool
    has_no_price: bool = False
    """Whether it cost nothing because nobody has entered a price."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the budget of a month stands, for people and for a `<meter>`."""

    total: str
    spent: str
    reserved: str
    left: str
    total_micro: int
    used_micro: int

    @property
    def high_micro(self) -> int:
        """Where a meter turns to another colour."""
        return self.total_micro * 4 // 5


def _keys_and_usage(user: User, month: date) -> dict[str, Any]:
    usage = usage_of(user.pseudonym, month=month)
    # Also those that are revoked by now but were used in this month: they have names.
    wanted = Q(revoked_at=None) | Q(public_id__in=[name for name in usage.by_key if name])
    keys = list(ApiKey.objects.filter(wanted, user=user).order_by("-created_at"))
    names = {key.public_id: key.name for key in keys} | {"": _("Without a key")}
    by_key = [_used(names.get(name, name), totals) for name, totals in usage.by_key.items()]
    return {
        "keys": [_key(key) for key in keys if key.revoked_at is None],
        "month": month,
        "month_before": _months_before(month) if month > user.date_joined.date() else None,
        "month_after": _months_after(month),
        "used": _used(_("Total"), usage.total) if usage.total.calls else None,
        "used_by_model": _used_by_model(usage.by_model),
        "used_by_key": sorted(by_key, key=lambda line: line.name),
        "budget": _budget(remaining(user, month=month)),
    }


def _key(key: ApiKey) -> Key:
    labels = dict(Scope.choices)
    budget = key.monthly_budget_micro
    return Key(
        key,
        scopes=[str(labels.get(scope, scope)) for scope in key.scopes],
        budget="" if budget is None else _money(budget),
        is_expired=key.expires_at is not None and key.expires_at <= timezone.now(),
    )


def _used_by_model(by_model: Mapping[str, Totals]) -> list[Used]:
    unpriced = unpriced_models()
    return [
        replace(_used(name, totals), has_no_price=name in unpriced and not totals.cost_micro)
        for name, totals in by_model.items()
    ]


def _used(name: str, totals: Totals) -> Used:
    return Used(
        name=name,
        calls=_digits(totals.calls),
        input_tokens=_digits(totals.input_tokens),
        output_tokens=_digits(totals.output_tokens),
        cost=_money(totals.cost_micro),
        is_estimated=totals.has_estimates,
    )


def _budget(budget: Remaining) -> Budget | None:
    if budget.budget_micro is None:
        return None
    return Budget(
        total=_money(budget.budget_micro),
        spent=_money(budget.spent_micro),
        reserved=_money(budget.reserved_micro),
        left=_money(budget.left_micro or 0),
        total_micro=budget.budget_micro,
        used_micro=budget.spent_micro + budget.reserved_micro,
    )


def _money(micro: int) -> str:
    return number_format(Decimal(as_money(micro)), force_grouping=True)


def _digits(number: int) -> str:
    return number_format(number, force_grouping=True)


# --- Months --------------------------------------------------------------------------------------


def _month(raw: str | None) -> date:
    """The month of `2026-11`; this one for nonsense and for the future."""
    try:
        month = date.fromisoformat(f"{raw}-01")
    except ValueError:
        return this_month()
    return min(month, this_month())


def _months_before(month: date) -> date:
    return (month - timedelta(days=1)).replace(day=1)


def _months_after(month: date) -> date | None:
    return (month + timedelta(days=31)).replace(day=1) if month < this_month() else None
