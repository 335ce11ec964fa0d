"""People: their limits, roles and teams, and their erasure.

Nobody can use these pages to get, or to give, a right that they do not have: a superuser is changed by
superusers only, an account only by somebody who has all its rights, and only rights that one has oneself
can be given or taken.
"""

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import AdminPasswordChangeForm, UserChangeForm
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.admin.actions import AgainForm
from accounts.admin.base import RecordedAdmin, record_rights
from accounts.audit import acting, record
from accounts.authentication import user_of
from accounts.erasure import erase, require_another_administrator
from accounts.models import Team, User
from accounts.models.audit import AuditKind
from accounts.money import MICRO, as_money
from accounts.roles import may_grant, may_manage, names_of
from llmsite.core.errors import LastAdministrator, SiteError, describe
from llmsite.core.rates import normal_rate


class MoneyField(forms.DecimalField):
    """An amount in the site's currency, for a column of millionths."""

    def __init__(self, **options: Any) -> None:
        text = _("In %(currency)s; empty: no limit.") % {"currency": settings.CURRENCY}
        super().__init__(max_digits=15, decimal_places=6, min_value=0, help_text=text, **options)

    def prepare_value(self, value: Any) -> Any:
        return as_money(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> int | None:
        amount = super().clean(value)
        return None if amount is None else int(amount * MICRO)

    def has_changed(self, initial: int | None, data: Any) -> bool:
        return super().has_changed(None if initial is None else Decimal(as_money(initial)), data)


class UserForm(UserChangeForm):
    """An account. `actor` is who changes it."""

    actor: User

    monthly_budget_micro = MoneyField(label=_("Monthly budget"), required=False)

    class Meta(UserChangeForm.Meta):
        model = User

    def clean_rate_limit(self) -> str:
        text = self.cleaned_data["rate_limit"]
        return normal_rate(text) if text else ""

    def clean_groups(self) -> Any:
        groups = self.cleaned_data["groups"]
        for group in set(groups) ^ set(self.instance.groups.all()):
            if not may_grant(self.actor, names_of(group.permissions.all())):
                raise ValidationError(gettext("You do not have all the rights of “%s”.") % group.name)
        return groups

    def clean_user_permissions(self) -> Any:
        permissions = self.cleaned_data["user_permissions"]
        changed = {*permissions} ^ {*self.instance.user_permissions.all()}
        rights = names_of(Permission.objects.filter(pk__in=[permission.pk for permission in changed]))
        if not may_grant(self.actor, rights):
            raise ValidationError(gettext("You can give and take only permissions that you have yourself."))
        return permissions

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        keeps = cleaned.get("is_active", True) and cleaned.get("is_superuser", self.instance.is_superuser)
        if self.instance.is_superuser and not keeps:
            try:
                require_another_administrator(self.instance)
            except LastAdministrator as error:
                raise ValidationError(describe(error).message) from None
        return cleaned


class PasswordForm(AdminPasswordChangeForm):
    """Another person's password, set by staff."""

    def save(self, commit: bool = True) -> User:
        with transaction.atomic():
            user: User = super().save(commit)
            record(AuditKind.PASSWORD_CHANGED, subject=user)
        return user


class MembershipInline(admin.TabularInline):
    model = Team.members.through
    autocomplete_fields = ("team",)
    extra = 0
    verbose_name = _("team")
    verbose_name_plural = _("teams")


@admin.register(User)
class UserAdmin(RecordedAdmin, auth_admin.UserAdmin):
    form = UserForm
    change_password_form = PasswordForm
    inlines = (MembershipInline,)
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    search_fields = ("username__startswith", "email__iexact")
    search_help_text = _("The beginning of a username, or a whole e-mail address")
    sortable_by = ("username",)
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Personal info"), {"fields": ("first_name", "last_name", "email")}),
        (_("Limits"), {"fields": ("rate_limit", "monthly_budget_micro")}),
        (_("Roles"), {"fields": ("is_active", "groups", "is_staff")}),
        (_("Further rights"), {"fields": ("is_superuser", "user_permissions")}),
        (_("Important dates"), {"fields": ("last_login", "date_joined")}),
    )

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        return () if obj is None else self.inlines

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # Several at once would take long, and each of them deserves a look.
        return {
            name: action for name, action in super().get_actions(request).items() if name != "delete_selected"
        }

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        # Whether somebody is staff follows from their roles.
        fixed = ("is_staff", "last_login", "date_joined")
        return fixed if user_of(request).is_superuser else ("is_superuser", *fixed)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_manage(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_manage(request, obj)

    def _may_manage(self, request: HttpRequest, obj: User | None) -> bool:
        return obj is None or may_manage(user_of(request), obj)

    def get_form(
        self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm]:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"actor": user_of(request)})

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            record(AuditKind.REGISTERED, subject=obj)
        elif "is_active" in form.changed_data:
            record(AuditKind.ENABLED if obj.is_active else AuditKind.DISABLED, subject=obj)
        if change and "email" in form.changed_data:
            record(AuditKind.EMAIL_CHANGED, subject=obj)
        if limits := sorted({"rate_limit", "monthly_budget_micro"} & set(form.changed_data)):
            record(AuditKind.LIMITS_CHANGED, subject=obj, limits=limits)
        if "is_superuser" in form.changed_data:
            record(AuditKind.RIGHTS_CHANGED, subject=obj, superuser=obj.is_superuser)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        user: User = form.instance
        before = names_of(user.user_permissions.all())
        super().save_related(request, form, formsets, change)
        record_rights(before, names_of(user.user_permissions.all()), subject=user)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with acting(user_of(request)):
            return super().user_change_password(request, id, form_url)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Deleting is erasing. No transaction is open meanwhile, because that waits for running answers."""
        user = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, user):
            raise PermissionDenied
        if user is None:
            raise Http404
        form = AgainForm(request.POST if request.method == "POST" else None, user=user_of(request))
        if form.is_valid():
            return self._erase(request, user)
        context = {**self.admin_site.each_context(request), "opts": self.opts, "object": user, "form": form}
        context["title"] = gettext("Erase an account")
        return TemplateResponse(request, "admin/accounts/user/erase.html", context)

    def _erase(self, request: HttpRequest, user: User) -> HttpResponse:
        try:
            erase(user, actor=user_of(request))
        except SiteError as error:
            messages.error(request, describe(error).message)
            return redirect("admin:accounts_user_change", user.pk)
        messages.success(request, gettext("The account and all that named its owner are erased."))
        # One who has erased their own account is nobody here any more.
        return redirect("admin:accounts_user_changelist" if user.pk != request.user.pk else "login")
