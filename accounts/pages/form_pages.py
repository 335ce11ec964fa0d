"""How a page with a form answers, and why a form may not be taken."""

import math
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from accounts.limits.forms import count_form, count_try
from accounts.models import User
from accounts.passwords import confirm_password
from llmsite.core.errors import PublicError, RateLimited, WrongCredentials, describe


def form_page(
    request: HttpRequest,
    template: str,
    form: forms.BaseForm,
    *,
    refusal: PublicError | None = None,
    **context: Any,
) -> HttpResponse:
    """The page of a form: as it is at first, or as it was sent, with what is wrong with it."""
    status = refusal.status if refusal else 400 if form.is_bound else 200
    if form.is_bound:
        _focus_on_error(form)
    context = {"form": form, "refusal": refusal, **context}
    response = render(request, template, context, status=status)
    if refusal and refusal.retry_after is not None:
        response["Retry-After"] = str(math.ceil(refusal.retry_after))
    return response


def _focus_on_error(form: forms.BaseForm) -> None:
    """The browser leads to the first field that is wrong, and a screen reader reads its error."""
    wrong = [name for name in form.fields if name in form.errors]
    for name, field in form.fields.items():
        field.widget.attrs.pop("autofocus", None)
        if name == next(iter(wrong or form.fields)):
            field.widget.attrs["autofocus"] = True


def too_often(request: HttpRequest, group: str) -> PublicError | None:
    """Count a form that was sent; the refusal where its address has sent too many of this group."""
    try:
        count_form(request, group)
        count_try(request, group)
    except RateLimited as error:
        return describe(error)
    return None


def wrong_password(user: User, form: forms.Form) -> PublicError | None:
    """Why the password in a valid form of a signed-in user is not taken; None where it is theirs.

    The form then says so too.
    """
    try:
        confirm_password(user, form.cleaned_data["password"])
    except RateLimited as error:
        form.add_error(None, describe(error).message)
        return describe(error)
    except WrongCredentials:
        form.add_error("password", _("This is not your password."))
        return PublicError(400, "invalid_value", _("This is not your password."), "password")
    return None
