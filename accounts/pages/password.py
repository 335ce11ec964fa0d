"""The pages on which a password is changed: with the old one, or with a link by e-mail."""

from channels.db import database_sync_to_async
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods

from accounts.audit import record
from accounts.authentication import user_of
from accounts.cookies import set_cookies
from accounts.forms import ResetForm
from accounts.keys import revoke_key
from accounts.models import ApiKey, User
from accounts.models.audit import AuditKind
from accounts.pages.account_forms import NewPasswordForm, ResetPasswordForm
from accounts.pages.form_pages import form_page, too_often, wrong_password
from accounts.pages.password_reset import send_links, user_of_link
from accounts.tokens import TokenPair, sign_in
from llmsite.core.background import spawn
from llmsite.core.errors import WrongCredentials


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@login_required
def change(request: HttpRequest) -> HttpResponse:
    user, refusal = user_of(request), None
    form = NewPasswordForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        refusal = wrong_password(user, form)
        if refusal is None:
            pair = _change(request, user, form)
            messages.success(request, _("Your password is changed, and all other devices are logged out."))
            return set_cookies(redirect("account"), pair)
    return form_page(request, "accounts/password_change.html", form, refusal=refusal)


@transaction.atomic
def _change(request: HttpRequest, user: User, form: NewPasswordForm) -> TokenPair:
    """The new password ends all sign-ins; this browser gets a new one at once.

    Raises WrongCredentials where somebody else has changed it since the old one was checked.
    """
    if not User.objects.select_for_update().filter(pk=user.pk, password=user.password).exists():
        raise WrongCredentials
    _save(AuditKind.PASSWORD_CHANGED, user, form)
    return sign_in(user, request=request)


def _save(kind: AuditKind, user: User, form: ResetPasswordForm) -> None:
    form.save()
    record(kind, subject=user)
    if form.cleaned_data["revoke_keys"]:
        for key in ApiKey.objects.visible_to(user):
            revoke_key(key, actor=user)


@require_http_methods(["GET", "POST"])
async def reset(request: HttpRequest) -> HttpResponse:
    """Asks for an e-mail address. The answer is the same, and as fast, whether a user has it or not."""
    form, refusal = ResetForm(request.POST or None), None
    if request.method == "POST":
        refusal = await database_sync_to_async(too_often)(request, "password-reset")
        if not refusal and form.is_valid():
            site = request.build_absolute_uri("/")
            # In a thread of its own: a mail server that is slow must hold up nothing else.
            spawn(database_sync_to_async(send_links, thread_sensitive=False)(form, site))
            return redirect("password-reset-sent")
    return await database_sync_to_async(form_page)(
        request, "accounts/password_reset.html", form, refusal=refusal
    )


@require_GET
def reset_sent(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/password_reset_sent.html")


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@transaction.atomic
def reset_confirm(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Where the link in the e-mail leads."""
    user = user_of_link(uid, token)
    if user is None:
        return render(request, "accounts/password_reset_invalid.html", status=410)
    form = ResetPasswordForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        _save(AuditKind.PASSWORD_RESET, user, form)
        return redirect("password-reset-done")
    return form_page(request, "accounts/password_reset_confirm.html", form)


@require_GET
def reset_done(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/password_reset_done.html")
