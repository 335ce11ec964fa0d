"""Resetting a password by e-mail: a link that works once, for an hour, until the password changes.

Django makes the token; its stock pages would keep it in a session, and this site has none.
"""

import hashlib

import structlog
from django.conf import settings
from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode
from django.utils.translation import gettext as _

from accounts.limits.rate_limits import Hit, rate_limiter
from accounts.models import User
from llmsite.core.rates import Rate

log = structlog.get_logger("llmsite.password_reset")

MAILS_TO_ONE_ADDRESS = Rate(5, 3600.0)
"""So that nobody's mail box is filled by others, from however many addresses they ask."""


def send_links(form: PasswordResetForm, site: str) -> None:
    """Mail a link to each user with the address in a valid form. `site` is this site's address, `https://…/`.

    It takes as long as the mail server does, and longer where there is such a user: call it where nobody
    waits for it. A failure is logged.
    """
    email = form.cleaned_data["email"]
    digest = hashlib.sha256(email.casefold().encode()).hexdigest()[:32]
    if not rate_limiter.hit_sync(Hit(f"reset-mail:{digest}", MAILS_TO_ONE_ADDRESS)).allowed:
        return
    for user in form.get_users(email):
        try:
            _send_link(user, site)
        except Exception as error:
            # The error itself may name the address, so the log has its kind alone.
            log.error("reset_mail_failed", user_id=user.pk, error=type(error).__name__)


def user_of_link(uid: str, token: str) -> User | None:
    """The user whose link this is; None where it is not one of ours, is too old or was used."""
    try:
        pk = int(urlsafe_base64_decode(uid))
    except ValueError:
        return None
    # Locked in a transaction, so that of two who follow the link at once one comes too late.
    user = User.objects.select_for_update().filter(pk=pk, is_active=True).first()
    return user if default_token_generator.check_token(user, token) else None


def _send_link(user: User, site: str) -> None:
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    token = default_token_generator.make_token(user)
    link = site.rstrip("/") + reverse("password-reset-confirm", args=[uid, token])
    context = {"user": user, "link": link, "site": site, "minutes": settings.PASSWORD_RESET_TIMEOUT // 60}
    text = render_to_string("accounts/password_reset_mail.txt", context)
    send_mail(_("Reset your password"), text, None, [user.email])
