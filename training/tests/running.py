"""What a run stands on, in folders of the test's own."""

import hashlib

from django.db import models

from training import storage
from training.models import Dataset, DatasetVersion, Layout
from training.rows import line_of
from training.settings import RunSettings
from training.starting import start_run
from training.tests import tiny

QUICK = RunSettings(epochs=2, save_every=4, batch_size=4, learning_rate=0.01)


def furnish(settings, tmp_path, *, model=None):
    """Point all folders of the site below `tmp_path`, the local model at `model`, or at a shell of one."""
    for name in ("TRAINING_ROOT", "DATASETS_ROOT", "ADAPTERS_ROOT", "MODELS_ROOT"):
        setattr(settings, name, tmp_path / name.lower())
    settings.LOCAL_MODEL_PATH = str(model or tiny.make_shell(tmp_path / "shell"))
    settings.DEVICE = "cpu"
    settings.TRAINING_NICE = 0


def store_version(rows=None, *, name="Numbers", layout=Layout.SFT, **values):
    """A version with its file, as an import leaves it."""
    rows = tiny.rows(20) if rows is None else rows
    content = b"".join(map(line_of, rows))
    dataset, _ = Dataset.objects.get_or_create(name=name)
    last = dataset.versions.aggregate(last=models.Max("number"))["last"] or 0
    version = DatasetVersion.objects.create(
        dataset=dataset,
        number=last + 1,
        layout=layout,
        sha256=hashlib.sha256(content).hexdigest(),
        row_count=len(rows),
        **values,
    )
    path = storage.path_of(version)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return version


def start(*, version=None, chosen=QUICK, user=None, **values):
    return start_run(version or store_version(), chosen=chosen, user=user, **values)
