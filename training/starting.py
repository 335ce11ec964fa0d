"""Training runs as staff ask for them: checked and queued, or called off."""

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from llmsite.core.errors import DatasetWithdrawn, RunRefused
from llmsite.core.logs import request_id
from training.estimate import Sizes, estimate, require_fitting, sizes_of
from training.failures import sentence
from training.lineage import obstacle
from training.models import ENDED, DatasetVersion, Layout, RunStatus, TrainingRun
from training.rows import read_rows, split
from training.settings import RunSettings

if TYPE_CHECKING:
    from inference.engine.base_model import BaseModel

TRAINABLE = (Layout.SFT, Layout.PREFERENCE, Layout.TEXT)
"""Of a preference pair the chosen answer is learnt. A rated answer may be one that should not be."""
SILENCE = timedelta(seconds=30)
"""After so long without a sign of life nobody works on a run, so nobody has to be asked to end it."""


def start_run(
    version: DatasetVersion, *, name: str = "", chosen: RunSettings | None = None, user: User | None
) -> TrainingRun:
    """Queue a run over `version`; a trainer takes it. Nothing is stored where it is refused.

    Raises RunRefused, DatasetWithdrawn and DatasetDamaged.
    """
    chosen = chosen or RunSettings()
    _require_trainable(version, chosen)
    base, sizes = _local_model()
    found = estimate(version, chosen, base=base, sizes=sizes)
    require_fitting(found)
    with transaction.atomic():
        run = TrainingRun.objects.create(
            name=name or str(version),
            version=version,
            base_model=base.name,
            base_sha256=base.sha256,
            settings=chosen.as_dict(),
            estimate=found.as_dict(),
            total_steps=chosen.steps(_rows_to_train_on(version, chosen)),
            created_by=user,
            request_id=request_id.get() or "",
        )
        record(AuditKind.RUN_STARTED, subject=None, actor=user, run=str(run.pk), version=str(version.pk))
    return run


def cancel(run: TrainingRun, *, user: User | None) -> TrainingRun:
    """Call a run off: one that waits at once, one that is under way within seconds. Raises RunRefused."""
    with transaction.atomic():
        if not (_end_if_idle(run) or _ask(run)):
            raise RunRefused(reason=_("This run has ended already."))
        record(AuditKind.RUN_CANCELLED, subject=None, actor=user, run=str(run.pk))
    run.refresh_from_db()
    return run


def _end_if_idle(run: TrainingRun) -> bool:
    """Whether nobody worked on it, so that it has ended with this."""
    now = timezone.now()
    rows = TrainingRun.objects.filter(pk=run.pk)
    idle = rows.filter(status=RunStatus.QUEUED) | rows.filter(
        status=RunStatus.RUNNING, beat_at__lt=now - SILENCE
    )
    return bool(idle.update(status=RunStatus.CANCELLED, cancel_requested_at=now, ended_at=now))


def _ask(run: TrainingRun) -> bool:
    """Tell the trainer that has it; twice is as good as once."""
    open_rows = TrainingRun.objects.filter(pk=run.pk).exclude(status__in=ENDED)
    return bool(open_rows.update(cancel_requested_at=timezone.now()))


def _local_model() -> tuple["BaseModel", Sizes]:
    """Raises RunRefused."""
    # It computes with numpy, which a web process has no other use for.
    from inference.engine.base_model import base_model
    from inference.engine.runner import EngineError

    try:
        base = base_model(settings.LOCAL_MODEL_PATH, settings.MODELS_ROOT)
        return base, sizes_of(base.source, base.sha256)
    except (EngineError, OSError, ValueError, KeyError) as error:
        reason = _("The local model cannot be read, so nothing can be trained on it.")
        raise RunRefused(reason=reason) from error


def _require_trainable(version: DatasetVersion, chosen: RunSettings) -> None:
    if version.withdrawn_at is not None:
        raise DatasetWithdrawn
    if why := obstacle(version):
        raise RunRefused(field="version", reason=sentence(why))
    if version.layout not in TRAINABLE:
        raise RunRefused(
            field="version",
            reason=_("A run needs rows with answers that are to be learnt; these are rated ones."),
        )
    told = version.report.get("tokens") or {}
    longest = told.get("longest")
    # Only where tokens were counted, and with some slack: the run itself looks at each row exactly.
    if chosen.leave_out or told.get("unit") != "tokens" or not isinstance(longest, int):
        return
    if longest > 1.1 * chosen.max_length:
        raise RunRefused(
            field="settings.max_length",
            reason=_(
                "The longest row has about {longest} tokens: raise max_length to that at least, or leave "
                "longer rows out (leave_out)."
            ).format(longest=longest),
        )


def _rows_to_train_on(version: DatasetVersion, chosen: RunSettings) -> int:
    """How many rows are left when some are held out. Raises RunRefused and DatasetDamaged."""
    train, _held_out = split(read_rows(version), seed=chosen.seed, fraction=chosen.eval_fraction)
    if not train:
        raise RunRefused(
            field="settings.eval_fraction", reason=_("No row is left to train on. Lower eval_fraction.")
        )
    return len(train)
