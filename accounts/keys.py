"""API keys as text: `llm_<public id>_<secret><check>`.

The public id finds the row, the secret proves the right to it, and the check (CRC-32 of what
stands before it) tells a typing error, or a text that merely looks like a key, without a query.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.audit import record
from accounts.key_choices import offered_models
from accounts.models import ApiKey, User
from accounts.models.audit import AuditKind
from llmsite.core.errors import InvalidInput

_ALPHABET = string.ascii_lowercase + string.digits
_SHAPE = re.compile(r"^llm_([a-z0-9]{8})_([A-Za-z0-9_-]{43})([0-9a-f]{8})$")

KEY_PREFIX = "llm_"
MOST_KEYS = 100
"""Keys of one person that have not been revoked."""
USE_NOTED_EVERY = timedelta(minutes=1)


@transaction.atomic
def create_key(user: User, name: str, **limits: Any) -> tuple[ApiKey, str]:
    """A new key of `user` and its text, which cannot be had a second time.

    `limits` are the fields of ApiKey that narrow it: scopes, allowed_models, expires_at, rate_limit,
    monthly_budget_micro. Raises InvalidInput where somebody has too many.
    """
    if ApiKey.objects.visible_to(user).count() >= MOST_KEYS:
        raise InvalidInput(
            reason=_("There are %(most)d keys already. Revoke one first.") % {"most": MOST_KEYS}
        )
    public_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = secrets.token_urlsafe(32)
    key = ApiKey(user=user, name=name, public_id=public_id, secret_digest=_digest(secret), **limits)
    _check_limits(key)
    key.save()
    record(AuditKind.KEY_CREATED, subject=user, key=public_id, scopes=key.scopes)
    text = f"{KEY_PREFIX}{public_id}_{secret}"
    return key, text + _check(text)


def _check_limits(key: ApiKey) -> None:
    unknown = set(key.allowed_models) - set(offered_models())
    if unknown:
        reason = _("There is no model named “%(model)s”.") % {"model": min(unknown)}
        raise InvalidInput(field="models", reason=reason)
    try:
        key.clean_fields(exclude={"user"})
    except ValidationError as error:
        field, reasons = next(iter(error.message_dict.items()))
        raise InvalidInput(field=field, reason=reasons[0]) from error


@transaction.atomic
def revoke_key(key: ApiKey, *, actor: User) -> bool:
    """End `key` at once; False if it had ended before."""
    if not key.revoke():
        return False
    record(AuditKind.KEY_REVOKED, subject=key.user, actor=actor, key=key.public_id)
    return True


def find_key(text: str) -> ApiKey | None:
    """The usable key that `text` is, with its owner; one query, and none for a malformed text."""
    match = _SHAPE.match(text)
    if match is None or _check(text[:-8]) != match[3]:
        return None
    key = ApiKey.objects.usable().select_related("user").filter(public_id=match[1]).first()
    if key is None or not hmac.compare_digest(key.secret_digest, _digest(match[2])):
        return None
    _note_use(key)
    return key


def _note_use(key: ApiKey) -> None:
    """Write down that the key is in use, at most once a minute."""
    now = timezone.now()
    if key.last_used_at is None or key.last_used_at < now - USE_NOTED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


def _digest(secret: str) -> str:
    # The secret has 256 bits of entropy, so a plain hash is as good as a slow one and costs nothing.
    return hashlib.sha256(secret.encode()).hexdigest()


def _check(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
