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
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken

from accounts.audit import record
from accounts.models import RefreshToken, Session, User
from accounts.models.audit import AuditKind
from llmsite.core.errors import NotSignedIn, WrongCredentials

REUSE_GRACE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a browser keeps in cookies and a program in its memory."""

    access: str
    refresh: str


@transaction.atomic
def sign_in(user: User, *, request: HttpRequest | None = None) -> TokenPair:
    """Open a sign-in for `user`, whose password has been checked.

    Raises WrongCredentials where it was changed, or the account disabled, while that check ran.
    """
    # Locked, so that whoever changes the password waits, and then ends this sign-in with the others.
    checked = User.objects.select_for_update().filter(pk=user.pk, password=user.password, is_active=True)
    if not checked.exists():
        raise WrongCredentials
    User.objects.filter(pk=user.pk).update(last_login=timezone.now())
    user_agent = request.headers.get("User-Agent", "") if request else ""
    session = Session.objects.create(user=user, user_agent=user_agent[:300])
    refresh = secrets.token_urlsafe(32)
    _store(refresh, session)
    record(AuditKind.SIGNED_IN, subject=user)
    return TokenPair(_access_token(session), refresh)


def rotate(presented: str) -> TokenPair:
    """The next pair for a refresh token. Raises NotSignedIn where it is unknown, ended or replayed."""
    with transaction.atomic():
        pair = _rotate_once(presented)
    if pair is None:
        # Outside of the transaction, so that the sign-in stays ended although we raise.
        _end_replayed(presented)
        raise NotSignedIn
    return pair


@transaction.atomic
def _end_replayed(presented: str) -> None:
    """End the sign-in whose token came back: the one who presents it now may have copied it."""
    # One that has only expired, or whose sign-in has ended, says nothing against its holder.
    used = RefreshToken.objects.filter(digest=_digest(presented)).exclude(used_at=None)
    sessions = Session.objects.filter(refresh_tokens__in=used)
    session = sessions.select_related("user").first()
    if session is not None and sessions.revoke():
        record(AuditKind.TOKEN_REPLAYED, subject=session.user, actor=None)


def _rotate_once(presented: str) -> TokenPair | None:
    token = RefreshToken.objects.filter(digest=_digest(presented), session__in=Session.objects.live())
    now = timezone.now()
    successor = _successor(presented)
    won = token.filter(used_at=None, expires_at__gt=now).update(used_at=now)
    row = token.select_related("session__user").first()
    if row is None:
        return None
    if won:
        _store(successor, row.session)
        Session.objects.filter(pk=row.session_id).update(last_used_at=now)
    elif not _may_repeat(row, successor):
        return None
    return TokenPair(_access_token(row.session), successor)


def _may_repeat(row: RefreshToken, successor: str) -> bool:
    if row.used_at is None or row.used_at < timezone.now() - REUSE_GRACE:
        return False
    return RefreshToken.objects.filter(digest=_digest(successor), used_at=None).exists()


@transaction.atomic
def sign_out(*, access: str | None = None, refresh: str | None = None) -> None:
    """End the sign-in that either token belongs to; a token of none is ignored."""
    ended = Q(refresh_tokens=_digest(refresh)) if refresh else Q(pk__in=())
    if access and (claims := _claims(access)):
        ended |= Q(pk=claims["sid"])
    for session in Session.objects.live().select_related("user").filter(ended).distinct():
        sign_out_of(session)


@transaction.atomic
def sign_out_of(session: Session) -> None:
    """End this sign-in, whose user asked for it."""
    if Session.objects.filter(pk=session.pk).revoke():
        record(AuditKind.SIGNED_OUT, subject=session.user)


def forget_ended_sign_ins() -> None:
    """Delete tokens that have expired, and sign-ins that have none left to renew them with."""
    RefreshToken.objects.filter(expires_at__lt=timezone.now()).delete()
    last_use = timezone.now() - settings.REFRESH_TOKEN_LIFETIME
    Session.objects.filter(refresh_tokens=None, created_at__lt=last_use).delete()


def read_access(raw: str) -> tuple[Session, datetime]:
    """The live sign-in, with its user, of an access token, and when the token ends; one query.

    Raises NotSignedIn.
    """
    if (claims := _claims(raw)) is None:
        raise NotSignedIn
    session = Session.objects.live().select_related("user").filter(pk=claims["sid"]).first()
    if session is None:
        raise NotSignedIn
    return session, datetime.fromtimestamp(claims["exp"], UTC)


def _claims(raw: str) -> dict[str, Any] | None:
    """What an access token says, where it is one of ours and has not expired."""
    try:
        claims = AccessToken(raw).payload  # type: ignore[arg-type]
        UUID(str(claims["sid"]))
    except (TokenError, KeyError, ValueError):
        return None
    return claims


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
