"""The account page, and the addresses its forms are sent to."""

import json
import shlex
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from accounts.audit import record
from accounts.authentication import user_of
from accounts.cookies import clear_cookies, end_sign_in
from accounts.erasure import erase
from accounts.export import export_of
from accounts.keys import create_key, revoke_key
from accounts.models import ApiKey, Scope, Session, User, access_api_key, access_session
from accounts.models.audit import AuditKind
from accounts.pages.account_context import account_context
from accounts.pages.account_forms import DeletionForm, EmailForm, KeyForm
from accounts.pages.form_pages import form_page, wrong_password
from accounts.recent import forget_what_changed
from llmsite.core.errors import LastAdministrator, NotAllowed, PublicError, describe

View = Callable[..., HttpResponse]


@require_GET
@login_required
def account(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/account.html", account_context(request, user_of(request)))


def form_of_account(view: View) -> View:
    """The view of a form on the account page. A link to it, as after a log-in, leads to the page."""

    @wraps(view)
    def guarded(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return redirect("account") if request.method == "GET" else require_POST(view)(request, **kwargs)

    return login_required(sensitive_post_parameters()(guarded))


def _at(section: str) -> HttpResponse:
    return redirect(f"{resolve_url('account')}#{section}")


def _again(request: HttpRequest, name: str, form: Any, refusal: PublicError | None = None) -> HttpResponse:
    """The account page, with a form that was not taken."""
    context = account_context(request, user_of(request), **{name: form})
    return form_page(request, "accounts/account.html", form, refusal=refusal, **context)


# --- Profile -------------------------------------------------------------------------------------


@form_of_account
def change_email(request: HttpRequest) -> HttpResponse:
    user, form = user_of(request), EmailForm(request.POST)
    if not form.is_valid():
        return _again(request, "email_form", form)
    if refusal := wrong_password(user, form):
        return _again(request, "email_form", form, refusal)
    user.email = form.cleaned_data["email"]
    with transaction.atomic():
        user.save(update_fields=["email"])
        record(AuditKind.EMAIL_CHANGED, subject=user)
    messages.success(request, _("Your e-mail address is saved."))
    return _at("profile")


# --- Sign-ins ------------------------------------------------------------------------------------


@form_of_account
def end_session(request: HttpRequest, pk: UUID) -> HttpResponse:
    if pk == request.credential.session.pk:  # type: ignore[attr-defined]
        return end_sign_in(request, redirect("login"))
    session = access_session(user_of(request), pk)
    _end(request, Session.objects.filter(pk=session.pk))
    messages.success(request, _("The device is logged out."))
    return _at("sign-ins")


@form_of_account
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    current = request.credential.session.pk  # type: ignore[attr-defined]
    _end(request, Session.objects.visible_to(user_of(request)).exclude(pk=current))
    messages.success(request, _("All other devices are logged out."))
    return _at("sign-ins")


@transaction.atomic
def _end(request: HttpRequest, sessions: Any) -> int:
    ended: int = sessions.revoke()
    if ended:
        record(AuditKind.SESSION_ENDED, subject=user_of(request), count=ended)
    return ended


# --- Keys ----------------------------------------------------------------------------------------


@form_of_account
def add_key(request: HttpRequest) -> HttpResponse:
    """Makes a key and shows it, this once: it is in no address, cookie or later page."""
    user, form = user_of(request), KeyForm(request.POST)
    if not user.has_perm("accounts.add_apikey"):
        raise NotAllowed
    if not form.is_valid():
        return _again(request, "key_form", form)
    key, text = create_key(user, form.cleaned_data["name"], **form.limits())
    example = _example(request.build_absolute_uri("/api/predict"), key, text)
    return render(request, "accounts/key_created.html", {"key": key, "text": text, "example": example})


def _example(address: str, key: ApiKey, text: str) -> str:
    """A command that asks a question with a new key; empty for a key that may ask nothing."""
    if not key.allows(Scope.CHAT):
        return ""
    question = {"prompt": "What is photosynthesis?"}
    if key.allowed_models:
        question["model"] = key.allowed_models[0]
    lines = (
        f"curl {address}",
        f"  -H 'Authorization: Bearer {text}'",
        "  -H 'Content-Type: application/json'",
        f"  -d {shlex.quote(json.dumps(question))}",
    )
    return " \\\n".join(lines)


@form_of_account
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    user = user_of(request)
    key = access_api_key(user, pk)
    revoke_key(key, actor=user)
    messages.success(request, _("The key “%(name)s” is revoked.") % {"name": key.name})
    return _at("keys")


# --- Training ------------------------------------------------------------------------------------


@form_of_account
def change_consent(request: HttpRequest) -> HttpResponse:
    """Allow, or no longer allow, that models are trained on what the user says of answers."""
    user, is_allowed = user_of(request), request.POST.get("allowed") == "yes"
    changed = User.objects.filter(pk=user.pk, training_consent_at__isnull=is_allowed)
    with transaction.atomic():
        # Said again it is no change: the moment stays that of the first time.
        if changed.update(training_consent_at=timezone.now() if is_allowed else None):
            record(AuditKind.CONSENT_CHANGED, subject=user, allowed=is_allowed)
    forget_what_changed()
    said = _("You allow training.") if is_allowed else _("You do not allow training any more.")
    messages.success(request, said)
    return _at("training")


# --- Your data -----------------------------------------------------------------------------------


@form_of_account
def download(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    record(AuditKind.DATA_DOWNLOADED, subject=user)
    options = {"ensure_ascii": False, "indent": 2}
    response = JsonResponse(export_of(user), json_dumps_params=options)
    name = f"llmsite-{user.username}-{timezone.now():%Y-%m-%d}.json"
    response["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    return response


@form_of_account
def delete(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    form = DeletionForm(request.POST, user=user)
    if not form.is_valid():
        return _again(request, "deletion_form", form)
    if refusal := wrong_password(user, form):
        return _again(request, "deletion_form", form, refusal)
    try:
        erase(user, actor=user)
    except LastAdministrator as error:
        form.add_error(None, describe(error).message)
        return _again(request, "deletion_form", form, describe(error))
    return clear_cookies(render(request, "accounts/goodbye.html"))
