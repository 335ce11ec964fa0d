"""What answers keep of documents, removed when these are deleted or replaced: passages in rows, in the cache,
in events, and answers that are nothing but sentences of theirs.

What a model said stays: it belongs to the conversation of whoever asked.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from embeddings.deletion import RETRY_SECONDS
from embeddings.language import detect
from inference.cache.key import OF_DOCUMENTS
from inference.cache.levels import answer_cache
from inference.mirror import KEEP_SECONDS, event_mirror
from inference.models import AnswerSource, Generation, Message
from inference.models.sources import AnswerSourceQuerySet
from llmsite.core.worker import TryLater

AT_ONCE = 1000
"""How many answers are changed by one statement."""


def forget_documents(ids: Collection[UUID], versions: Collection[UUID] | None = None) -> dict[str, int]:
    """Remove what is left of these documents, or of some of their versions alone; how much, by store.

    Raises TryLater where Redis is away, and while an answer that quotes them is being written.

    Cached answers of all documents go: their names do not tell which they were made of. Those in memories
    are out of reach already, because their key has a version that is no more.
    """
    cited = AnswerSource.objects.of_documents(ids, versions)
    kept_since = timezone.now() - timedelta(seconds=2 * KEEP_SECONDS)
    answers = Generation.objects.filter(pk__in=cited.values("generation"))
    try:
        streams = event_mirror.forget(answers.exclude(ended_at__lt=kept_since).values_list("pk", flat=True))
        cached = answer_cache.shared.forget_in_thread(f"*{OF_DOCUMENTS}")
    except RedisError as error:
        raise TryLater(RETRY_SECONDS, "cache_unavailable") from error
    extracts = _forget_extracts(cited)
    return {
        "passages": cited.blank(),
        "extracts": extracts,
        "event_streams": streams,
        "cached_answers": cached,
    }


def instead_of_extract(question: str) -> str:
    """What is told in the place of an answer that quoted what is gone, in the language of its question."""
    language = detect(question, among=dict(settings.LANGUAGES)) or settings.LANGUAGE_CODE
    with translation.override(language):
        return _("This answer quoted a document that has been deleted or replaced.")


def _forget_extracts(cited: AnswerSourceQuerySet) -> int:
    if Generation.objects.running().filter(grounding="extract", pk__in=cited.values("generation")).exists():
        # It takes a moment, and its text would be stored over ours.
        raise TryLater(1.0, "answer_being_written")
    rows = cited.quoted().values_list("generation", "generation__message__parent__content").distinct()
    answers: dict[str, list[UUID]] = defaultdict(list)
    for pk, question in rows:
        answers[instead_of_extract(question or "")].append(pk)
    for text, ids in answers.items():
        for start in range(0, len(ids), AT_ONCE):
            _tell_instead(text, ids[start : start + AT_ONCE])
    return sum(map(len, answers.values()))


@transaction.atomic
def _tell_instead(text: str, answers: Sequence[UUID]) -> None:
    Message.objects.filter(generation__in=answers).update(content=text)
    Generation.objects.filter(pk__in=answers).update(delta_lengths=[len(text)])
