"""One answer for one `Idempotency-Key`: a request that is sent again gets the answer that it began.

The row of a key is made in the transaction that stores the question. So of equal requests that run at the
same time, in whichever process, one asks, and the others wait for its answer. What was refused before a
question was stored has made no row, and may be tried again with the same key; so may a question whose answer
a passing failure ended before its first piece. `inference.once` answers such requests.
"""

import hashlib
import json
from datetime import timedelta
from typing import Any

from django.db import IntegrityError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from inference.ask import Ask, Idempotency
from inference.models import Generation, IdempotencyKey
from llmsite.core.errors import IdempotencyConflict, InvalidInput, ModelNotAllowed, SiteError, told

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
MOST_CHARACTERS = 255


class AlreadyAsked(SiteError):
    """Somebody has claimed the key of this question meanwhile; nothing of it was stored."""


def read_idempotency(request: HttpRequest, body: Any) -> Idempotency | None:
    """What the request says of itself; None without the header. `body` is its JSON. Raises InvalidInput."""
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not (0 < len(key) <= MOST_CHARACTERS and key.isascii() and key.isprintable()):
        reason = _("The key has 1 to %(limit)d printable ASCII characters.") % {"limit": MOST_CHARACTERS}
        raise InvalidInput(field=HEADER, reason=reason)
    # The order of the names in an object does not make another request.
    return Idempotency(key_digest=_digest(key), body_digest=_digest(json.dumps(body, sort_keys=True)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def claim(ask: Ask, generation: Generation) -> None:
    """Make the key of `ask` that of `generation`, within the transaction that stores both.

    Raises AlreadyAsked where another request has the key; on PostgreSQL after waiting for that one's commit.
    """
    if ask.idempotency is None:
        return
    rows = IdempotencyKey.objects.filter(user=ask.user, key_digest=ask.idempotency.key_digest)
    rows.filter(created_at__lt=timezone.now() - KEPT).delete()
    try:
        rows.create(
            user=ask.user,
            key_digest=ask.idempotency.key_digest,
            body_digest=ask.idempotency.body_digest,
            generation=generation,
        )
    except IntegrityError as error:
        raise AlreadyAsked from error


def find_answer(ask: Ask) -> Generation | None:
    """The answer that the key of `ask` belongs to already. Raises IdempotencyConflict and ModelNotAllowed."""
    assert ask.idempotency is not None
    known = IdempotencyKey.objects.filter(
        user=ask.user, key_digest=ask.idempotency.key_digest, created_at__gte=timezone.now() - KEPT
    )
    message = "generation__message"
    rows = known.select_related(f"{message}__conversation", f"{message}__parent")
    row = rows.prefetch_related("generation__sources").first()
    if row is None:
        return None
    if _may_be_tried_again(row.generation):
        row.delete()  # This very row: another request may have put a new one in its place.
        return None
    if row.body_digest != ask.idempotency.body_digest:
        raise IdempotencyConflict
    alias = row.generation.requested_model or row.generation.model_alias
    # Another API key of the same person may be limited to other models.
    if ask.api_key is not None and not ask.api_key.allows_model(alias):
        raise ModelNotAllowed(model=alias)
    return row.generation


def _may_be_tried_again(generation: Generation) -> bool:
    """Whether nothing came of the question, for a reason that is not the question's."""
    failure = told(generation.error_code, generation.error_message)
    return generation.failed_early and failure.status >= 500


def forget_old_keys() -> int:
    """Delete the keys that are older than a day; returns how many."""
    return IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEPT).delete()[0]
