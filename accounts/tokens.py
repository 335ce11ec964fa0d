"""Sign-ins as tokens: a short access JWT and an opaque refresh token that changes at every use.

A refresh token's successor is derived from it with a key of ours. So a parallel or repeated call
within the grace time gets the same successor although only hashes are stored: there is never a
second branch, and a lost reply does not end a sign-in. A token that comes back later than that
was copied, and ends the sign-in (RFC 9700, section 4.14.2).
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import RefreshToken, Session, User
from llmsite.core.errors import NotSignedIn

REUSE_GRACE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a browser keeps in cookies and a program in its memory."""

    access: str
    refresh: str


def sign_in(user: User, *, user_agent: str = "") -> TokenPair:
    """Open a sign-in for `user`, whose password has been checked."""
    session = Session.objects.create(user=user, user_agent=user_agent[:300])
    refresh = secrets.token_urlsafe(32)
    _store(refresh, session)
    return TokenPair(_access_token(session), refresh)


def rotate(presented: str) -> TokenPair:
    """The next pair for a refresh token. Raises NotSignedIn where it is unknown, ended or replayed."""
    with transaction.atomic():
        pair = _rotate_once(presented)
    if pair is None:
        # Outside of the transaction, so that the sign-in stays ended although we raise.
        Session.objects.filter(refresh_tokens=_digest(presented)).revoke()
        raise NotSignedIn
    return pair


def _rotate_once(presented: str) -> TokenPair | None:
    token = RefreshToken.objects.select_related("session__user").filter(
        digest=_digest(presented), session__in=Session.objects.live()
    )
    now = timezone.now()
    successor = _successor(presented)
    won = RefreshToken.objects.filter(digest=_digest(presented), used_at=None, expires_at__gt=now).update(
        used_at=now
    )
    row = token.first()
    if row is None:
        return None
    if won:
        _store(successor, row.session)
    elif not _may_repeat(row, successor):
        return None
    return TokenPair(_access_token(row.session), successor)


def _may_repeat(row: RefreshToken, successor: str) -> bool:
    if row.used_at is None or row.used_at < timezone.now() - REUSE_GRACE:
        return False
    return RefreshToken.objects.filter(digest=_digest(successor), used_at=None).exists()


def sign_out(*, access: str | None = None, refresh: str | None = None) -> None:
    """End the sign-in that either token belongs to; a token of none is ignored."""
    if refresh:
        Session.objects.filter(refresh_tokens=_digest(refresh)).revoke()
    if access and (session_id := _session_id(access)):
        Session.objects.filter(pk=session_id).revoke()


def forget_ended_sign_ins() -> None:
    """Delete tokens that have expired, and sign-ins that have none left to renew them with."""
    RefreshToken.objects.filter(expires_at__lt=timezone.now()).delete()
    last_use = timezone.now() - settings.REFRESH_TOKEN_LIFETIME
    Session.objects.filter(refresh_tokens=None, created_at__lt=last_use).delete()


def read_access(raw: str) -> Session:
    """The live sign-in, with its user, of an access token; one query. Raises NotSignedIn."""
    session_id = _session_id(raw)
    session = session_id and Session.objects.live().select_related("user").filter(pk=session_id).first()
    if not session:
        raise NotSignedIn
    return session


def _session_id(raw: str) -> str | None:
    try:
        return AccessToken(raw).get("sid")  # type: ignore[arg-type]
    except TokenError:
        return None


def _access_token(session: Session) -> str:
    token = AccessToken.for_user(session.user)
    token["sid"] = str(session.pk)
    return str(token)


def _store(refresh: str, session: Session) -> None:
    expires_at = timezone.now() + settings.REFRESH_TOKEN_LIFETIME
    RefreshToken.objects.create(digest=_digest(refresh), session=session, expires_at=expires_at)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _successor(presented: str) -> str:
    return hmac.new(settings.ROTATION_KEY, presented.encode(), hashlib.sha256).hexdigest()
