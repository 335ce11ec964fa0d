"""The files of a backup: those that rows name. Each kind has its folder, and its names have one form.

No file ever changes under its name, so one that was read before a snapshot of the rows is right in it.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from embeddings import storage as documents
from embeddings.models import DocumentVersion
from inference.adapter_files import ALLOWED, MANIFEST, NAME_LENGTH
from inference.adapters import folder_of
from inference.models import Adapter
from training import storage as datasets
from training.models import DatasetVersion

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass(frozen=True, slots=True)
class Kind:
    """`wanted` names the files that rows want now, below the folder of `setting`; `clear` removes others."""

    name: str
    setting: str
    form: re.Pattern[str]
    wanted: Callable[[], Iterator[str]]
    clear: Callable[[], object]

    @property
    def root(self) -> Path:
        return Path(getattr(settings, self.setting))


def kind_of(member: str) -> tuple[Kind, str] | None:
    """The kind and the name of the file that stands as `member` in an archive; None where it is no such file.

    Names have to be of the form that the site itself gives, so none leads out of its folder.
    """
    folder, _, rest = member.partition("/")
    name, _, path = rest.partition("/")
    kind = next((kind for kind in KINDS if kind.name == name), None)
    if folder != FOLDER or kind is None or not kind.form.fullmatch(path):
        return None
    return kind, path


def member_of(kind: Kind, name: str) -> str:
    return f"{FOLDER}/{kind.name}/{name}"


def _wanted_documents() -> Iterator[str]:
    # Of a document that is being deleted the file may be gone, and has to go.
    shown = DocumentVersion.objects.filter(
        document__deleting_at=None, document__collection__deleting_at=None
    ).exclude(file="")
    yield from shown.values_list("file", flat=True).iterator(chunk_size=2000)


def _wanted_datasets() -> Iterator[str]:
    usable = DatasetVersion.objects.usable().values_list("pk", "sha256")
    for pk, sha256 in usable.iterator(chunk_size=2000):
        yield f"{pk}/{sha256}.jsonl"


def _wanted_adapters() -> Iterator[str]:
    for name in Adapter.objects.servable().values_list("name", flat=True):
        folder = folder_of(name)
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        # A folder that is gone is told by the file that it cannot do without.
        for file in sorted(there & (ALLOWED | {MANIFEST}) | {MANIFEST}):
            yield f"{name}/{file}"


def _clear_adapters() -> None:
    root = Path(settings.ADAPTERS_ROOT)
    kept = set(Adapter.objects.servable().values_list("name", flat=True))
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in kept:
            shutil.rmtree(folder)


FOLDER = "files"
KINDS = (
    Kind(
        "documents",
        "MEDIA_ROOT",
        re.compile(rf"{documents.FOLDER}/{_UUID}"),
        _wanted_documents,
        lambda: documents.sweep(older_than=0),
    ),
    Kind(
        "datasets",
        "DATASETS_ROOT",
        re.compile(rf"{_UUID}/[0-9a-f]{{64}}\.jsonl"),
        _wanted_datasets,
        lambda: datasets.sweep(older_than=0),
    ),
    Kind(
        "adapters",
        "ADAPTERS_ROOT",
        re.compile(
            rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{NAME_LENGTH - 1}}}/"
            rf"(?:{'|'.join(map(re.escape, sorted(ALLOWED | {MANIFEST})))})"
        ),
        _wanted_adapters,
        _clear_adapters,
    ),
)
