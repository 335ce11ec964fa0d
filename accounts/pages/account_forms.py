"""The forms of the account pages."""

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import SetPasswordForm
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.forms import CurrentPasswordField
from accounts.key_choices import offered_models
from accounts.models import Scope, User
from accounts.money import MICRO
from llmsite.core.rates import normal_rate


class AccountForm(forms.Form):
    """One of several forms on a page: the ids of its fields begin with the name of its class."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"auto_id": f"{type(self).__name__.lower()}_%s", **options})


class EmailForm(AccountForm):
    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        required=False,
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        help_text=gettext_lazy("A link to reset your password is sent there, and nothing else."),
    )
    password = CurrentPasswordField(label=gettext_lazy("Your password"))


class ResetPasswordForm(SetPasswordForm):
    revoke_keys = forms.BooleanField(label=gettext_lazy("Also revoke my API keys"), required=False)


class NewPasswordForm(ResetPasswordForm):
    password = CurrentPasswordField(label=gettext_lazy("Current password"))

    field_order = ("password", "new_password1", "new_password2", "revoke_keys")


class DeletionForm(AccountForm):
    username = forms.CharField(
        label=gettext_lazy("Your username"),
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
    )
    password = CurrentPasswordField(label=gettext_lazy("Your password"))

    def __init__(self, data: Any = None, *, user: User, **options: Any) -> None:
        super().__init__(data, **options)
        self._user = user

    def clean_username(self) -> str:
        if self.cleaned_data["username"] != self._user.username:
            raise ValidationError(_("This is not your username."))
        return self._user.username


class KeyForm(AccountForm):
    """A new API key. `limits` are the values of `accounts.keys.create_key`."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("What the key is for, so that you know it later."),
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("What it may do"),
        choices=Scope.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: all that you may."),
    )
    models = forms.MultipleChoiceField(
        label=gettext_lazy("Models it may ask"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: all."),
    )
    expires = forms.DateField(
        label=gettext_lazy("Expires"),
        required=False,
        input_formats=["%Y-%m-%d"],
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text=gettext_lazy("It is refused from the beginning of this day (UTC). Empty: never."),
    )
    rate_limit = forms.CharField(
        label=gettext_lazy("Rate limit"),
        required=False,
        max_length=20,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "20/m"}),
        help_text=gettext_lazy("A number per s, m, h or d, beside your own limit. Empty: none."),
    )
    monthly_budget = forms.DecimalField(
        label=gettext_lazy("Monthly budget"),
        required=False,
        min_value=Decimal(0),
        max_digits=15,
        decimal_places=6,
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        models = [(alias, alias) for alias in offered_models()]
        self.fields["models"].choices = models  # type: ignore[attr-defined]
        in_currency = _("In %(currency)s. Empty: no limit.") % {"currency": settings.CURRENCY}
        self.fields["monthly_budget"].help_text = in_currency

    def clean_expires(self) -> datetime | None:
        day = self.cleaned_data["expires"]
        moment = day and datetime.combine(day, time(), UTC)
        if moment and moment <= timezone.now():
            raise ValidationError(_("This moment lies in the past."))
        return moment

    def clean_rate_limit(self) -> str:
        text = self.cleaned_data["rate_limit"]
        return normal_rate(text) if text else ""

    def limits(self) -> dict[str, Any]:
        values = self.cleaned_data
        budget = values["monthly_budget"]
        return {
            "scopes": values["scopes"],
            "allowed_models": values["models"],
            "expires_at": values["expires"],
            "rate_limit": values["rate_limit"],
            "monthly_budget_micro": None if budget is None else int(budget * MICRO),
        }
