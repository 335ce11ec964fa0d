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
from datetime import datetime

from accounts.models import ApiKey, User

_ALPHABET = string.ascii_lowercase + string.digits
_SHAPE = re.compile(r"^llm_([a-z0-9]{8})_([A-Za-z0-9_-]{43})([0-9a-f]{8})$")

KEY_PREFIX = "llm_"


def create_key(
    user: User, name: str, *, scopes: list[str] | None = None, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A new key of `user` and its text, which cannot be had a second time."""
    public_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        user=user,
        name=name,
        public_id=public_id,
        secret_digest=_digest(secret),
        scopes=scopes or [],
        expires_at=expires_at,
    )
    text = f"{KEY_PREFIX}{public_id}_{secret}"
    return key, text + _check(text)


def find_key(text: str) -> ApiKey | None:
    """The usable key that `text` is, with its owner; one query, and none for a malformed text."""
    match = _SHAPE.match(text)
    if match is None or _check(text[:-8]) != match[3]:
        return None
    key = ApiKey.objects.usable().select_related("user").filter(public_id=match[1]).first()
    if key is None or not hmac.compare_digest(key.secret_digest, _digest(match[2])):
        return None
    return key


def _digest(secret: str) -> str:
    # The secret has 256 bits of entropy, so a plain hash is as good as a slow one and costs nothing.
    return hashlib.sha256(secret.encode()).hexdigest()


def _check(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
