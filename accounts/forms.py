"""The forms before a sign-in: log in, register, reset a password."""

from typing import Any

from django import forms
from django.contrib.auth.forms import PasswordResetForm, UserCreationForm
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind

PASSWORD_LENGTH = 4096


class CurrentPasswordField(forms.CharField):
    """For a password that exists; a new one has Django's own fields and rules."""

    def __init__(self, **options: Any) -> None:
        widget = forms.PasswordInput(attrs={"autocomplete": "current-password"})
        super().__init__(strip=False, max_length=PASSWORD_LENGTH, widget=widget, **options)


class LoginForm(forms.Form):
    username = forms.CharField(
        label=_("Username"),
        max_length=150,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autofocus": True, "autocapitalize": "none"}
        ),
    )
    password = CurrentPasswordField(label=_("Password"))


class ResetForm(PasswordResetForm):
    email = forms.EmailField(
        label=_("E-mail"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )


class RegisterForm(UserCreationForm):
    email = forms.EmailField(
        label=_("E-mail (optional)"), required=False, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )

    class Meta:
        model = User
        fields = ("username", "email")

    def register(self) -> User | None:
        """The new user; None, with the reason in `errors`, where the values are not acceptable."""
        if not self.is_valid():
            return None
        try:
            with transaction.atomic():
                user: User = self.save()
                record(AuditKind.REGISTERED, subject=user)
        except IntegrityError:
            # Somebody else took the name between the check and the save.
            self.add_error("username", User._meta.get_field("username").error_messages["unique"])
            return None
        return user
