"""What answers keep of documents, removed when these are deleted: passages in rows, in the cache, in events.

What an answer says stays: it belongs to the conversation of whoever asked.
"""

from datetime import timedelta
from uuid import UUID

from django.utils import timezone
from redis.exceptions import RedisError

from embeddings.deletion import RETRY_SECONDS
from inference.cache.key import OF_DOCUMENTS
from inference.cache.levels import answer_cache
from inference.mirror import KEEP_SECONDS, event_mirror
from inference.models import AnswerSource, Generation
from llmsite.core.worker import TryLater


def forget_documents(ids: list[UUID]) -> dict[str, int]:
    """Remove what is left of these documents; how much, by store. Raises TryLater where Redis is away.

    Cached answers of all documents go: their names do not tell which they were made of. Those in memories
    are out of reach already, because their key has a version that is no more.
    """
    cited = AnswerSource.objects.of_documents(ids)
    kept_since = timezone.now() - timedelta(seconds=2 * KEEP_SECONDS)
    answers = Generation.objects.filter(pk__in=cited.values("generation"))
    try:
        streams = event_mirror.forget(answers.exclude(ended_at__lt=kept_since).values_list("pk", flat=True))
        cached = answer_cache.shared.forget_in_thread(f"*{OF_DOCUMENTS}")
    except RedisError as error:
        raise TryLater(RETRY_SECONDS, "cache_unavailable") from error
    return {"passages": cited.blank(), "event_streams": streams, "cached_answers": cached}
