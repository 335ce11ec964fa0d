"""The forms of the sign-in pages."""

from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import UserCreationForm
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from llmsite.core.errors import WrongCredentials, describe


class LoginForm(forms.Form):
    username = forms.CharField(
        label=_("Username"),
        max_length=150,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autofocus": True, "autocapitalize": "none"}
        ),
    )
    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    user: User

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        user = authenticate(username=cleaned["username"], password=cleaned["password"])
        if user is None:
            raise forms.ValidationError(describe(WrongCredentials()).message, code="invalid_login")
        assert isinstance(user, User)
        self.user = user
        return cleaned


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
        except IntegrityError:
            # Somebody else took the name between the check and the save.
            self.add_error("username", User._meta.get_field("username").error_messages["unique"])
            return None
        return user
