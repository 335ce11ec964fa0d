"""Taking one answer out of the cache, wherever it is kept.

A process learns of it with the models' rows, within a second (`inference.catalogue`), and takes what was
made before for nothing. So it holds also where a store cannot be asked to delete it; an answer that is made
anew is kept in its place.
"""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from redis.exceptions import RedisError

from inference.cache.levels import answer_cache
from inference.models import EvictedAnswer

log = structlog.get_logger("llmsite.cache")


def evict(key: str) -> None:
    """No process tells the answer that was kept under `key` a second after this; "" is the key of none."""
    if not key:
        return
    now = timezone.now()
    with transaction.atomic():
        # An older answer has ended by itself.
        EvictedAnswer.objects.filter(at__lt=now - timedelta(seconds=settings.CACHE_TTL)).delete()
        EvictedAnswer.objects.put(key, at=now)
        transaction.on_commit(lambda: _delete(key))


def _delete(key: str) -> None:
    answer_cache.memory.forget(key)
    try:
        answer_cache.shared.delete_in_thread(key)
    except RedisError as error:
        log.warning("cached_answer_not_deleted", error=repr(error))
