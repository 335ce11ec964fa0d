"""How far a run has come, and when it will be done: from what it has logged."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from statistics import median

from django.utils import timezone
from django.utils.translation import gettext as _

from training.models import Metric, RunStatus, TrainingRun

RECENT = 20
"""So many logged steps say how fast it goes."""


@dataclass(frozen=True, slots=True)
class Progress:
    step: int
    total: int
    left: timedelta | None
    """Until it is done; None where nothing says how fast it goes."""

    @property
    def percent(self) -> int:
        return min(100, 100 * self.step // self.total) if self.total else 0

    @property
    def left_in_words(self) -> str:
        """As "3 min"; empty where nobody knows, and at the very end."""
        seconds = round(self.left.total_seconds()) if self.left else 0
        if not seconds:
            return ""
        if seconds < 90:
            return _("%(count)s s") % {"count": seconds}
        hours, minutes = divmod(round(seconds / 60), 60)
        if hours:
            return _("%(hours)s h %(minutes)s min") % {"hours": hours, "minutes": minutes}
        return _("%(count)s min") % {"count": minutes}


def progress_of(run: TrainingRun) -> Progress:
    return Progress(run.step, run.total_steps, _left(run))


def _left(run: TrainingRun) -> timedelta | None:
    if run.status == RunStatus.QUEUED:
        seconds = run.estimate.get("seconds")
        return timedelta(seconds=seconds) if seconds else None
    if run.status != RunStatus.RUNNING:
        return None
    recent = list(Metric.objects.filter(run=run).order_by("-step").values_list("step", "logged_at")[:RECENT])
    if len(recent) < 2:
        return None
    # The median, because where a run was resumed hours may lie between two steps.
    seconds = median(
        (later_at - earlier_at).total_seconds() / (later - earlier)
        for (later, later_at), (earlier, earlier_at) in pairwise(recent)
    )
    last, last_at = recent[0]
    # A run that makes way for others may stand still: then the step that it is at is its pace.
    age = (timezone.now() - last_at).total_seconds()
    pace = max(seconds, age / (last - recent[1][0]))
    return timedelta(seconds=max((run.total_steps - last) * pace - age, 0))
