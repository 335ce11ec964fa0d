"""Texts that belong to somebody: no page of the admin shows or loads them but one that asks for a reason.

The reason goes into the audit log, in the transaction that reads the texts, and they are shown in that one
answer.
"""

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.admin.base import HistoryAdmin
from accounts.audit import record
from accounts.authentication import user_of
from accounts.models import User
from accounts.models.audit import AuditKind


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=_("Why you have to read it"),
        min_length=10,
        max_length=500,
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text=_("At least 10 characters. It stays in the audit log for good, so name nobody in it."),
    )


class PrivateAdmin(HistoryAdmin):
    """Rows of which the columns `private` are hidden.

    `owner` is the way from a row to the person whose words they are, with dots; empty where there is none.
    """

    private: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
    """What else no page needs: large columns, and those of rows that come along."""
    owner = ""
    may_open = "inference.read_others_conversations"
    change_form_template = "admin/private_change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*self.private, *self.deferred)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        # A filter may ask whether there is a text, and nothing else of it.
        name, _sep, question = lookup.partition("__")
        if name in self.private and question != "isempty":
            return False
        return super().lookup_allowed(lookup, value, request)

    def hides(self, row: Any) -> bool:
        """Whether the texts of this row are hidden."""
        return True

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields = [name for name in super().get_fields(request, obj) if name not in self.private]
        if obj is None or self.hides(obj):
            return [*fields, "hidden_texts"]
        return [*fields, *self.private]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        return (*super().get_readonly_fields(request, obj), "hidden_texts")

    @admin.display(description=_("hidden texts"))
    def hidden_texts(self, row: Any) -> str:
        return ", ".join(self._label(name) for name in self.private)

    def _label(self, name: str) -> str:
        return str(self.opts.get_field(name).verbose_name)  # type: ignore[union-attr]

    # --- The page that opens them -----------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_open"
        view = self.admin_site.admin_view(self.open_view)
        return [path("<path:object_id>/open/", view, name=name), *super().get_urls()]

    def open_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks for a reason, writes it down, and shows the texts in that one answer."""
        if not (self.has_view_permission(request) and request.user.has_perm(self.may_open)):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        form = ReasonForm(request.POST or None)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("Open hidden texts"),
            "object": row,
            "form": form,
            "texts": None,
        }
        if request.method == "POST" and form.is_valid():
            context["texts"] = self._open(request, row, form.cleaned_data["reason"])
        return TemplateResponse(request, "admin/open_private.html", context)

    @transaction.atomic
    def _open(self, request: HttpRequest, row: Any, reason: str) -> list[tuple[str, str]]:
        """The texts, which nobody sees without the event that says so."""
        record(
            AuditKind.PRIVATE_OPENED,
            subject=_follow(row, self.owner),
            actor=user_of(request),
            table=self.opts.label_lower,
            row=str(row.pk),
            reason=reason,
        )
        values = self.model._base_manager.values(*self.private).get(pk=row.pk)
        return [(capfirst(self._label(name)), as_text(values[name])) for name in self.private]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        context["may_open"] = request.user.has_perm(self.may_open) and self.hides(context.get("original"))
        return super().render_change_form(request, context, *args, **kwargs)


def as_text(value: Any) -> str:
    """A column as people read it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _follow(row: Any, way: str) -> User | None:
    for name in way.split(".") if way else ():
        row = getattr(row, name)
    return row if isinstance(row, User) else None
