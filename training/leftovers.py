"""Files that nothing in the database speaks of any more, as processes leave them that died half-way."""

import structlog

from inference import adapters
from inference.models import Adapter
from training import promotion, storage, trainer

log = structlog.get_logger("llmsite.trainer")


def remove_leftovers() -> None:
    """Remove what is left of runs that have ended, and files of data sets and adapters whose rows are gone.

    What has no row yet may get one: of that only what is a day old goes. No run and no engine process needs
    any of it. What cannot be removed is logged, and tried again at the next start.
    """
    for sweep in (trainer.sweep, storage.sweep, adapters.sweep, _withdrawn):
        try:
            removed = sweep()
        except OSError as error:
            log.error("leftovers_stay", error=repr(error))
            continue
        if removed:
            log.info("leftovers_removed", of=sweep.__module__, count=removed)


def _withdrawn() -> int:
    """Of adapters that were withdrawn by a process that died before the files were gone."""
    return promotion.remove_files(Adapter.objects.exclude(withdrawn_at=None))
