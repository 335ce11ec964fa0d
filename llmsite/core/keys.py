"""Keys for one purpose each, derived from SECRET_KEY, so that no two uses share a key."""

import hashlib
import hmac

_SALT = b"llmsite"


def derive_key(secret: str, label: str) -> bytes:
    """32 bytes for `label`, by HKDF with SHA-256 (RFC 5869; one block of output is enough)."""
    extracted = hmac.new(_SALT, secret.encode(), hashlib.sha256).digest()
    return hmac.new(extracted, label.encode() + b"\x01", hashlib.sha256).digest()
