"""The one place where a name and a password become a user; it counts the tries before it computes a hash."""

import hashlib

from django.conf import settings
from django.contrib.auth import authenticate
from django.http import HttpRequest
from django.utils.translation import gettext as _

from accounts.audit import record
from accounts.limits.addresses import client_address
from accounts.limits.buckets import Hit
from accounts.limits.rate_limits import rate_limiter
from accounts.models import User
from accounts.models.audit import AuditKind
from llmsite.core.errors import InvalidInput, WrongCredentials


def check_password(username: str, password: str, request: HttpRequest) -> User:
    """The user of a name and password. Raises WrongCredentials, and RateLimited after too many tries.

    Tries are counted by name as well as by address, so that neither many addresses nor many names help to
    guess; somebody who is signed in already is not locked out by them.
    """
    address = client_address(request.META.get("REMOTE_ADDR", ""))
    tries = [Hit(f"login:{_digest(username)}", settings.LOGIN_RATE_LIMIT)]
    tries.append(Hit(f"login-from:{address}", settings.LOGIN_RATE_LIMIT))
    rate_limiter.hit_sync(*tries).raise_if_refused()
    user = authenticate(username=username, password=password)
    if not isinstance(user, User):
        known = User.objects.filter(username=username).first()
        record(AuditKind.SIGN_IN_FAILED, subject=known, actor=None)
        raise WrongCredentials
    return user


def confirm_password(user: User, password: str) -> None:
    """Ask somebody who is signed in for their password again. Raises as `check_password` does.

    These tries count by themselves: who guesses at the log-in page must not keep the owner from changing
    the password.
    """
    rate_limiter.hit_sync(Hit(f"confirm:{user.pk}", settings.LOGIN_RATE_LIMIT)).raise_if_refused()
    if not user.check_password(password):
        record(AuditKind.SIGN_IN_FAILED, subject=user)
        raise WrongCredentials


def confirm_in_form(user: User, password: str) -> None:
    """The same for a form or a body with a field `password`, whose error says what to do.

    Raises InvalidInput for that field, and RateLimited.
    """
    if not password:
        raise InvalidInput(field="password", reason=_("Give your password once more."))
    try:
        confirm_password(user, password)
    except WrongCredentials:
        raise InvalidInput(field="password", reason=_("This is not your password.")) from None


def _digest(username: str) -> str:
    # A name that somebody typed is not kept anywhere, and has no limit to its length.
    return hashlib.sha256(username.casefold().encode()).hexdigest()[:32]
