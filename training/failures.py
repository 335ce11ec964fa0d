"""Why a training ended before its end: a code that is kept, and what staff are told."""

from collections.abc import Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_CRASHED = _("The training program broke down. Its log says why; start the run again if nothing was wrong.")

SENTENCES: dict[str, Promise] = {
    "out_of_memory": _("It needed more memory than it may take. Choose a smaller batch_size or max_length."),
    "does_not_fit": _(
        "The accelerator has not enough free memory. Choose a smaller batch_size or max_length."
    ),
    "disk_full": _("The server’s disk is full. Make room, and start the run again."),
    "too_much_disk": _("It wrote more files than TRAINING_DISK_MB allows. Save less often, or raise it."),
    "too_long": _("It took longer than TRAINING_HOURS allows. Train fewer epochs, or raise it."),
    "killed": _("It was killed from outside several times, as a system does that runs out of memory."),
    "crashed": _CRASHED,
    "worker_died": _("The process that ran it died several times. The log of “trainer” says why."),
    "device_missing": _(
        "DEVICE is {device}, and there is no such device here. Set DEVICE=auto or DEVICE=cpu."
    ),
    "base_changed": _("The local model is not the one that this run was started for. Start a new run."),
    "base_unusable": _("The local model cannot be trained: {detail} is missing, or not as it should be."),
    "base_unsafe": _("The local model asks for code to be run ({detail}), and nothing of it was loaded."),
    "base_model": _("The local model cannot be had: {detail}"),
    "withdrawn": _("Its data set was withdrawn, because somebody in it was erased."),
    "unwilling": _("Somebody in this version does not allow training any more. Build a new version."),
    "revoked": _(
        "Feedback in this version is accepted no more, or was deleted by its author. Build a new version."
    ),
    "dataset_damaged": _("The file of its data set is gone or was changed. Import it again."),
    "row_too_long": _(
        "Row {row} has {tokens} tokens, and max_length is {limit}. Raise it, or shorten the row."
    ),
    "rows_too_long": _(
        "Row {row} has {tokens} tokens, and max_length is {limit}. With a max_length of {longest} all rows "
        "fit; with leave_out, longer ones are left out."
    ),
    "rows_over_context": _(
        "Row {row} has {tokens} tokens, and {limit} are taken; the local model reads {context} at most. With "
        "leave_out, longer rows are left out."
    ),
    "row_refused": _("The chat template of the local model does not take the turns of row {row}."),
    "no_rows": _("No row is left to train on once some are held out. Lower eval_fraction."),
    "diverged": _("The loss was no number any more after step {step}. Choose a lower learning_rate."),
    "adapter_refused": _("What was trained is no adapter that the engine could load: {detail}"),
}


def sentence(code: str, data: Mapping[str, Any] | None = None) -> str:
    """What is told of a run that failed so; empty for one that did not."""
    if not code:
        return ""
    try:
        return str(SENTENCES.get(code, _CRASHED)).format_map(dict(data or {}))
    except (KeyError, ValueError, IndexError):  # A row of an older version, without what is told today.
        return str(_CRASHED)
