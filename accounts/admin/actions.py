"""Actions of a list that ask once more before they change anything, and then tell how each row went.

A `RowAction` has no logic of its own: it calls the one function by which the site does the thing everywhere,
which records it in the audit log too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts.authentication import user_of
from accounts.forms import CurrentPasswordField
from accounts.models import User
from accounts.passwords import confirm_password
from llmsite.core.errors import SiteError, describe

MOST_ROWS = 100
"""How many rows one action takes."""
TOLD = 10
"""Of how many rows that failed the page says why."""
CONFIRMED = "confirmed"


class AgainForm(forms.Form):
    """Asks somebody who is signed in for their password again."""

    password = CurrentPasswordField(
        label=_("Your password"), help_text=_("So that nobody else does this at a screen you have left.")
    )

    def __init__(self, *args: Any, user: User, **options: Any) -> None:
        super().__init__(*args, **options)
        self._user = user
        self.fields["password"].widget.attrs["class"] = "vTextField"

    def clean_password(self) -> str:
        password = self.cleaned_data["password"]
        require_password(self._user, password)
        return password


def require_password(user: User, password: str) -> None:
    """Raises ValidationError where it is not the password of `user`, or too many were tried."""
    try:
        confirm_password(user, password)
    except SiteError as error:
        raise ValidationError(describe(error).message) from None


@dataclass
class _Results:
    done: int = 0
    idle: int = 0
    failed: list[str] = field(default_factory=list)


class RowAction:
    """One thing that staff with `permission` may do to rows of a list.

    `work(row, actor)` does it, in a transaction of its own; it raises a SiteError where the row refuses, and
    returns False where there was nothing to do. Where `needs_password`, the page that asks once more asks
    for the password too.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Any, User], object],
        *,
        label: str | Promise,
        question: str | Promise,
        permission: str,
        needs_password: bool = False,
    ) -> None:
        self.__name__ = name
        self.short_description = label
        self.question = question
        self.permission = permission
        self._work = work
        self._needs_password = needs_password

    def __call__(
        self, model_admin: admin.ModelAdmin, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        if not may_do(request, self):
            raise PermissionDenied
        rows = list(queryset[: MOST_ROWS + 1])
        if len(rows) > MOST_ROWS:
            text = gettext("Select at most %(count)d rows.") % {"count": MOST_ROWS}
            model_admin.message_user(request, text, messages.ERROR)
            return None
        form = self._form(request)
        if CONFIRMED in request.POST and (form is None or form.is_valid()):
            self._tell(model_admin, request, self._do(rows, user_of(request)))
            return None
        return self._page(model_admin, request, rows, form)

    def _form(self, request: HttpRequest) -> AgainForm | None:
        if not self._needs_password:
            return None
        return AgainForm(request.POST if CONFIRMED in request.POST else None, user=user_of(request))

    def _do(self, rows: list[Any], actor: User) -> _Results:
        results = _Results()
        for row in rows:
            try:
                with transaction.atomic():
                    changed = self._work(row, actor)
            except SiteError as error:
                results.failed.append(f"{row}: {describe(error).message}")
                continue
            if changed is False:
                results.idle += 1
            else:
                results.done += 1
        return results

    def _tell(self, model_admin: admin.ModelAdmin, request: HttpRequest, results: _Results) -> None:
        for text in results.failed[:TOLD]:
            model_admin.message_user(request, text, messages.ERROR)
        values = {"action": self.short_description, "count": results.done}
        text = ngettext("%(action)s: done, %(count)d row.", "%(action)s: done, %(count)d rows.", results.done)
        level = messages.SUCCESS if results.done else messages.WARNING
        model_admin.message_user(request, text % values, level)
        if more := len(results.failed[TOLD:]):
            text = ngettext("%(count)d more row failed.", "%(count)d more rows failed.", more)
            model_admin.message_user(request, text % {"count": more}, messages.ERROR)
        if results.idle:
            text = ngettext(
                "%(count)d row was left as it is: there was nothing to do, or you may not do it.",
                "%(count)d rows were left as they are: there was nothing to do, or you may not do it.",
                results.idle,
            )
            model_admin.message_user(request, text % {"count": results.idle}, messages.WARNING)

    def _page(
        self, model_admin: admin.ModelAdmin, request: HttpRequest, rows: list[Any], form: AgainForm | None
    ) -> HttpResponse:
        context = {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": self.short_description,
            "question": self.question,
            "rows": rows,
            "action": self.__name__,
            "confirmed": CONFIRMED,
            "checkbox": ACTION_CHECKBOX_NAME,
            "form": form,
        }
        return TemplateResponse(request, "admin/confirm_action.html", context)


def may_do(request: HttpRequest, action: Any) -> bool:
    """Whether who asks may do this; an action of Django's own knows for itself."""
    permission = getattr(action, "permission", None)
    return permission is None or request.user.has_perm(permission)


def refuse_foreign_actions(model_admin: admin.ModelAdmin, request: HttpRequest) -> None:
    """Raises PermissionDenied where the form asks for an action that this person is not offered.

    Django would tell them to select one.
    """
    if request.method != "POST":
        return
    known = {getattr(action, "__name__", action) for action in model_admin.actions or ()}
    wanted = {name for name in request.POST.getlist("action") if name in known}
    if wanted - model_admin.get_actions(request).keys():
        raise PermissionDenied
